# SPDX-License-Identifier: GPL-2.0
"""Transfers over a wire whose content is verified at both ends; see vttraffic.c."""

import re

import pytest
from rvm import Pair, wait_until
from vm_fixtures import KINDS

WIRES = [
    pytest.param((kind, mtu), id=f"{kind}-mtu{mtu}", marks=[] if kind == "rurdma" and mtu == 1500 else pytest.mark.long)
    for kind in ("rurdma", "rurdma_roce")
    for mtu in (1500, 9000)
]


@pytest.fixture(scope="module", params=WIRES)
def wire(request, module):
    kind, mtu = request.param
    with Pair(mtu=mtu, kind=kind) as p:
        yield p.settle(ip6=True)


def transfer(p, size, count, qps=1, both=0, to=None, timeout=240, env=None):
    """`count` times WRITE, READ back, SEND of `size` bytes on each of `qps` connections."""
    args = ["7400", str(qps), str(size), str(count), str(both)]
    to = to or p.a.ip
    with p.a.start(["vttraffic", "server", to, *args]) as server:
        server.wait_for("listening")
        client = p.b.run(["vttraffic", "client", to, *args], timeout=timeout, check=False, env=env)
        assert client.rc == 0, f"{client.out}\nserver:\n{server.out}"
        server.wait()
        assert "verified" in client.out
        assert "verified" in server.out
    wait_until(lambda: not p.a.in_use() and not p.b.in_use(), 10)


@pytest.mark.soak
def test_bulk_is_intact(wire, rounds):
    """WRITE, READ and SEND of 16 MiB each in messages of 1 MiB; of 64 MiB in the long runs."""
    transfer(wire, 1 << 20, 64 if rounds > 20 else 16)


def test_odd_sizes_are_intact(wire):
    """Lengths around those at which messages are cut."""
    transfer(wire, 0, 53)


def test_both_directions_at_once(wire):
    """Both ends initiate."""
    transfer(wire, 300001, 8, both=1)


def test_64_connections(wire):
    """64 QPs in turn."""
    transfer(wire, 5000, 3, qps=64)


def test_64_connections_in_both_directions(wire):
    """64 QPs, both ends initiate."""
    transfer(wire, 3001, 2, qps=64, both=1)


def test_bulk_over_ipv6(wire):
    """The same over IPv6."""
    transfer(wire, 100000, 10, to=wire.a.ip6)


@pytest.mark.parametrize("kind", KINDS)
def test_without_offloads(module, kind):
    """Without TSO, UDP's GSO and GRO: every segment is a packet."""
    with Pair(kind=kind) as p:
        p.settle().offloads_off()
        transfer(p, 100000, 5)
        transfer(p, 0, 53, both=1)


@pytest.mark.parametrize("kind", KINDS)
def test_packets_lost_and_damaged(module, kind):
    """TCP, or RoCE's requester, repeats what is lost, and what a checksum finds: the content is intact."""
    with Pair(kind=kind) as p:
        p.settle().offloads_off()
        p.impair("loss 1% corrupt 1% delay 1ms")
        # Losses are found out after 67 ms at the latest, not after 2 s.
        transfer(p, 20000, 8, env={"VT_ACK_TIMEOUT": "14"} if kind == "rurdma_roce" else None)


def window_probes(node):
    """How often TCP in that namespace asked a peer whose window was closed whether it still is."""
    return int(node.run("nstat -asz TcpExtTCPWinProbe").out.split()[-2])


def test_window_is_not_left_closed(pair):
    """Who looks at the receiver's socket holds its lock; what comes meanwhile closes the window, but not for long."""
    probes = window_probes(pair.b)
    with pair.a.start("exec bulk -m 64") as server:
        server.wait_for("listening")
        with pair.a.start("while :; do ss -tim >/dev/null; done"):
            pair.b.run(f"bulk -m 64 {pair.a.ip}")
        server.wait()
    assert window_probes(pair.b) == probes


@pytest.mark.long
def test_bulk_of_the_demo(pair):
    """What `make demo` shows: both ends have the same digest, and the bytes crossed the wire."""
    mib = 64
    before = pair.a.rx_bytes()
    with pair.a.start(f"exec bulk -m {mib}") as server:
        server.wait_for("listening")
        client = pair.b.run(f"bulk -m {mib} {pair.a.ip}")
        server.wait()
    digests = [re.search(rf"^{mib} MiB in .*, digest ([0-9a-f]{{16}})$", x, re.M) for x in (client.out, server.out)]
    assert all(digests), f"{client.out}\n{server.out}"
    assert digests[0][1] == digests[1][1]
    assert pair.a.rx_bytes() - before > mib << 20


PERFTEST = ["ib_write_bw", "ib_send_bw", "ib_read_bw", "ib_write_lat", "ib_send_lat", "ib_read_lat"]


@pytest.mark.parametrize("tool", PERFTEST)
def test_perftest(pair, tool):
    """The distribution's own tools, unmodified, with rdma_cm."""
    args = "-R -n 200 -s 4096 -F"
    with pair.a.start(f"exec {tool} {args}") as server:
        wait_until(lambda: pair.a.listens())
        out = pair.b.run(f"{tool} {args} {pair.a.ip}").out
        server.wait()
    assert re.search(r"^\s*4096\s+200\s", out, re.M), out
