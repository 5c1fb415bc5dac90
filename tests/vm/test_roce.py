# SPDX-License-Identifier: GPL-2.0
"""RoCEv2 links: how they come and go, and the distribution's own programs over them.

The operations that there are: SEND, WRITE, READ over RC, UC and UD; ib_cm and rdma_cm.
"""

import pathlib
import re

import pytest
from rvm import Node, Pair, gid_index, module_loaded, pingpong_is_intact, run, wait_until

PORT = 7600


@pytest.fixture(scope="module")
def pair(module):
    with Pair(kind="rurdma_roce") as p:
        yield p.settle()


def ends(pair, server, client):
    """A server in a, a client in b; both end well."""
    a, b = pair.a, pair.b
    with a.start(f"exec {server}") as s:
        wait_until(lambda: a.serves() or not s.running())
        b.run(client)
        pingpong_is_intact(s.wait().out)


def test_link(pair):
    """What the tools say of it."""
    a = pair.a
    out = a.run(f"ibv_devinfo -v -d {a.dev}").out
    for line in ("InfiniBand (0)", "Ethernet", "PORT_ACTIVE", "RoCE v2", "active_mtu:\t\t1024"):
        assert line in out, out


MTUS = {576: 256, 1000: 512, 1500: 1024, 2500: 2048, 4200: 4096, 9000: 4096}


def test_active_mtu(module):
    """The largest of 256 to 4096 whose packets the netdev takes, also when that changes."""
    with Pair(kind="rurdma_roce") as p:
        a = p.settle().a
        for mtu, active in MTUS.items():
            a.run(f"ip link set {a.netdev} mtu {mtu}")
            out = a.run(f"ibv_devinfo -d {a.dev}").out
            assert re.search(rf"active_mtu:\s+{active} ", out), (mtu, out)


@pytest.fixture(scope="module")
def wide(module):
    """A wire on which packets of any path MTU have room."""
    with Pair(mtu=9000, kind="rurdma_roce") as p:
        yield p.settle()


def packets(node):
    return int(node.run(f"cat /sys/class/infiniband/{node.dev}/ports/1/counters/port_xmit_packets").out)


@pytest.mark.parametrize("mtu", sorted(set(MTUS.values())))
@pytest.mark.parametrize("kind", ["rc", pytest.param("uc", marks=pytest.mark.long)])
def test_path_mtu(wide, kind, mtu):
    """Messages go in packets of the path MTU, and arrive as they were."""
    a, b = wide.a, wide.b
    before = packets(a), packets(b)
    ga, gb = (gid_index(x.dev, x.ip, x.name) for x in (a, b))
    program = f"ibv_{kind}_pingpong -c -n 20 -s 10000 -m {mtu}"
    ends(wide, f"{program} -d {a.dev} -g {ga}", f"{program} -d {b.dev} -g {gb} {a.ip}")
    # Besides these no more than an acknowledge for each.
    least = 20 * -(-10000 // mtu)
    for x, was in zip((a, b), before, strict=True):
        assert least <= packets(x) - was <= least + 2 * 20 + 10, (least, packets(x) - was)


@pytest.mark.long
def test_vlan_over_the_netdev(module):
    """The core has addresses of a VLAN in the table of the link on its lower netdev: what uses them is tagged."""
    with Pair(kind="rurdma_roce") as p:
        for n, x in ((1, p.a), (2, p.b)):
            x.run(f"ip link add vlan7 link {x.netdev} type vlan id 7 && ip link set vlan7 up")
            x.run(f"ip addr add 10.77.0.{n}/24 dev vlan7")
            x.vlan = f"10.77.0.{n}"
        for x in p.settle().a, p.b:
            wait_until(lambda x=x: gid_index(x.dev, x.vlan, x.name) is not None)
        a, b = p.a, p.b
        before = [x.tx_bytes("vlan7") for x in (a, b)]
        ga, gb = (gid_index(x.dev, x.vlan, x.name) for x in (a, b))
        for kind in ("rc", "ud"):
            program = f"ibv_{kind}_pingpong -c -n 100 -s 1000"
            ends(p, f"{program} -d {a.dev} -g {ga}", f"{program} -d {b.dev} -g {gb} {a.ip}")
        ends(p, f"rping -s -a {a.vlan} -C 5 -S 5000", f"rping -c -a {a.vlan} -C 5 -S 5000 -V")
        for x, was in zip((a, b), before, strict=True):
            assert x.tx_bytes("vlan7") - was > 2 * 100 * 1000 + 5 * 5000


def test_second_link_is_refused(pair):
    """EEXIST; but a link of the other type has a place beside it."""
    a = pair.a
    got = a.run(f"rdma link add other type rurdma_roce netdev {a.netdev}", check=False)
    assert got.rc != 0 and "File exists" in got.out, got
    a.link_add("rwbeside", a.netdev)
    a.run("ibv_devinfo -d rwbeside | grep -q iWARP")
    a.link_del("rwbeside")


def test_loopback_netdev_is_refused(netns):
    """RoCE has Ethernet addresses."""
    got = netns.run("rdma link add rr0 type rurdma_roce netdev lo", check=False)
    assert got.rc != 0 and "not supported" in got.out, got


def test_vlan_is_refused(netns):
    """The core would give it no GID; see test_vlan_over_the_netdev."""
    netns.run("ip link add v0 type veth peer name v1 && ip link add v0.7 link v0 type vlan id 7")
    got = netns.run("rdma link add rr0 type rurdma_roce netdev v0.7", check=False)
    assert got.rc != 0 and "not supported" in got.out, got


def test_cq_of_management(module):
    """The core's management has a CQ that is polled by a workqueue of no CPU; its completions are taken there."""
    events = pathlib.Path("/sys/kernel/tracing/events/rdma_core")
    if not events.exists():
        pytest.skip("this kernel has no trace events")
    trace = events.parent.parent / "trace"
    trace.write_text("")
    try:
        for e in ("cq_alloc", "cq_process"):
            (events / e / "enable").write_text("1")
        with Pair(kind="rurdma_roce") as p:
            p.settle()
            ends(p, f"rping -s -a {p.a.ip} -C 2", f"rping -c -a {p.a.ip} -C 2 -V")
            # Later the devices get new ones: they go to the first namespace when theirs ends.
            seen = trace.read_text()
    finally:
        for e in ("cq_alloc", "cq_process"):
            (events / e / "enable").write_text("0")
    # One for each device; numbers are the device's own.
    assert len(re.findall(r"cq_alloc: .*poll_ctx=UNBOUND_WORKQUEUE", seen)) == 2, seen
    # Each end sends and receives: a request, its reply, what follows.
    polled = [x for x in seen.splitlines() if "cq_process: " in x]
    assert len(polled) >= 4, seen
    assert all(x.split()[0].startswith("kworker/u") for x in polled), seen


def test_port_taken(module, kernel_log):
    """Somebody else's UDP port 4791 is an error, and the log says which; rxe works in the first namespace only."""
    taken = r"d0: UDP port 4791 is taken in its network namespace, no link is made: remove the links of rxe"
    run("modprobe rdma_rxe && ip link add d0 type dummy && ip link set d0 up")
    try:
        run("rdma link add rx0 type rxe netdev d0")
        # Each time.
        for _ in range(2):
            with kernel_log.says(taken):
                got = run("rdma link add rr0 type rurdma_roce netdev d0", check=False)
            assert got.rc != 0 and "in use" in got.out.lower(), got
        run("rdma link del rx0")
        run("rdma link add rr0 type rurdma_roce netdev d0")
    finally:
        run("ip link del d0; modprobe -r rdma_rxe", check=False)


@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("kind", ["rc", "uc", "ud"])
def test_pingpong(pair, kind, family):
    """libibverbs' own, which needs no CM; it checks what it receives."""
    a, b = pair.a, pair.b
    ga, gb = (gid_index(x.dev, getattr(x, family), x.name) for x in (a, b))
    ends(
        pair,
        f"ibv_{kind}_pingpong -d {a.dev} -g {ga} -n 200 -c",
        f"ibv_{kind}_pingpong -d {b.dev} -g {gb} -n 200 -c {a.ip}",
    )


def test_srq_pingpong(pair):
    """Many QPs, one SRQ."""
    a, b = pair.a, pair.b
    ends(
        pair,
        f"ibv_srq_pingpong -d {a.dev} -g {gid_index(a.dev, a.ip, a.name)} -n 200 -c -q 8",
        f"ibv_srq_pingpong -d {b.dev} -g {gid_index(b.dev, b.ip, b.name)} -n 200 -c -q 8 {a.ip}",
    )


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_rping(pair, family):
    """rdma_cm over ib_cm, with SEND, WRITE and READ of verified content."""
    ip = getattr(pair.a, family)
    ends(pair, f"rping -s -a {ip} -C 20 -S 50000 -V", f"rping -c -a {ip} -C 20 -S 50000 -V")


@pytest.mark.parametrize(
    "program",
    [
        "ib_write_bw -s 65536",
        "ib_read_bw -R -s 65536",
        "ib_send_bw -R -c UD -s 1024",
        "ib_write_bw -c UC -s 65536",
        "ib_send_lat",
    ]
    + [
        pytest.param(p, marks=pytest.mark.long)
        for p in (
            "ib_write_bw -R -s 65536",
            "ib_read_bw -s 65536",
            "ib_send_bw -s 65536",
            "ib_send_bw -R -s 65536",
            "ib_send_bw -c UD -s 1024",
            "ib_send_lat -R",
            "ib_read_lat",
            "ib_read_lat -R",
            "ib_write_lat",
            "ib_write_lat -R",
        )
    ],
)
def test_perftest(pair, program):
    """With rdma_cm (-R), and without, where the GID is named."""
    a, b = pair.a, pair.b
    args = ["" if "-R" in program else f"-x {gid_index(x.dev, x.ip, x.name)} -d {x.dev}" for x in (a, b)]
    ends(
        pair,
        f"{program} -F -n 200 -p {PORT} {args[0]}",
        f"{program} -F -n 200 -p {PORT} {args[1]} {a.ip}",
    )


def test_udaddy(pair):
    """Datagrams by rdma_cm."""
    ends(pair, f"udaddy -b {pair.a.ip}", f"udaddy -s {pair.a.ip}")


def test_multicast_of_rdma_cm(pair):
    """rdma_cm has the netdev join; its groups are of IPv4."""
    a, b = pair.a, pair.b
    with a.start(f"exec stdbuf -oL mckey -m 239.7.7.7 -b {a.ip} -C 10") as receiver:
        wait_until(lambda: "joined" in receiver.out or not receiver.running(), message=lambda: receiver.out)
        b.run(f"mckey -m 239.7.7.7 -b {b.ip} -s -C 10")
        receiver.wait()


@pytest.mark.parametrize("group", ["239.7.7.8", "ff15::7777"])
@pytest.mark.parametrize("test", ["members", "many", "same_host", "errors", "left_behind"])
def test_multicast(pair, test, group):
    """ibv_attach_mcast(3): the netdev joins as long as a QP is in the group. See vtmcast.c."""
    a, b = pair.a, pair.b
    run(["vtmcast", test, a.ip, a.name, a.dev, b.name, b.dev, group])
    wait_until(lambda: not a.in_use())
    assert group not in a.run(f"ip maddr show dev {a.netdev}").out


@pytest.mark.long
@pytest.mark.parametrize("group", ["239.7.7.9", "ff15::7779"])
def test_multicast_after_a_move(module, group):
    """A netdev that moves leaves its groups, whoever is in them. See vtmcast.c."""
    with Pair(kind="rurdma_roce") as p:
        a, b = p.a, p.b
        run(["vtmcast", "moved", a.ip, a.name, a.dev, b.name, b.dev, group])


def test_dead_peer(module):
    """Retries are exceeded: the completion says so (IBV_WC_RETRY_EXC_ERR is 12)."""
    with Pair(kind="rurdma_roce") as p:
        p.settle()
        a, b = p.a, p.b
        server = f"ib_write_bw -F -D 60 -x {gid_index(a.dev, a.ip, a.name)} -d {a.dev}"
        client = f"ib_write_bw -F -D 60 -u 10 -x {gid_index(b.dev, b.ip, b.name)} -d {b.dev} {a.ip}"
        with a.start(f"exec {server}"):
            wait_until(lambda: a.run("ss -tlnH").out.strip())
            with b.start(f"exec {client}") as c:
                # A server without a device that it has still to prepare would end, and the client for that reason.
                wait_until(lambda: packets(b) > 1000, None, lambda: c.out)
                a.run(f"rdma link del {a.dev}")
                assert c.wait(60, check=False).rc != 0
                assert re.search(r"Failed status 12\b", c.out), c.out


@pytest.mark.long
def test_namespace_is_deleted_under_traffic(module):
    """The namespace goes, and its socket with it; another one has the port."""
    for _ in range(2):
        delete_under_traffic()


def delete_under_traffic():
    """A namespace of its own."""
    with Pair(kind="rurdma_roce") as p:
        p.settle()
        a, b = p.a, p.b
        server = f"ib_write_bw -F -D 60 -x {gid_index(a.dev, a.ip, a.name)} -d {a.dev}"
        client = f"ib_write_bw -F -D 60 -x {gid_index(b.dev, b.ip, b.name)} -d {b.dev} {a.ip}"
        with a.start(f"exec {server}"):
            wait_until(lambda: a.run("ss -tlnH").out.strip())
            with b.start(f"exec {client}"):
                wait_until(lambda: b.resources("qp"))
                run(f"ip netns del {b.name}", timeout=30)


def port_is_open(node):
    """Somebody in the namespace receives what comes to UDP port 4791."""
    return bool(node.run("ss -ulnH sport = :4791").out.strip())


@pytest.mark.long
def test_port_is_open_where_the_netdev_is(module):
    """There while there is a link, and nowhere else: also of links that are made, or end, during a move."""
    with Node() as one, Node() as other:
        one.run("ip link add m0 type veth peer name m1")
        there, back = f"ip link set m0 netns {other.name}", f"ip -n {other.name} link set m0 netns {one.name}"
        with one.start(f"while :; do {there}; {back}; done"):
            for _ in range(15):
                # The device is in the namespace that the netdev was in when it was made.
                one.run("rdma link add rm0 type rurdma_roce netdev m0; rdma link del rm0", check=False)
                other.link_del("rm0", check=False)
        one.run(back, check=False)
        wait_until(lambda: not port_is_open(one) and not port_is_open(other))
        one.link_add("rm0", "m0", "rurdma_roce")
        for _ in range(3):
            assert port_is_open(one) and not port_is_open(other)
            one.run(there)
            assert port_is_open(other) and not port_is_open(one)
            one.run(back)
        one.run("rdma link add rm1 type rurdma_roce netdev m1")
        one.link_del("rm0")
        assert port_is_open(one)
        one.link_del("rm1")
        wait_until(lambda: not port_is_open(one))


def test_module_unloads_with_roce_links_up(module):
    """And nothing of it is left."""
    with Pair(kind="rurdma_roce") as p, Node():
        both = (p.a, p.b)
        assert all(port_is_open(x) for x in both)
        run("modprobe -r rurdma", timeout=60)
        assert not module_loaded()
        for x in both:
            assert not x.links()
            assert not port_is_open(x)
    run("modprobe rurdma")
