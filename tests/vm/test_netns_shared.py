# SPDX-License-Identifier: GPL-2.0
"""Namespaces in shared mode, the kernel's default: all namespaces see all devices.

A device is the first namespace's, wherever its link was added; its sockets are where its netdev is.
"""

import re

import pytest
from rvm import Node, gid_index, module_loaded, run, wait_until
from vm_fixtures import KINDS


def set_mode(mode):
    """It can be changed while there is no namespace but the first; one that was deleted goes a while later."""

    def tried():
        run("ip -all netns del", check=False)
        return run(f"rdma system set netns {mode}", check=False).rc == 0

    wait_until(tried, message=lambda: f"{run('ip netns list').out}: no change to {mode} mode")


@pytest.fixture(scope="module", autouse=True)
def shared(module):
    set_mode("shared")
    try:
        yield
    finally:
        set_mode("exclusive")


class First(Node):
    """The first namespace, which is nobody's to make or to delete."""

    def __init__(self):
        self.name = None


@pytest.fixture
def hosts():
    """The first namespace and another one, a veth between them; no links."""
    first = First()
    with Node() as other:
        run(f"ip link add s0 type veth peer name s1 netns {other.name}")
        try:
            for i, x in enumerate((first, other)):
                x.netdev, x.dev, x.ip = f"s{i}", f"rws{i}", f"10.88.0.{i + 1}"
                x.run(f"ip addr add {x.ip}/24 dev {x.netdev} && ip link set {x.netdev} up")
            first.peer, other.peer = other, first
            yield first, other
        finally:
            run("ip link del s0", check=False)


def add_link(x, kind="rurdma"):
    x.link_add(x.dev, x.netdev, kind)
    up(x, kind)


def up(x, kind):
    """The port is active; a RoCE port has its address."""
    wait_until(lambda: x.links()[x.dev]["state"] == "ACTIVE")
    if kind == "rurdma_roce":
        wait_until(lambda: gid_index(x.dev, x.ip, x.name) is not None)


def ports(x):
    """TCP ports that somebody listens on in a namespace."""
    return set(re.findall(r":(\d+)\s+\S+:\*", x.run("ss -tlnH").out))


def listens(x, port):
    """A process with a wildcard listener in x, in the background."""
    return x.start(f"exec rping -s -P -p {port}")


def waits(dev, n):
    """n wildcard listeners are known to the device."""

    def listening():
        return [r for r in First().resources("cm_id") if (r["ifname"], r["state"]) == (dev, "LISTEN")]

    wait_until(lambda: len(listening()) == n, message=lambda: f"{First().resources('cm_id')}")


@pytest.mark.parametrize("kind", KINDS)
def test_links_of_two_namespaces(hosts, kind):
    """A link in each: both are seen in both, and each end reaches the other and itself."""
    for x in hosts:
        add_link(x, kind)
    for x in hosts:
        assert {"rws0", "rws1"} <= set(x.links())
        x.run(["vtcm", "connects", x.ip])
        before = int(run(f"cat /sys/class/net/{hosts[0].netdev}/statistics/rx_bytes").out)
        with x.start("exec rping -s -p 7300 -C 10 -S 4000") as server:
            wait_until(lambda x=x: x.listens() or not server.running())
            x.peer.run(f"rping -c -a {x.ip} -p 7300 -C 10 -S 4000 -V")
            server.wait()
        # READ and WRITE: as many bytes each way.
        assert int(run(f"cat /sys/class/net/{hosts[0].netdev}/statistics/rx_bytes").out) - before > 40000
    for x in hosts:
        x.link_del(x.dev)
        assert x.dev not in x.links()


def test_listeners_are_where_the_netdev_is(hosts):
    """A link inside a namespace: its users' listeners have their sockets there, and no one else's have."""
    first, other = hosts
    add_link(other)
    assert other.dev in first.links()
    with listens(other, 7301), listens(first, 7302):
        waits(other.dev, 2)
        assert ports(other) == {"7301"}
        assert "7301" not in ports(first) and "7302" not in ports(first)
        # The first namespace's user is served where a link of its own is.
        add_link(first)
        waits(first.dev, 2)
        assert "7302" in ports(first) and "7301" not in ports(first)
        assert ports(other) == {"7301"}
        first.run(f"rping -c -a {other.ip} -p 7301 -C 5 -V")
        other.run(f"rping -c -a {first.ip} -p 7302 -C 5 -V")
        for x, port in ((first, 7301), (other, 7302)):
            assert x.peer.run(f"rping -c -a {x.ip} -p {port} -C 1", check=False).rc != 0
    # And both on one port.
    with listens(other, 7303), listens(first, 7303):
        waits(other.dev, 2)
        waits(first.dev, 2)
        for x in hosts:
            x.run(f"rping -c -a {x.peer.ip} -p 7303 -C 5 -V")


@pytest.mark.long
def test_port_4791_is_open_where_the_netdev_is(hosts):
    """RoCE: the socket of a link inside a namespace is there."""
    first, other = hosts
    opened = "ss -ulnH sport = :4791"
    add_link(other, "rurdma_roce")
    assert other.dev in first.links()
    assert other.run(opened).out.strip()
    assert not first.run(opened).out.strip()
    other.link_del(other.dev)
    assert not other.run(opened).out.strip()


@pytest.mark.long
def test_port_4791_is_taken_where_the_netdev_goes(hosts, kernel_log):
    """A RoCE link that nothing can reach any more is down, and the log says why; up again where it is alone."""
    first, _ = hosts
    add_link(first, "rurdma_roce")

    def moves(x, to, state):
        x.run(f"ip link set s0 netns {to.name or 1}")
        to.run("ip link set s0 up")
        wait_until(lambda: "LOWER_UP" in to.run("ip link show s0").out)
        wait_until(lambda: first.links()[first.dev]["state"] == state)

    with Node() as taken, Node() as free:
        with taken.start("exec socat -u UDP4-RECV:4791 OPEN:/dev/null") as other:
            wait_until(lambda: taken.run("ss -ulnH sport = :4791").out.strip() or not other.running())
            with kernel_log.says(r"s0: UDP port 4791 is taken in its network namespace, the port of its link is down"):
                moves(first, taken, "DOWN")
            assert other.running(), other.out
        moves(taken, free, "ACTIVE")
        moves(free, first, "ACTIVE")


@pytest.mark.parametrize("kind", KINDS)
def test_netdev_moves_alone(hosts, kind):
    """Devices need not move with their netdevs: the link works in the new place, and in the old one no more."""
    first, other = hosts
    for x in hosts:
        add_link(x, kind)
    with Node() as third:
        first.run(f"ip link set {first.netdev} netns {third.name}")
        assert first.run(["vtcm", "connects", first.ip], check=False).rc != 0
        third.run(f"ip addr add {first.ip}/24 dev {first.netdev} && ip link set {first.netdev} up")
        third.netdev, third.dev, third.ip = first.netdev, first.dev, first.ip
        up(third, kind)
        third.run(["vtcm", "connects", third.ip])
        # The peer forgets only after a while that the address could not be resolved.
        with third.start("exec rping -s -P -p 7304") as server:
            wait_until(lambda: third.listens() or not server.running())
            wait_until(lambda: other.run(f"rping -c -a {third.ip} -p 7304 -C 5 -V", check=False).rc == 0, 30)
    # The veth went with that namespace, and both links with it.
    wait_until(lambda: not {"rws0", "rws1"} & set(first.links()))


@pytest.mark.parametrize("kind", KINDS)
def test_namespace_deleted(kind):
    """The link goes with the netdev, which goes with the namespace."""
    first = First()
    with Node() as n:
        n.run("ip link add s8 type veth peer name s9 && ip addr add 10.89.0.1/24 dev s8")
        n.run("ip link set s9 up && ip link set s8 up")
        n.netdev, n.dev, n.ip = "s8", "rws8", "10.89.0.1"
        add_link(n, kind)
        n.run(["vtcm", "connects", n.ip])
        assert n.dev in first.links()
    wait_until(lambda: "rws8" not in first.links())


def test_module_unloads_with_links_up(hosts):
    """Links of both types in both namespaces, and a listener of each."""
    for x in hosts:
        add_link(x)
        x.link_add(f"rr{x.netdev}", x.netdev, "rurdma_roce")
    with listens(hosts[0], 7305), listens(hosts[1], 7305):
        for x in hosts:
            waits(x.dev, 2)
        run("modprobe -r rurdma")
        assert not module_loaded()
        for x in hosts:
            assert not [name for name in x.links() if name.startswith(("rws", "rrs"))]
            assert "7305" not in ports(x)
    run("modprobe rurdma")
