# SPDX-License-Identifier: GPL-2.0
"""rurdma as it is by default (it asks for peer-to-peer) and siw, both ways: traffic that is verified, and its end."""

import pytest
from ends import Refused, both, exchange
from siwlink import siw_and_rurdma

pytestmark = pytest.mark.long
BOTH = pytest.mark.parametrize("server", ["siw", "rurdma"])
PORT = 7471
FLUSHED = 5
# Of disconnecting ends: how many Writes, how long, and where in the buffer of 1 MiB.
WRITES, LENGTH, TARGET = 48, 400000, 524288


@pytest.fixture(scope="module")
def ends(module):
    with siw_and_rurdma(params="") as e:
        yield e


def join(server, a, b, address):
    """As in ends.py; siw as server may miss the client's indication, and looks again when more comes.

    (siw_accept() sends the reply before it sets the callback that waits for the indication.)
    """
    b(f"connect {address} {PORT} 4 4 -")
    a.request()
    a("accept 4 4 -")
    b.event("ESTABLISHED")
    if server == "siw":
        b("write 0 0 0 0")
        b.good()
    a.event("ESTABLISHED")


@pytest.fixture
def linked(ends, server):
    """Two puppets, connected; the server's first."""
    s, c = ends.roles(server)
    with s.puppet() as a, c.puppet() as b:
        a(f"listen {PORT} {s.ip}")
        join(server, a, b, s.ip)
        yield a, b


@BOTH
def test_peer_to_peer(ends, server):
    """siw waits for rurdma's indication; siw itself initiates without one."""
    s, c = ends.roles(server)
    args = f"-a {s.ip} -C 5 -V"
    both(s.node, c.node, f"rping -s {args}", f"rping -c {args}")


@BOTH
@pytest.mark.parametrize("first", ["client", "server"])
def test_either_end_may_begin(linked, first):
    """Messages of all sizes, each way; Writes and Reads between them."""
    a, b = linked
    x, y = (b, a) if first == "client" else (a, b)
    for n in (0, 1, 3, 1400, 1448, 4096, 100000, 262144):
        exchange(x, y, n)
        exchange(y, x, n)
        for p, q in ((x, y), (y, x)):
            there = q("region 0 524288 262144")
            p(f"write 0 {n} {there['addr']} {there['key']}")
            p.good()
            p(f"read 262144 {n} {there['addr']} {there['key']}")
            p.good()
            assert p(f"sum 0 {n}") == p(f"sum 262144 {n}") == q(f"sum 524288 {n}")


@BOTH
@pytest.mark.parametrize(
    "size,count,qps,active", [(0, 53, 1, 0), (300001, 8, 1, 0), (3001, 40, 1, 1)], ids=["edges", "large", "both ends"]
)
def test_content(ends, server, size, count, qps, active):
    """Write, Read back, Send, each compared with what it must be, as between two of our own (vttraffic.c).

    The client transfers, or both ends do: then less than a page at a time, for siw completes what is longer
    when TCP has a reference to its pages, and what is written there next goes out in its place.
    """
    s, c = ends.roles(server)
    args = f"{s.ip} 7400 {qps} {size} {count} {active}"
    there, here = both(s.node, c.node, f"vttraffic server {args}", f"vttraffic client {args}", timeout=240)
    assert "verified" in there
    assert "verified" in here


def completions(p):
    """All that come: work requests and statuses."""
    got = []
    with pytest.raises(Refused):
        while True:
            got.append(p.poll(2000))
    return [wc["wr"] for wc in got], [wc["status"] for wc in got]


@BOTH
@pytest.mark.parametrize("who", ["client", "server"])
def test_disconnect_in_a_transfer(ends, linked, server, who):
    """Both ends have posted large Writes when one disconnects, and both see the end.

    Each of rurdma's completes once and in order, flushed if it was not sent any more. (siw's do not: one that is
    interrupted fails in its own way, and after a disconnect of its own some never complete.)
    """
    a, b = linked
    rurdma, siw = (a, b) if server == "rurdma" else (b, a)
    exchange(b, a, 10)
    exchange(a, b, 10)
    for x, y in ((a, b), (b, a)):
        there = y(f"region 0 {TARGET} {LENGTH}")
        for _ in range(WRITES):
            x(f"write 0 {LENGTH} {there['addr']} {there['key']}")
    (b if who == "client" else a)("disconnect")
    for p in (a, b):
        p.event("DISCONNECTED", 60000)
    numbers, statuses = completions(rurdma)
    assert len(numbers) == WRITES
    assert numbers == list(range(numbers[0], numbers[0] + WRITES))
    assert set(statuses) <= {0, FLUSHED}
    assert statuses == sorted(statuses)
    if rurdma == (b if who == "client" else a):
        # In good order: what was posted was sent.
        assert not any(statuses)
    numbers, _ = completions(siw)
    assert len(numbers) == len(set(numbers))
    # Both can go on.
    a("destroy")
    b("destroy")
    join(server, a, b, ends.roles(server)[0].ip)
    exchange(b, a, 1000)


@BOTH
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="cmtime waits for IB's CONNECT_RESPONSE, and for TCP on the port of RDMA: see testing.rst",
)
def test_cmtime(ends, server):
    """The tool fails with siw as it does between two of our own."""
    s, c = ends.roles(server)
    both(s.node, c.node, f"cmtime -b {s.ip} -c 5", f"cmtime -s {s.ip} -c 5")
