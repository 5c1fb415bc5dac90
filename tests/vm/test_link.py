# SPDX-License-Identifier: GPL-2.0
"""Links: how they come and go, what they sit on, what they say of themselves."""

import contextlib
import json
import pathlib

import pytest
from rvm import Node, Pair, module_loaded, run, wait_until


@pytest.fixture
def node(module):
    """A namespace with a netdev `v0` that is up, and no link."""
    with Node() as n:
        n.run("ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up")
        n.run("ip addr add 10.1.0.1/24 dev v0")
        yield n


@contextlib.contextmanager
def link(node, netdev, name="rw0"):
    node.link_add(name, netdev)
    try:
        yield name
    finally:
        node.link_del(name, check=False)


def connects(node, addr):
    node.run(["vtcm", "connects", addr])


def port_state(node, name="rw0"):
    return node.links()[name]["state"]


def traffic_works(p):
    """b's rping to a."""
    with p.a.start("exec rping -s -C 5") as server:
        wait_until(lambda: p.a.listens())
        p.b.run(f"rping -c -a {p.a.ip} -C 5")
        server.wait()


# --- add and delete ---


def test_link_add_loads_the_module():
    """No modprobe is needed before the first link."""
    if module_loaded():
        run("modprobe -r rurdma")
    with Node() as n:
        n.run("ip link add v0 type veth peer name v1")
        n.link_add("rw0", "v0")
        assert module_loaded()
        n.link_del("rw0")


def test_link_add_and_delete(node):
    """The link is there, and it is gone."""
    for _ in range(5):
        node.link_add("rw0", "v0")
        assert node.links()["rw0"]["netdev"] == "v0"
        node.link_del("rw0")
        assert not node.links()


def test_second_link_of_a_type(node):
    """EEXIST; the first one is as it was."""
    with link(node, "v0"):
        got = node.link_add("rw1", "v0", check=False)
        assert got.rc != 0
        assert "File exists" in got.out
        assert list(node.links()) == ["rw0"]
        connects(node, "10.1.0.1")


def test_link_name_in_use(node):
    """A name that another device has is refused, in the words of the README."""
    with link(node, "v0"):
        got = node.link_add("rw0", "v1", check=False)
        assert got.rc != 0
        assert got.out.strip() == "error: Too many open files in system"
        assert list(node.links()) == ["rw0"]


def test_unknown_netdev(node):
    """A netdev that does not exist."""
    got = node.link_add("rw0", "nosuch", check=False)
    assert got.rc != 0
    assert got.out.strip() == "error: No such device"
    assert not node.links()


def test_unsuitable_netdev(node):
    """A netdev without IP addresses of its own kind: refused, and said so."""
    node.run("ip link add sit9 type sit local 10.1.0.1")
    got = node.link_add("rw0", "sit9", check=False)
    assert got.rc != 0
    assert "not supported" in got.out
    assert not node.links()


def test_unknown_type(node):
    """A link type that nobody serves."""
    assert node.link_add("rw0", "v0", kind="rurdma_nosuch", check=False).rc != 0


def test_two_links_on_two_netdevs(node):
    """One wildcard listener serves both."""
    node.run("ip link add w0 type veth peer name w1 && ip link set w0 up && ip link set w1 up")
    node.run("ip addr add 10.2.0.1/24 dev w0")
    with link(node, "v0", "rwv"), link(node, "w0", "rww"):
        assert set(node.links()) == {"rwv", "rww"}
        connects(node, "10.1.0.1")
        connects(node, "10.2.0.1")
        out = node.run(["vtcm", "wildcard_many", "10.1.0.1", "10.1.0.1", "10.2.0.1"]).out
        # Each connection is of its own link, at both ends.
        assert "10.1.0.1: rwv rwv" in out
        assert "10.2.0.1: rww rww" in out
        guids = {json.dumps(d["node_guid"]) for d in node.json("rdma -j dev show")}
        assert len(guids) == 2


def test_bound_to_the_device_of_an_address(node):
    """An address is its link's: who binds to it is on that device, and not to be reached at another one's."""
    node.run("ip link add w0 type veth peer name w1 && ip link set w0 up && ip link set w1 up")
    node.run("ip addr add 10.2.0.1/24 dev w0")
    with link(node, "v0", "rwv"), link(node, "w0", "rww"):
        node.run(["vtlisten", "bound_to_device", "10.1.0.1", "rwv", "10.2.0.1", "rww"])
        node.run(["vtlisten", "bound_to_device", "10.2.0.1", "rww", "10.1.0.1", "rwv"])


def test_guids_of_netdevs_with_one_mac(node):
    """A netdev, VLANs of it, a bridge over it: one MAC address, and a node GUID for each link."""
    node.run("ip link add v7 link v0 type vlan id 7 && ip link add v8 link v0 type vlan id 8")
    node.run("ip link add br0 type bridge && ip link set v0 master br0")
    netdevs = ("v0", "v7", "v8", "br0")
    macs = {node.run(f"cat /sys/class/net/{x}/address").out for x in netdevs}
    assert len(macs) == 1
    with contextlib.ExitStack() as links:
        for x in netdevs:
            links.enter_context(link(node, x, f"rw{x}"))
        guids = {d["ifname"]: d["node_guid"] for d in node.json("rdma -j dev show")}
        assert len(guids) == len(netdevs)
        assert len(set(guids.values())) == len(netdevs)
        assert "0000:0000:0000:0000" not in guids.values()
        # The first one's is that of the MAC address.
        a, b, c, d, e, f = bytes.fromhex(macs.pop().strip().replace(":", ""))
        want = bytes((a ^ 2, b, c, 0xFF, 0xFE, d, e, f)).hex()
        assert guids["rwv0"].replace(":", "") == want


# --- what a link may sit on ---


def test_link_on_lo(netns):
    """Loopback has no MAC address: the device has a GUID nevertheless."""
    with link(netns, "lo"):
        dev = netns.json("rdma -j dev show")[0]
        assert int(dev["node_guid"].replace(":", ""), 16)
        # The CM takes 127.0.0.1 for no address at all, and iWARP devices have no P_Key that it
        # then wants (siw neither): lo's other addresses work.
        netns.run("ip addr add 10.4.0.1/32 dev lo && ip addr add fd00:4::1/128 dev lo nodad")
        connects(netns, "10.4.0.1")
        connects(netns, "fd00:4::1")
        gid = netns.run("cat /sys/class/infiniband/rw0/ports/1/gids/0").out.strip()
        assert int(gid.replace(":", ""), 16)


KINDS = {
    "bridge": "ip link add t0 type bridge",
    "VLAN": "ip link add t0 link v0 type vlan id 7",
    "bond": "ip link add t0 type bond mode active-backup && ip link set w0 down && ip link set w0 master t0",
    "macvlan": "ip link add t0 link v0 type macvlan mode bridge",
    "dummy": "ip link add t0 type dummy",
}


def test_link_on_netdevs_of_all_kinds(node):
    """Bridge, VLAN, bond, macvlan, dummy."""
    node.run("ip link add w0 type veth peer name w1 && ip link set w0 up && ip link set w1 up")
    for kind, make in KINDS.items():
        node.run(make)
        if kind == "bridge":
            node.run("ip link set w0 master t0")
        node.run("ip link set t0 up && ip addr add 10.3.0.1/24 dev t0")
        with link(node, "t0"):
            wait_until(lambda: port_state(node) == "ACTIVE", 20, f"{kind}: the port stays down")
            connects(node, "10.3.0.1")
        node.run("ip link del t0")


# The netdev t0 of a kind, which uses {v}, a host's end of the veth.
OVER = {
    "VLAN": "ip link add t0 link {v} type vlan id 7",
    "bridge": "ip link add t0 type bridge && ip link set {v} master t0",
    "bond": "ip link add t0 type bond mode active-backup && ip link set {v} down && ip link set {v} master t0",
    # {v} would answer for t0's address, too, with its own MAC: then connections do not come by t0.
    "macvlan": "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore && ip link add t0 link {v} type macvlan mode bridge",
}


def both_ways(server, client, to, source=""):
    """The client's rping: READ and WRITE of 20 times 4000 bytes, verified."""
    with server.start("exec rping -s -C 20 -S 4000") as s:
        wait_until(lambda: server.listens())
        client.run(f"rping -c -a {to} {source} -C 20 -S 4000 -V")
        s.wait()


# Of a VLAN, RoCE's link on the netdev below has the addresses: test_vlan_over_the_netdev.
@pytest.mark.parametrize(
    "kind,link_type",
    [(k, "rurdma") for k in OVER]
    + [("bond", "rurdma_roce")]
    + [pytest.param(k, "rurdma_roce", marks=pytest.mark.long) for k in ("bridge", "macvlan")],
)
def test_traffic_over(module, kind, link_type):
    """Two hosts, each with its link on a netdev of this kind: what they say to each other leaves by it."""
    with Pair(links=False, kind=link_type) as p:
        for n, x in ((1, p.a), (2, p.b)):
            x.run(f"ip addr flush dev {x.netdev}")
            x.run(f"{OVER[kind].format(v=x.netdev)} && ip link set t0 up && ip addr add 10.7.0.{n}/24 dev t0")
            x.link_add(x.dev, "t0", link_type)
            x.ip = f"10.7.0.{n}"
        p.settle()
        before = [x.tx_bytes("t0") for x in (p.a, p.b)]
        both_ways(p.a, p.b, p.a.ip)
        for x, was in zip((p.a, p.b), before, strict=True):
            assert x.tx_bytes("t0") - was > 20 * 4000


def test_two_netdevs_in_one_subnet(module):
    """Routing decides by which netdev a connection leaves; a rule for its source makes that the link's own."""
    with Pair(links=False) as p:
        a, b = p.a, p.b
        # A second cable, and a bridge at the other end.
        b.run("ip link add br0 type bridge && ip link set br0 up")
        run(f"ip link add v2 netns {a.name} type veth peer name w2 netns {b.name}")
        b.run(f"ip addr flush dev {b.netdev} && ip link set {b.netdev} master br0 && ip link set w2 master br0")
        b.run(f"ip link set w2 up && ip addr add {b.ip}/24 dev br0")
        second = a.ip.rsplit(".", 1)[0] + ".3"
        # Each address is that of its netdev's MAC address.
        a.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
        a.run(f"ip addr add {second}/24 dev v2 && ip link set v2 up")
        a.link_add("rwfirst", a.netdev)
        a.link_add("rwsecond", "v2")
        b.link_add(b.dev, "br0")
        for x, dev in ((a, "rwfirst"), (a, "rwsecond"), (b, b.dev)):
            wait_until(lambda x=x, dev=dev: port_state(x, dev) == "ACTIVE", 20)
        # Without a rule the connection is as good, whichever way it goes.
        both_ways(b, a, b.ip, f"-I {second}")
        a.run(f"ip route add {a.ip.rsplit('.', 1)[0]}.0/24 dev v2 table 77 && ip rule add from {second} table 77")
        for source, out in ((second, "v2"), (a.ip, a.netdev)):
            before = {d: a.tx_bytes(d) for d in (a.netdev, "v2")}
            both_ways(b, a, b.ip, f"-I {source}")
            sent = {d: a.tx_bytes(d) - before[d] for d in before}
            assert sent.pop(out) > 20 * 4000
            assert sum(sent.values()) < 4000, sent


# --- addresses ---


@pytest.mark.parametrize("addr", ["10.1.0.1", "10.9.9.9", "fd00:77::1", "linklocal"])
def test_addresses_come_and_go(node, addr):
    """IPv4, IPv6 and link-local addresses that come after the link, and go."""
    with link(node, "v0"):
        if addr == "linklocal":
            wait_until(lambda: "inet6 fe80" in node.run("ip -6 addr show dev v0 -tentative").out)
            out = node.run("ip -o -6 addr show dev v0 scope link").out
            addr = out.split()[3].split("/")[0]
            connects(node, f"{addr}%v0")
            node.run("ip addr flush dev v0 scope link")
        else:
            bits = 64 if ":" in addr else 24
            if addr != "10.1.0.1":
                assert node.run(["vtcm", "connects", addr], check=False).rc != 0
                node.run(f"ip addr add {addr}/{bits} dev v0" + (" nodad" if ":" in addr else ""))
            connects(node, addr)
            node.run(f"ip addr del {addr}/{bits} dev v0")
        assert node.run(["vtcm", "connects", addr], check=False).rc != 0
        assert "rw0" in node.links()


# --- state ---


@contextlib.contextmanager
def asyncwatch(node):
    with node.start("exec stdbuf -oL ibv_asyncwatch -d rw0 2>&1") as watch:
        wait_until(lambda: node.resources("ctx"))
        yield watch


def test_port_follows_netdev(node):
    """Port state on netdev down and up, and an asynchronous event for each."""
    with link(node, "v0"):
        assert port_state(node) == "ACTIVE"
        with asyncwatch(node) as watch:
            node.run("ip link set v0 down")
            wait_until(lambda: port_state(node) == "DOWN")
            watch.wait_for("port error|port err|PORT_ERR")
            node.run("ip link set v0 up")
            wait_until(lambda: port_state(node) == "ACTIVE")
            watch.wait_for("port active|PORT_ACTIVE")


def test_port_follows_carrier(node):
    """The other end of the cable."""
    with link(node, "v0"):
        node.run("ip link set v1 down")
        wait_until(lambda: port_state(node) == "DOWN")
        node.run("ip link set v1 up")
        wait_until(lambda: port_state(node) == "ACTIVE")


def test_link_on_netdev_that_is_down(node):
    """The link can be made; the port is down."""
    node.run("ip link set v0 down")
    with link(node, "v0"):
        assert port_state(node) == "DOWN"
        node.run("ip link set v0 up")
        wait_until(lambda: port_state(node) == "ACTIVE")
        connects(node, "10.1.0.1")


def test_mac_change(node):
    """GID 0 is the netdev's MAC address as it is now, and connections are made."""

    def gid():
        return node.run("cat /sys/class/infiniband/rw0/ports/1/gids/0").out.strip().replace(":", "")

    with link(node, "v0"):
        guid = node.json("rdma -j dev show")[0]["node_guid"]
        node.run("ip link set v0 address 02:00:00:12:34:56")
        wait_until(lambda: gid() == "020000123456" + "0" * 20)
        assert node.json("rdma -j dev show")[0]["node_guid"] == guid
        connects(node, "10.1.0.1")


def test_mtu_change(fresh_pair):
    """Traffic goes on over another MTU, greater or smaller; the device tells it."""
    p = fresh_pair
    for mtu in (1500, 9000, 1280, 4096):
        for x in (p.a, p.b):
            x.run(f"ip link set {x.netdev} mtu {mtu}")
        traffic_works(p)
    out = p.a.run(f"ibv_devinfo -d {p.a.dev}").out
    assert "active_mtu:\t\t4096" in out


def test_mtu_change_under_traffic(fresh_pair):
    """A connection lives through it."""
    p = fresh_pair
    with (
        p.a.start("exec rping -s -C 1000 -S 4000") as server,
        p.b.start(f"sleep 1; exec rping -c -a {p.a.ip} -C 1000 -S 4000 -V") as client,
    ):
        wait_until(lambda: p.b.resources("qp"))
        for mtu in (9000, 1400, 1500):
            for x in (p.a, p.b):
                x.run(f"ip link set {x.netdev} mtu {mtu}")
        client.wait()
        server.wait()


def test_netdev_renamed(node):
    """The link stays, and names the netdev as it is called now."""
    with link(node, "v0"):
        node.run("ip link set v0 down && ip link set v0 name renamed && ip link set renamed up")
        assert node.links()["rw0"]["netdev"] == "renamed"
        node.run("ip addr replace 10.1.0.1/24 dev renamed")
        connects(node, "10.1.0.1")


# --- ends ---


def test_netdev_removed(node):
    """The link goes with its netdev."""
    node.link_add("rw0", "v0")
    node.run("ip link del v0", timeout=20)
    wait_until(lambda: not node.links())


def gone_under_context(node, remove):
    node.link_add("rw0", "v0")
    with node.start(["vtdevice", "device_removed", "10.1.0.1"]) as p:
        p.wait_for("ready")
        node.run(remove, timeout=20)
        wait_until(lambda: not node.links())
        p.wait()
        assert "done" in p.out


def test_link_deleted_under_open_context(node):
    """It does not wait; the process gets DEVICE_FATAL, and EIO from then on."""
    gone_under_context(node, "rdma link del rw0")


def test_netdev_removed_under_open_context(node):
    """The same."""
    gone_under_context(node, "ip link del v0")


def test_late_gid(node):
    """rdma_cm gives its GIDs back long after it has given up the device: the table of GIDs is still there."""
    if run("grep -qw register_kprobe /proc/kallsyms", check=False).rc:
        pytest.skip("this kernel has no kprobes (CONFIG_KPROBES)")
    run("modprobe slowgid")
    try:
        gone_under_context(node, "rdma link del rw0")
        returned = pathlib.Path("/sys/module/slowgid/parameters/returned")
        wait_until(lambda: int(returned.read_text()) >= 3, message="no GID was given back")
    finally:
        run("modprobe -r slowgid")


def test_module_unloads_with_links_up(node):
    """modprobe -r, also under an open context."""
    node.link_add("rw0", "v0")
    run("modprobe -r rurdma", timeout=20)
    assert not module_loaded()
    assert not node.links()
    node.link_add("rw0", "v0")
    with node.start(["vtdevice", "device_removed", "10.1.0.1"]) as p:
        p.wait_for("ready")
        run("modprobe -r rurdma", timeout=20)
        assert not module_loaded()
        p.wait()
    run("modprobe rurdma")


# --- what the tools see ---


def test_rdma_dev_and_link_show(node):
    """`rdma dev show`, `rdma link show`."""
    with link(node, "v0"):
        dev = node.json("rdma -j dev show")[0]
        assert dev["ifname"] == "rw0"
        assert dev["node_type"] == "rnic"
        assert dev["node_guid"] != "0000:0000:0000:0000"
        shown = node.json("rdma -j link show")[0]
        assert shown["state"] == "ACTIVE"
        assert shown["physical_state"] == "LINK_UP"
        assert shown["netdev"] == "v0"
        # Another namespace does not see it.
        assert "rw0" not in run("rdma link show").out
