# SPDX-License-Identifier: GPL-2.0
"""What becomes of a netdev, and who else is on it, while verified traffic goes over a link; see vttraffic.c."""

import contextlib
import re

import pytest
from rvm import DEBUG_KERNEL, Pair, gid_index, run, wait_until

pytestmark = pytest.mark.long

# Transfers that outlast what happens meanwhile. Under the debug kernel each takes several times as long.
COUNT = 500 if DEBUG_KERNEL else 1000
SIZE = 100000


@contextlib.contextmanager
def traffic(p, count=COUNT, env=None):
    """b WRITEs, READs back and SENDs to a, SIZE bytes each; the client meanwhile. In the end all is verified."""
    args = ["7400", "1", SIZE, count, "0"]
    with p.a.start(["vttraffic", "server", p.a.ip, *args], env=env) as server:
        server.wait_for("listening")
        with p.b.start(["vttraffic", "client", p.a.ip, *args], env=env) as client:
            yield client
            got = client.wait(280, check=False)
            assert got.rc == 0 and "verified" in got.out, f"{got}\nserver:\n{server.out}"
        assert "verified" in server.wait().out
    wait_until(lambda: not p.a.in_use() and not p.b.in_use(), 10)


# --- a bond ---


@contextlib.contextmanager
def bonds(kind):
    """Two nodes, a link of each on a bond of two veths. The first veth is the one of choice."""
    with Pair(links=False, kind=kind) as p:
        a, b = p.a, p.b
        run(f"ip link add w{a.name} netns {a.name} type veth peer name w{b.name} netns {b.name}")
        for n, x in ((1, a), (2, b)):
            x.slaves = [x.netdev, f"w{x.name}"]
            x.run("ip link add t0 type bond mode active-backup miimon 20")
            for s in x.slaves:
                x.run(f"ip addr flush dev {s} && ip link set {s} down && ip link set {s} master t0")
            x.run(f"ip link set t0 type bond primary {x.slaves[0]} && ip link set t0 up")
            x.run(f"ip addr add 10.7.1.{n}/24 dev t0")
            x.netdev, x.ip = "t0", f"10.7.1.{n}"
            x.link_add(x.dev, "t0", kind)
        wait_until(lambda: is_active(p, 0))
        yield p.settle()


def is_active(p, i):
    """Both ends use their slave of that number."""
    active = "cat /sys/class/net/t0/bonding/active_slave"
    return all(x.run(active).out.strip() == x.slaves[i] for x in (p.a, p.b))


def goes_over(p, i, client):
    """The traffic does, in both directions."""
    wait_until(lambda: is_active(p, i))

    def sent():
        return [x.tx_bytes(x.slaves[i]) for x in (p.a, p.b)]

    before = sent()
    wait_until(lambda: all(now - was > SIZE for now, was in zip(sent(), before, strict=True)), None, lambda: client.out)
    assert client.running(), "the traffic was over too early: COUNT is too small"


@pytest.mark.parametrize("kind", ["rurdma_roce", "rurdma"])
def test_bond_fails_over(module, kind):
    """The cable in use is pulled at one end, then at the other, and comes back: connections stay, new ones are made.

    What was on its way is lost: RoCE's requester, or TCP, repeats it.
    """
    with bonds(kind) as p:
        # Lost packets are found out after half a second, and seven times.
        env = {"VT_ACK_TIMEOUT": "17"} if kind == "rurdma_roce" else {}
        # The core makes a bond's GIDs anew; with the old ones ib_cm cannot say goodbye (rdma_lag_get_ah_roce_slave()).
        silent = {"VT_NO_GOODBYE": "1"} if env else {}
        with traffic(p, env=env | silent) as client:
            goes_over(p, 0, client)
            for x in (p.a, p.b):
                x.run(f"ip link set {x.slaves[0]} down")
                goes_over(p, 1, client)
                assert x.links()[x.dev]["state"] == "ACTIVE"
                x.run(f"ip link set {x.slaves[0]} up")
                goes_over(p, 0, client)
        p.a.run(f"ip link set {p.a.slaves[0]} down")
        wait_until(lambda: is_active(p, 1))
        before = p.b.tx_bytes(p.b.slaves[1])
        with traffic(p.settle(), 3, env):
            pass
        assert p.b.tx_bytes(p.b.slaves[1]) - before > 2 * 3 * SIZE


# --- two links ---


@pytest.fixture
def both_links(module):
    """A link of each type on one netdev. rdma_cm, which goes by the address, takes the one that was there first."""
    with Pair() as p:
        for x in (p.a, p.b):
            x.roce = f"rr{x.name}"
            x.link_add(x.roce, x.netdev, "rurdma_roce")
        for x in (p.a, p.b):
            wait_until(lambda x=x: gid_index(x.roce, x.ip, x.name) is not None)
        yield p.settle()


def segments(node):
    """What TCP has received in the namespace."""
    header, values = re.findall(r"^Tcp: (.*)$", node.run("cat /proc/net/snmp").out, re.M)
    return int(dict(zip(header.split(), values.split(), strict=True))["InSegs"])


def test_both_transports_at_once(both_links):
    """iWARP by rdma_cm, all the time; RoCE beside it, each operation of RC, asked from either end (vtopcodes.c)."""
    p = both_links
    beside, asks = 0, [(p.a, p.b), (p.b, p.a)]
    with traffic(p) as iwarp:
        assert {x["ifname"] for x in wait_until(lambda: p.a.resources("qp"))} == {p.a.dev}
        while iwarp.running():
            (answering, asking), rounds = asks[beside % 2], 10
            before = segments(p.a), p.a.counter("rcvd_pkts", p.a.roce)
            where = [answering.name, answering.roce, asking.name, asking.roce]
            run(["vtopcodes", "rc", answering.ip, *where, rounds])
            tcp, packets = segments(p.a) - before[0], p.a.counter("rcvd_pkts", p.a.roce) - before[1]
            # Of six operations, one packet or four: requests, or their acknowledges and what was read.
            assert packets >= 2 * 6 * rounds, packets
            # All of it went beside the other, and did not keep that from going on.
            if iwarp.running():
                assert tcp > 0
                beside += 1
    assert beside >= 2, "the traffic was over too early: COUNT is too small"
