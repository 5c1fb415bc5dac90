# SPDX-License-Identifier: GPL-2.0
"""rurdma and siw, both ways: the server is named first.

rurdma does not ask for peer-to-peer here, as siw does not; test_siw_traffic.py has it as it is by default.
"""

import contextlib
import time

import pytest
from capture import OPCODES, Capture
from ends import Refused, both, exchange, join, pd_of, perftest, run_at, serve
from rvm import wait_until
from siwlink import siw_and_rurdma

LONG = pytest.mark.long
BOTH = pytest.mark.parametrize("server", ["siw", "rurdma"])
PORT = 7471
KILLS = 4
FLUSHED = 5
WITH_INV = 8  # enum ibv_wc_flags


@pytest.fixture(scope="module")
def ends(module, request):
    """All of this file's traffic is captured, and decoded by its last test."""
    with siw_and_rurdma() as e, Capture(e.siw.netdev) as cap:
        e.capture = cap
        yield e


@BOTH
@pytest.mark.parametrize("size", [pytest.param(23, marks=LONG), 1000, pytest.param(20000, marks=LONG)])
def test_rping(ends, server, size):
    s, c = ends.roles(server)
    args = f"-a {s.ip} -C 10 -S {size} -V"
    both(s.node, c.node, f"rping -s {args}", f"rping -c {args}")


@LONG
@BOTH
@pytest.mark.parametrize("tool", ["ib_send_bw", "ib_write_bw", "ib_read_bw"])
def test_bandwidth(ends, server, tool):
    s, c = ends.roles(server)
    assert perftest(s.node, c.node, s.ip, tool, "-n 100 -s 8192")[-1][:2] == [8192, 100]


@LONG
@BOTH
@pytest.mark.parametrize("tool", ["ib_send_lat", "ib_write_lat", "ib_read_lat"])
def test_latency(ends, server, tool):
    """siw initiates without peer-to-peer, and in some of these its program waits for ours to begin."""
    s, c = ends.roles(server)
    assert perftest(s.node, c.node, s.ip, tool, "-n 100")[-1][:2] == [2, 100]


@LONG
@BOTH
def test_ucmatose(ends, server):
    s, c = ends.roles(server)
    _, out = both(s.node, c.node, f"ucmatose -b {s.ip} -c 3 -C 10 -S 3000", f"ucmatose -s {s.ip} -c 3 -C 10 -S 3000")
    assert "return status 0" in out


@LONG
@BOTH
def test_rstream_verifies(ends, server):
    s, c = ends.roles(server)
    args = "-T v -I 5 -C 10 -S 5000"
    both(s.node, c.node, f"rstream -b {s.ip} {args}", f"rstream -s {s.ip} {args}")


@pytest.fixture
def linked(ends, server):
    """Two puppets, connected; the server's first."""
    s, c = ends.roles(server)
    with s.puppet() as a, c.puppet() as b:
        a(f"listen {PORT} {s.ip}")
        asked, up = join(a, b, s.ip, PORT, b"from the client", b"from the server")
        yield a, b, asked, up


@BOTH
def test_private_data(linked):
    _, _, asked, up = linked
    assert pd_of(asked)[:15] == b"from the client"
    assert pd_of(up)[:15] == b"from the server"


@LONG
@BOTH
def test_messages_of_all_sizes(linked):
    a, b, *_ = linked
    for n in (0, 1, 3, 4, 1400, 1448, 4096, 100000, 262144):
        exchange(b, a, n)
        exchange(a, b, n)
    exchange(b, a, 50, "inline")
    exchange(a, b, 50, "se")


@BOTH
def test_write_and_read(linked):
    a, b, *_ = linked
    exchange(b, a, 1)
    for x, y in ((a, b), (b, a)):
        there = y("region 0 524288 100000")
        for n in (1, 5, 1449, 100000):
            x(f"fill 0 {n} {n + 1}")
            x(f"write 0 {n} {there['addr']} {there['key']}")
            x.good()
            x(f"read 131072 {n} {there['addr']} {there['key']}")
            x.good()
            assert x(f"sum 131072 {n}") == x(f"sum 0 {n}") == y(f"sum 524288 {n}")


@LONG
@pytest.mark.parametrize("server", ["siw", "rurdma"])
def test_send_with_invalidate(ends, linked, server):
    """To siw, which lets a program's regions be invalidated; rurdma refuses that, see test_scripted_peer."""
    a, b, *_ = linked
    siw, rurdma = (a, b) if server == "siw" else (b, a)
    exchange(b, a, 10)
    victim = siw("region lwr 0 4096")
    # siw's provider does not say which key it was, or that there was one.
    exchange(rurdma, siw, 500, f"inv={victim['key']}")
    # It is gone: the next one to use it is told so, with a Terminate.
    rurdma(f"write 0 8 {victim['addr']} {victim['key']}")
    assert siw.event("DISCONNECTED")
    assert rurdma.event("DISCONNECTED")


@LONG
@BOTH
def test_window_invalidated_by_siw(linked, server):
    """siw writes through a window of rurdma's, and takes it away with the message behind that."""
    a, b, *_ = linked
    siw, rurdma = (a, b) if server == "siw" else (b, a)
    exchange(b, a, 10)
    window = rurdma("window 524288 4096")
    rurdma.good()
    siw("fill 0 1000 3")
    siw(f"write 0 1000 {window['addr']} {window['key']}")
    siw.good()
    wc = exchange(siw, rurdma, 500, f"inv={window['key']}")
    assert (wc["flags"] & WITH_INV, wc["inv"]) == (WITH_INV, window["key"])
    siw("fill 0 1000 3")
    assert rurdma("sum 524288 1000") == siw("sum 0 1000")
    # It is gone: the next one to use it is told so, with a Terminate.
    siw(f"write 0 8 {window['addr']} {window['key']}")
    rurdma.event("DISCONNECTED")
    siw.event("DISCONNECTED")


@BOTH
def test_reject(ends, server):
    s, c = ends.roles(server)
    with s.puppet() as a, c.puppet() as b:
        a(f"listen {PORT} {s.ip}")
        b(f"connect {s.ip} {PORT} 4 4 {b'please'.hex()}")
        assert pd_of(a.request())[:6] == b"please"
        a(f"reject {b'not now'.hex()}")
        e = b.event("REJECTED")
        assert pd_of(e)[:7] == b"not now"
        # The next attempt is as good as the first.
        a("destroy")
        b("destroy")
        join(a, b, s.ip, PORT)
        exchange(b, a, 100)


@LONG
@BOTH
def test_nobody_listens(ends, server):
    s, c = ends.roles(server)
    with c.puppet() as b:
        # siw connects before it returns.
        with contextlib.suppress(Refused):
            b(f"connect {s.ip} 7999 4 4 -")
            assert b.event()["event"] in ("REJECTED", "UNREACHABLE", "CONNECT_ERROR")


@LONG
@BOTH
def test_disconnect(linked):
    a, b, *_ = linked
    exchange(b, a, 100)
    b("disconnect")
    a.event("DISCONNECTED")
    b.event("DISCONNECTED")


@LONG
@BOTH
@pytest.mark.parametrize("who", ["client", "server"])  # with BOTH as many as KILLS
def test_killed_in_a_transfer(ends, server, who):
    """A program dies while data flow; the other end gets an error or its end, and both can go on.

    perftest's client polls for ever on siw if all that it had sent was completed before the end came: siw's
    queue pairs are in error then, nothing is left to be flushed, and that the server is gone it is not told.
    """
    s, c = ends.roles(server)
    polls_on = (who, server) == ("server", "rurdma")
    with serve(s.node, "ib_write_bw -R -F -D 30 -s 65536") as a, _client(c, s) as b:
        wait_until(lambda: _qps(s) and _qps(c), message=lambda: f"no connection\n{a.out}\n{b.out}")
        time.sleep(0.7)
        (b if who == "client" else a).kill()
        if polls_on:
            wait_until(lambda: all("state ERR" in x for x in _qps(c)), message=lambda: f"no error: {_qps(c)}")
            b.kill()
        else:
            (a if who == "client" else b).wait(timeout=60, check=False)
    wait_until(lambda: not _qps(s) and not _qps(c), message="QPs left")
    args = f"-a {s.ip} -C 3 -V"
    both(s.node, c.node, f"rping -s {args}", f"rping -c {args}")


def _client(c, s):
    return serve(c.node, f"ib_write_bw -R -F -D 30 -s 65536 {s.ip}", wait=False)


def _qps(end):
    out = run_at(end.node, f"rdma resource show qp link {end.dev}").out
    return [x for x in out.splitlines() if " pid " in x]


@LONG
@BOTH
def test_access_error(ends, linked, server):
    """A Write to a wrong key, each way: a Terminate crosses the wire and both see the end."""
    a, b, *_ = linked
    exchange(b, a, 10)
    there = a("region 0 0 4096")
    b(f"write 0 8 {there['addr']} {there['key'] ^ 0x55550000}")
    a.event("DISCONNECTED")
    b.event("DISCONNECTED")


@LONG
@BOTH
def test_refused_read(ends, linked, server):
    """A Read of what may not be read: the requester's completion says so."""
    a, b, *_ = linked
    exchange(b, a, 10)
    there = a("region lw 0 4096")
    # siw looks for the key only, not for the right.
    key = there["key"] ^ 0x55550000 if server == "siw" else there["key"]
    b(f"read 0 8 {there['addr']} {key}")
    assert b.poll()["status"] != 0
    b.event("DISCONNECTED")


@LONG
def test_decoded(ends):
    """tshark understands every frame of all this, and at least 100 of each opcode were there."""
    with ends.siw.puppet() as a, ends.rurdma.puppet() as b:
        a(f"listen {PORT} {ends.siw.ip}")
        join(a, b, ends.siw.ip, PORT)
        # (tcpdump may miss one where all is slow.)
        for _ in range(110):
            exchange(b, a, 20, "se")
            exchange(a, b, 20)
            for flags in ("", " se"):
                key = a("region lwr 0 4096")
                exchange(b, a, 30, f"inv={key['key']}{flags}")
                a("dereg 1")
            there = a("region 0 524288 4096")
            b(f"write 0 100 {there['addr']} {there['key']}")
            b.good()
            b(f"read 0 100 {there['addr']} {there['key']}")
            b.good()
    d = ends.capture.decode()
    assert not d.malformed, d.malformed[:10]
    assert d.mpa >= {"request", "reply"}
    # Every frame of these streams is understood, but for what a program left behind that was killed.
    print(f"{len(d.parts)} frames are parts of another's FPDU, {len(d.again)} came again, {len(d.cut)} were cut off")
    assert not d.unread, d.unread[:10]
    assert len(d.cut) <= 4 * KILLS, d.cut[:20]
    # Terminates are counted in test_scripted_peer.
    for op in OPCODES.values():
        assert op == "Terminate" or d.opcodes[op] >= 100, d.opcodes


@LONG
@BOTH
@pytest.mark.parametrize("what", ["fadd 64 {addr} {key} 1", "cas 64 {addr} {key} 0 1", "writeimm 0 8 {addr} {key} 1"])
def test_siw_knows_no_rfc_7306(ends, linked, server, what):
    """
    It terminates: an atomic is flushed; a Write was complete before. (It says which operation it does not know,
    but on a little-endian machine it swaps the layer and the type of the error, and what arrives is one of MPA.)
    """
    a, b, *_ = linked
    siw, rurdma = (a, b) if server == "siw" else (b, a)
    exchange(b, a, 10)
    rurdma(what.format(**siw("region 0 524288 4096")))
    assert rurdma.poll()["status"] == (0 if what.startswith("writeimm") else FLUSHED)
    siw.event("DISCONNECTED")
    rurdma.event("DISCONNECTED")
