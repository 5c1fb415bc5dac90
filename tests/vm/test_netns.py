# SPDX-License-Identifier: GPL-2.0
"""Namespaces in exclusive mode."""

import pytest
from rvm import Node, run, wait_until


def talk(server, client, to, port=7174, count=5):
    """rping through a wildcard listener, from one node to the other."""
    with server.start(f"exec rping -s -p {port} -C {count}") as s:
        wait_until(lambda: server.listens())
        client.run(f"rping -c -a {to} -p {port} -C {count} -V")
        s.wait()


def test_two_wildcard_listeners_on_one_port(fresh_pair):
    """Each namespace has its own listener on the same port, and they reach each other."""
    p = fresh_pair
    with p.a.start("exec rping -s -P -p 7200"), p.b.start("exec rping -s -P -p 7200"):
        for x in (p.a, p.b):
            wait_until(lambda x=x: x.listens())
        for _ in range(3):
            for x in (p.a, p.b):
                x.run(f"rping -c -a {x.peer.ip} -p 7200 -C 5 -V")
        # And each itself.
        for x in (p.a, p.b):
            x.run(f"rping -c -a {x.ip} -p 7200 -C 5 -V")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_traffic_between_namespaces(pair, family):
    """Both address families."""
    to = pair.a.ip if family == "ipv4" else pair.a.ip6
    listen = "0.0.0.0" if family == "ipv4" else "::"
    with pair.a.start(f"exec rping -s -a {listen} -C 10") as s:
        wait_until(lambda: pair.a.listens())
        pair.b.run(f"rping -c -a {to} -C 10 -V")
        s.wait()


def test_devices_of_others_are_not_seen(pair):
    """A namespace sees its own devices only."""
    assert set(pair.a.links()) == {pair.a.dev}
    assert set(pair.b.links()) == {pair.b.dev}
    assert pair.b.dev not in pair.a.run("ibv_devices").out
    assert pair.a.dev not in run("ibv_devices").out


def move(x, to):
    """The device and its netdev go to another namespace, addresses follow."""
    run(f"ip netns exec {x.name} rdma dev set {x.dev} netns {to.name}")
    run(f"ip -n {x.name} link set {x.netdev} netns {to.name}")
    to.run(f"ip addr add {x.ip}/24 dev {x.netdev} && ip link set {x.netdev} up")


def test_device_and_netdev_move(fresh_pair):
    """`rdma dev set … netns` and `ip link set … netns`: the link works in its new place."""
    p = fresh_pair
    talk(p.a, p.b, p.a.ip)
    with Node() as other:
        move(p.a, other)
        assert not p.a.links()
        assert p.a.dev in other.links()
        wait_until(lambda: other.links()[p.a.dev]["state"] == "ACTIVE")
        talk(other, p.b, p.a.ip)
        talk(p.b, other, p.b.ip)


def test_netdev_moves_under_traffic(fresh_pair):
    """Connections end, nothing hangs."""
    p = fresh_pair
    with Node() as other, p.a.start("exec rping -s"), p.b.start(f"sleep 0.5; exec rping -c -a {p.a.ip}") as client:
        wait_until(lambda: p.b.resources("qp"))
        p.a.run(f"ip link set {p.a.netdev} netns {other.name}", timeout=30)
        p.b.run(f"ip link set {p.b.netdev} down")
        client.kill()
        client.wait(20, check=False)
    wait_until(lambda: not p.b.resources("qp"))


@pytest.mark.parametrize("listen", ["0.0.0.0", "{ip}"])
def test_listener_outlives_a_move(fresh_pair, listen):
    """The netdev goes to another namespace and comes back: who listened before listens again."""
    p = fresh_pair
    x = p.a
    with Node() as other, x.start(f"exec rping -s -P -a {listen.format(ip=x.ip)}"):
        wait_until(lambda: x.listens())
        p.b.run(f"rping -c -a {x.ip} -C 5")
        x.run(f"ip link set {x.netdev} netns {other.name}")
        assert p.b.run(f"rping -c -a {x.ip} -C 5", check=False).rc != 0
        other.run(f"ip link set {x.netdev} netns {x.name}")
        x.run(f"ip addr add {x.ip}/24 dev {x.netdev} && ip link set {x.netdev} up")
        # The peer forgets only after a while that the address could not be resolved.
        wait_until(lambda: p.b.run(f"rping -c -a {x.ip} -C 5", check=False).rc == 0, 30)
