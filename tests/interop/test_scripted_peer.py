# SPDX-License-Identifier: GPL-2.0
"""rurdma and a peer that plays by no rules: a Python script over a TCP socket.

The puppet is a program with an ordinary QP on rurdma's side; the peer connects to
it, or is connected to. Whatever the peer says, the kernel log stays empty and
another connection of the same device goes on working.
"""

import contextlib
import errno
import random
import re
import struct
import time

import mpa_peer as mp
import pytest
from capture import Capture
from ends import Puppet, Refused, pd_of
from lab import PEER_PORT, PORT, bad_key, check_quote, connecting, echo, other
from mpa_peer import A, C, Closed, M, Peer, R, S, enhanced, fpdu
from rvm import wait_until

FLUSHED, TOO_LONG, PROTECTION = 5, 1, 4
WITH_INV = 8  # enum ibv_wc_flags
pytestmark = pytest.mark.usefixtures("harmless")


# --- establishing a connection, the peer as initiator -----------------------


@pytest.mark.parametrize("pd", [b"", b"x", bytes(range(200))], ids=len)
def test_revision_1(lab, pd):
    with lab.session(rev=1, pd=pd, reply=pd[::-1]) as s:
        assert pd_of(s.asked)[: len(pd)] == pd
        assert (s.reply.rev, s.reply.flags & (R | S | M)) == (1, 0)
        assert s.reply.data == pd[::-1]
        echo(s)


def test_revision_2_without_enhanced_data(lab):
    with lab.session(rev=2, flags=C, pd=b"abcd") as s:
        assert (s.reply.rev, s.reply.flags & S) == (2, 0)
        assert pd_of(s.asked)[:4] == b"abcd"
        echo(s)


@pytest.mark.parametrize(
    "asked,own,want",
    [
        # (IRD, ORD) of the request, of accept, of the reply
        ((5, 7), (4, 9), (7, 5)),
        ((1, 1), (4, 4), (4, 1)),
        ((0, 0), (4, 4), (4, 0)),
        ((mp.UNKNOWN_DEPTH, mp.UNKNOWN_DEPTH), (4, 4), (mp.UNKNOWN_DEPTH, mp.UNKNOWN_DEPTH)),
    ],
)
def test_read_depths(lab, asked, own, want):
    with lab.session(rev=2, flags=C | S, pd=enhanced(*asked) + b"pd", depths=own) as s:
        assert s.reply.flags & S
        assert s.reply.rtr == 0
        assert s.reply.depths == want
        assert pd_of(s.asked)[:2] == b"pd"
        echo(s)


@pytest.mark.parametrize("form", [mp.RTR_SEND, mp.RTR_WRITE, mp.RTR_READ, mp.RTR_SEND | mp.RTR_WRITE | mp.RTR_READ])
def test_peer_to_peer(lab, form):
    """Each ready-to-receive indication: taken, told the program, and no message of its own."""
    with lab.session(rev=2, flags=C | S, pd=enhanced(4, 4, A | form), up=False) as s:
        assert s.reply.rtr == A | form
        with pytest.raises(Refused):
            s.p("event 300")
        s.p("send 0 10")
        assert s.peer.quiet(0.3)
        if form & mp.RTR_SEND:
            s.peer.send()
        elif form & mp.RTR_WRITE:
            s.peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
        else:
            s.peer.fpdu(mp.read_request(1, 0x1234, 0x5678, 0, 0, 0))
        s.p.event("ESTABLISHED")
        got = [s.peer.recv()]
        if form == mp.RTR_READ:
            got.append(s.peer.recv())
            (response,) = [g for g in got if g.op == mp.READ_RESP]
            assert (response.stag, response.to, response.payload, response.last) == (0x1234, 0x5678, b"", True)
        assert [len(g.payload) for g in got if g.op == mp.SEND] == [10]
        s.p.good()
        echo(s)


def test_ready_indication_that_never_comes(lab):
    with lab.session(rev=2, flags=C | S, pd=enhanced(4, 4, A | mp.RTR_WRITE), up=False) as s:
        start = time.monotonic()
        s.peer.wait_closed()
        assert time.monotonic() - start < 12


def test_responder_waits_for_the_first_fpdu(lab):
    """RFC 5044 section 7.1.2: the initiator speaks first; for a moment at least, see the driver."""
    with lab.session() as s:
        s.p("send 0 10")
        s.peer.send(b"")  # no buffer for it yet is an error, so a Write would do better
        with pytest.raises(Closed):
            while s.peer.recv():
                pass
    with lab.session() as s:
        s.p("send 0 10")
        assert s.peer.quiet(0.03)
        s.peer.fpdu(mp.tagged(mp.WRITE, s.key, s.addr, b"first"))
        assert len(s.peer.recv().payload) == 10
        s.p.good()
        assert bytes.fromhex(s.p("peek 0 5")["data"]) == b"first"


def test_responder_may_begin_if_the_initiator_does_not(lab):
    """Not peer to peer, and the program on our side is the one that sends first: after a grace period."""
    with lab.session() as s:
        s.p("send 0 10")
        assert len(s.peer.recv().payload) == 10
        s.p.good()
        echo(s)


@pytest.mark.parametrize("flags", [0, C])
def test_crc_is_on_if_either_asks(lab, flags):
    with lab.session(flags=flags) as s:
        assert s.reply.flags & C
        echo(s)


@pytest.mark.parametrize("size", [1, 400, 512, 1500, 20000])
def test_markers(lab, size):
    """The peer asks for markers: every 512 bytes of the stream has one (checked in recv_ulpdu)."""
    with lab.session(flags=C | M) as s:
        assert s.reply.flags & M == 0
        for i in range(4):
            echo(s, size, i)
        assert s.peer.marker_count >= 4 * size // 512
        # Read responses have them, too.
        s.p("fill 0 30000 7")
        s.peer.fpdu(mp.read_request(1, 0xABCD, 0, 30000, s.key, s.addr))
        first, got = s.peer.recv_message()
        assert (first.op, first.stag) == (mp.READ_RESP, 0xABCD)
        assert got.hex() == s.p("peek 0 30000")["data"]


@pytest.mark.parametrize("rev,flags,data", [(1, C, b""), (2, C | S, enhanced(3, 3)), (2, C | S, enhanced(3, 3, A | 2))])
def test_puppet_rejects(lab, rev, flags, data):
    lab.puppet("destroy")
    with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
        peer.frame(rev=rev, flags=flags, pd=data)
        lab.puppet.request()
        lab.puppet(f"reject {b'no thanks'.hex()}")
        reply = peer.recv_frame()
        assert reply.key == mp.REPLY
        assert reply.flags & R
        assert reply.rev == rev
        assert reply.pd == b"no thanks"
        assert peer.wait_closed() == b""


def test_reject_decoded(lab):
    """tshark reads the reject as one."""
    lab.puppet("destroy")
    with Capture(lab.b.netdev, lab.b.name) as cap:
        with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
            peer.frame()
            lab.puppet.request()
            lab.puppet(f"reject {b'no thanks'.hex()}")
            peer.recv_frame()
            peer.wait_closed()
        d = cap.decode()
    assert d.mpa == {"request", "reject"}
    assert not d.malformed, d.malformed


def test_longest_private_data(lab):
    """512 bytes are legal; the core of the kernel passes on less."""
    pd = bytes(i & 0xFF for i in range(512))
    before = lab.a.counter("private_data_cut")
    with lab.session(pd=pd) as s:
        assert lab.a.counter("private_data_cut") == before + 1
        got = pd_of(s.asked)
        assert len(got) >= 200
        assert got == pd[: len(got)]
        echo(s)


BAD_REQUESTS = {
    "key": mp.mpa_frame(key=b"MPA ID Rex Frame"),
    "key of a reply": mp.mpa_frame(key=mp.REPLY),
    "not MPA at all": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "revision 0": mp.mpa_frame(rev=0),
    "revision 3": mp.mpa_frame(rev=3),
    "513 bytes of private data": mp.mpa_frame(pd=bytes(513)),
    "65535 bytes of private data": mp.mpa_frame(pd_len=65535),
    "enhanced data without room": mp.mpa_frame(rev=2, flags=C | S, pd=b"abc"),
    "enhanced data that is not there": mp.mpa_frame(rev=2, flags=C | S),
}


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_bad_request(lab, what):
    """Closed at once, without an answer; the program hears nothing."""
    lab.puppet("destroy")
    with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
        start = time.monotonic()
        with contextlib.suppress(Closed):
            peer.raw(BAD_REQUESTS[what])
        assert peer.wait_closed() == b""
        assert time.monotonic() - start < 4
    with pytest.raises(Refused):
        lab.puppet("event 200")


def test_request_in_pieces(lab):
    lab.puppet("destroy")
    with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
        for b in mp.mpa_frame(pd=b"slow"):
            peer.raw(bytes([b]))
            time.sleep(0.002)
        assert pd_of(lab.puppet.request())[:4] == b"slow"


def test_request_that_never_ends(lab):
    lab.puppet("destroy")
    with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
        start = time.monotonic()
        peer.raw(mp.mpa_frame()[:10])
        assert peer.wait_closed() == b""
        assert 2 < time.monotonic() - start < 12


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("state", ["before", "in the request", "before the answer", "before the first message"])
def test_initiator_goes_away(lab, state, how):
    lab.puppet("destroy")
    peer = Peer.connect(lab.b.name, lab.a.ip, PORT)
    frame = mp.mpa_frame()
    if state == "in the request":
        peer.raw(frame[:12])
    elif state != "before":
        peer.raw(frame)
        lab.puppet.request()
    if state == "before the first message":
        lab.puppet("accept 4 4 -")
        peer.recv_frame()
    time.sleep(0.05)
    getattr(peer, how)()
    time.sleep(0.2)
    if state == "before the answer":
        with contextlib.suppress(Refused):
            lab.puppet("accept 4 4 -")
    lab.puppet("destroy")
    with lab.session() as s:
        echo(s)


# --- the peer as responder --------------------------------------------------


def test_request_of_revision_2(lab):
    with connecting(lab, b"hello", (3, 5)) as (_, req):
        assert (req.key, req.rev) == (mp.REQUEST, 2)
        assert req.flags & (C | S) == C | S
        assert req.flags & (M | R) == 0
        assert req.depths == (3, 5)
        assert req.rtr & A
        assert req.pd == b"hello"


@pytest.mark.parametrize("form", [mp.RTR_SEND, mp.RTR_WRITE, mp.RTR_READ])
def test_ready_indication_that_the_peer_wants(lab, form):
    with connecting(lab) as (peer, req):
        assert req.rtr & form
        peer.frame(key=mp.REPLY, rev=2, flags=C | S, pd=enhanced(4, 4, A | form) + b"welcome")
        up = lab.puppet.event("ESTABLISHED")
        assert pd_of(up)[:7] == b"welcome"
        first = peer.recv()
        if form == mp.RTR_WRITE:
            assert (first.op, first.payload, first.last) == (mp.WRITE, b"", True)
        elif form == mp.RTR_SEND:
            assert (first.op, first.payload, first.msn) == (mp.SEND, b"", 1)
        else:
            assert (first.op, first.qn, first.msn) == (mp.READ_REQ, 1, 1)
            sink, to, size, _, _ = struct.unpack(">IQIIQ", first.payload)
            assert size == 0
            peer.fpdu(mp.tagged(mp.READ_RESP, sink, to))
        # Nobody posted it, so nobody hears of it.
        with pytest.raises(Refused):
            lab.puppet("poll 100")
        lab.puppet("recv 0 100")
        peer.send(b"responder first")
        assert lab.puppet.good()["len"] == 15
        lab.puppet("send 0 5")
        second = peer.recv()
        assert (second.op, second.msn) == (mp.SEND, 2 if form == mp.RTR_SEND else 1)
        lab.puppet.good()


def test_markers_asked_by_the_responder(lab):
    with connecting(lab) as (peer, _):
        peer.frame(key=mp.REPLY, rev=2, flags=C | S | M, pd=enhanced(4, 4, A | mp.RTR_WRITE))
        peer.markers = True
        lab.puppet.event("ESTABLISHED")
        assert peer.recv().op == mp.WRITE
        lab.puppet("fill 0 9000 3")
        lab.puppet("send 0 9000")
        assert peer.recv_message()[1].hex() == lab.puppet("peek 0 9000")["data"]
        assert peer.marker_count >= 9000 // 512


def test_depths_of_the_reply(lab):
    with connecting(lab, depths=(4, 8)) as (peer, _):
        peer.frame(key=mp.REPLY, rev=2, flags=C | S, pd=enhanced(2, 3, A | mp.RTR_WRITE))
        lab.puppet.event("ESTABLISHED")
        peer.recv()
        # No more reads in flight than the peer takes.
        for i in range(4):
            lab.puppet(f"read {i * 64} 64 0 {0x55}")
        assert [peer.recv().op for _ in range(2)] == [mp.READ_REQ] * 2
        assert peer.quiet(0.5)


@pytest.mark.parametrize(
    "what,want",
    [
        ("ready", (2, 0, 7)),
        ("not peer to peer", (2, 0, 7)),
        ("depth", (2, 0, 6)),
    ],
)
def test_reply_that_cannot_be_met(lab, what, want):
    """RFC 6581 section 8: a Terminate of the LLP layer."""
    data = {
        "ready": enhanced(4, 4, A),
        "not peer to peer": enhanced(4, 4),
        "depth": enhanced(4, 16000, A | mp.RTR_WRITE),
    }[what]
    with connecting(lab) as (peer, _):
        peer.frame(key=mp.REPLY, rev=2, flags=C | S, pd=data)
        assert peer.recv_terminate().error == want
        assert lab.puppet.event()["event"] in ("CONNECT_ERROR", "UNREACHABLE", "REJECTED")


@pytest.mark.parametrize("pd", [b"", b"go away"])
def test_peer_rejects(lab, pd):
    with connecting(lab) as (peer, _):
        peer.frame(key=mp.REPLY, rev=2, flags=C | S | R, pd=enhanced(4, 4) + pd)
        e = lab.puppet.event("REJECTED")
        assert pd_of(e)[: len(pd)] == pd
        assert e["status"] != 0
        assert peer.wait_closed() == b""


BAD_REPLIES = {
    "key": mp.mpa_frame(key=b"MPA ID Rep Frameq"[1:], rev=2),
    "key of a request": mp.mpa_frame(key=mp.REQUEST, rev=2, flags=C | S, pd=enhanced(4, 4, A | 14)),
    "revision 0": mp.mpa_frame(key=mp.REPLY, rev=0),
    "revision 9": mp.mpa_frame(key=mp.REPLY, rev=9, flags=C | S, pd=enhanced(4, 4)),
    "revision 1 to a request of 2": mp.mpa_frame(key=mp.REPLY, rev=1),
    "too much private data": mp.mpa_frame(key=mp.REPLY, rev=2, flags=C | S, pd=bytes(600)),
    "no room for the enhanced data": mp.mpa_frame(key=mp.REPLY, rev=2, flags=C | S, pd=b"x"),
}


@pytest.mark.parametrize("what", BAD_REPLIES)
def test_bad_reply(lab, what):
    with connecting(lab) as (peer, _):
        with contextlib.suppress(Closed):
            peer.raw(BAD_REPLIES[what])
        assert peer.wait_closed() == b""
        e = lab.puppet.event()
        assert e["event"] in ("CONNECT_ERROR", "UNREACHABLE", "REJECTED")
        assert e["status"] != 0


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("upto", [0, 10, 22])
def test_responder_goes_away(lab, upto, how):
    with connecting(lab) as (peer, _):
        peer.raw(mp.mpa_frame(key=mp.REPLY, rev=2, flags=C | S, pd=enhanced(4, 4))[:upto])
        getattr(peer, how)()
        assert lab.puppet.event()["event"] in ("CONNECT_ERROR", "UNREACHABLE", "REJECTED")


def test_reply_that_never_comes(lab):
    """The peer takes the connection and is silent: no longer than the 10 s that rurdma.rst promises."""
    with connecting(lab) as (peer, _):
        start = time.monotonic()
        e = lab.puppet.event()
        took = time.monotonic() - start
        assert (e["event"], e["status"]) == ("UNREACHABLE", -errno.ETIMEDOUT)
        assert 8 < took < 15
        assert peer.wait_closed() == b""


def test_nobody_listens(lab):
    lab.puppet("destroy")
    lab.puppet(f"connect {lab.b.ip} 7999 4 4 -")
    assert lab.puppet.event()["event"] in ("CONNECT_ERROR", "UNREACHABLE", "REJECTED")


# --- a peer that is no more -------------------------------------------------


def timers(node, port):
    """The timers of a node's connections to or from a port, as ss tells them."""
    out = node.run(f"ss -Htno state established '( sport = :{port} or dport = :{port} )'").out
    return [m[1] if (m := re.search(r"timer:\((\w+),", x)) else x for x in out.splitlines()]


def test_keepalive_is_on(lab):
    """At both ends: a connection that nobody uses asks from time to time whether the peer is there."""
    # What was sent last may not be acknowledged yet: then it is that timer which runs.
    with lab.session():
        wait_until(lambda: timers(lab.a, PORT) == ["keepalive"], 5, lambda: f"timers {timers(lab.a, PORT)}")
    with connecting(lab) as (peer, _):
        peer.frame(key=mp.REPLY, rev=2, flags=C | S, pd=enhanced(4, 4, A | mp.RTR_WRITE))
        lab.puppet.event("ESTABLISHED")
        wait_until(lambda: timers(lab.a, PEER_PORT) == ["keepalive"], 5, lambda: f"timers {timers(lab.a, PEER_PORT)}")


# --- what a peer may do in the stream ---------------------------------------


def test_segments_pieces_and_placement(lab):
    """A message in segments, segments in pieces, several in one piece; Writes and Reads between them."""
    with lab.session() as s:
        s.p("recv 4096 1000")
        s.p("recv 8192 1000")
        one = [mp.send(1, b"a" * 300, last=False), mp.send(1, b"b" * 77, mo=300, last=False), mp.send(1, b"c", mo=377)]
        stream = b"".join(fpdu(x) for x in one)
        stream += fpdu(mp.tagged(mp.WRITE, s.key, s.addr, b"w" * 33, last=False))
        stream += fpdu(mp.tagged(mp.WRITE, s.key, s.addr + 33, b"W" * 5))
        stream += fpdu(mp.read_request(1, 77, 1000, 38, s.key, s.addr))
        stream += fpdu(mp.send(2, b"", op=mp.SEND_SE))
        for i in range(0, len(stream), 13):
            s.peer.raw(stream[i : i + 13])
        assert [s.p.good()["len"] for _ in range(2)] == [378, 0]
        assert bytes.fromhex(s.p("peek 4096 378")["data"]) == b"a" * 300 + b"b" * 77 + b"c"
        r = s.peer.recv()
        assert (r.op, r.stag, r.to, r.payload) == (mp.READ_RESP, 77, 1000, b"w" * 33 + b"W" * 5)
        s.peer.msn = 3
        echo(s)


def test_read_by_us(lab):
    """Requests numbered from 1, responses in pieces of the peer's choice."""
    with lab.session() as s:
        s.peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
        for n in (1, 2):
            s.p(f"read 0 1000 {0x12345678} {0x99}")
            q = s.peer.recv()
            sink, to, size, stag, src = struct.unpack(">IQIIQ", q.payload)
            assert (q.op, q.qn, q.msn, size, stag, src) == (mp.READ_REQ, 1, n, 1000, 0x99, 0x12345678)
            data = random.Random(n).randbytes(1000)
            s.peer.fpdu(mp.tagged(mp.READ_RESP, sink, to, data[:1], last=False))
            s.peer.fpdu(mp.tagged(mp.READ_RESP, sink, to + 1, data[1:900], last=False))
            s.peer.fpdu(mp.tagged(mp.READ_RESP, sink, to + 900, data[900:]))
            s.p.good()
            assert bytes.fromhex(s.p("peek 0 1000")["data"]) == data


def test_zero_length_operations(lab):
    """They address nothing, so neither key nor address is looked at."""
    with lab.session() as s:
        s.p("recv 0 0")
        s.peer.send()
        assert s.p.good()["len"] == 0
        s.peer.fpdu(mp.tagged(mp.WRITE, 0xDEAD, 0xFFFFFFFFFFFFFFFF))
        s.peer.fpdu(mp.read_request(1, 5, 6, 0, 0xDEAD, 0xFFFFFFFFFFFFFFFF))
        r = s.peer.recv()
        assert (r.op, r.stag, r.to, r.payload) == (mp.READ_RESP, 5, 6, b"")
        echo(s)


def test_reserved_bits_are_not_looked_at(lab):
    with lab.session() as s:
        s.p("recv 0 100")
        u = bytearray(mp.send(1, b"x" * 20))
        u[0] |= 0x3C
        u[1] |= 0x30
        u[2:6] = b"\xff" * 4
        s.peer.fpdu(bytes(u))
        assert s.p.good()["len"] == 20
        s.peer.msn = 2
        echo(s)


# --- errors in the stream ---------------------------------------------------


def write(s, size=8, off=0):
    return mp.tagged(mp.WRITE, s.key, (s.addr + off) & (1 << 64) - 1, b"w" * size)


def read(s, size=8, off=0, msn=1):
    return mp.read_request(msn, 1, 0, size, s.key, (s.addr + off) & (1 << 64) - 1)


END = 1 << 20
TOP = (1 << 64) - 4
# What the peer sends, and the Terminate that must answer it: layer, type, code.
ERRORS = {
    "DDP version, tagged": (lambda s: mp.tagged(mp.WRITE, s.key, s.addr, b"x", ddp_version=2), (1, 1, 4)),
    "DDP version, untagged": (lambda s: mp.send(1, b"x", ddp_version=0), (1, 2, 6)),
    "RDMAP version": (lambda s: mp.send(1, b"x", rdmap_version=2), (0, 2, 5)),
    "RDMAP version, tagged": (lambda s: mp.tagged(mp.WRITE, s.key, s.addr, b"x", rdmap_version=0), (0, 2, 5)),
    "opcode 15": (lambda s: mp.send(1, b"x", op=15), (0, 2, 6)),
    "opcode 12": (lambda s: mp.untagged(12, 0, 1, bytes(8)), (0, 2, 6)),
    "Write, untagged": (lambda s: mp.untagged(mp.WRITE, 0, 1, b"x"), (0, 2, 6)),
    "Send, tagged": (lambda s: mp.tagged(mp.SEND, s.key, s.addr, b"x"), (0, 2, 6)),
    "Read response that nobody asked for": (lambda s: mp.tagged(mp.READ_RESP, s.key, s.addr, b"x"), (0, 2, 6)),
    "queue 4": (lambda s: mp.untagged(mp.SEND, 4, 1, b"x"), (1, 2, 1)),
    "queue 2^32-1": (lambda s: mp.untagged(mp.SEND, 0xFFFFFFFF, 1, b"x"), (1, 2, 1)),
    "MSN 0": (lambda s: mp.send(0, b"x"), (1, 2, 3)),
    "MSN too high": (lambda s: mp.send(7, b"x"), (1, 2, 3)),
    "MSN of a read": (lambda s: read(s, msn=2), (1, 2, 3)),
    "MO of a first segment": (lambda s: mp.send(1, b"x", mo=4), (1, 2, 4)),
    "too long": (lambda s: mp.send(1, b"x" * 101), (1, 2, 5)),
    "Write: key": (lambda s: write(bad_key(s)), (1, 1, 0)),
    "Write: key 0": (lambda s: mp.tagged(mp.WRITE, 0, s.addr, b"x"), (1, 1, 0)),
    "Write: one byte too far": (lambda s: write(s, 8, END - 7), (1, 1, 1)),
    "Write: before the region": (lambda s: write(s, 8, -1), (1, 1, 1)),
    "Write: wraps": (lambda s: mp.tagged(mp.WRITE, s.key, TOP, b"x" * 8), (1, 1, 3)),
    "Write: not allowed": (lambda s: write(other(s, "r")), (0, 1, 2)),
    "Write: other domain": (lambda s: write(other(s, "xlwr")), (1, 1, 2)),
    "Read: key": (lambda s: read(bad_key(s)), (0, 1, 0)),
    "Read: one byte too far": (lambda s: read(s, 8, END - 7), (0, 1, 1)),
    "Read: wraps": (lambda s: mp.read_request(1, 1, 0, 8, s.key, TOP), (0, 1, 4)),
    "Read: not allowed": (lambda s: read(other(s, "lw")), (0, 1, 2)),
    "Read: other domain": (lambda s: read(other(s, "xlwr")), (0, 1, 3)),
    "invalidates a wrong key": (lambda s: mp.send(1, b"x", op=mp.SEND_INV, word=s.key ^ 0x5A5A0000), (0, 1, 0)),
    "invalidates what cannot be": (lambda s: mp.send(1, b"x", op=mp.SEND_INV, word=s.key), (0, 1, 9)),
}


@pytest.mark.parametrize("what", ERRORS)
def test_terminate(lab, what):
    build, want = ERRORS[what]
    with lab.session() as s:
        s.p("recv 4096 100")
        ulpdu = build(s)
        s.peer.fpdu(ulpdu)
        t = s.peer.recv_terminate()
        assert t.error == want
        check_quote(t, ulpdu)
        lab.gone()
        assert s.p.poll()["status"] == (TOO_LONG if what == "too long" else FLUSHED)


def test_local_fault(lab):
    """A receive that is not in its region: the peer hears that something is wrong here, and nothing of its segment."""
    with lab.session() as s:
        small = s.p("region lw 8192 4096")
        before = s.p("sum 16384 100")
        s.p(f"recv 16384 100 {small['lkey']}")
        ulpdu = mp.send(1, b"x" * 20)
        s.peer.fpdu(ulpdu)
        t = s.peer.recv_terminate()
        assert t.error == (0, 0, 0)
        check_quote(t, ulpdu)
        lab.gone()
        assert s.p.poll()["status"] == PROTECTION
        assert s.p("sum 16384 100") == before


@pytest.mark.parametrize("op", [mp.SEND_INV, mp.SEND_SE_INV])
def test_send_with_invalidate(lab, op):
    """The peer writes through a window that is open to it, and closes it: the completion says which."""
    with lab.session() as s:
        window = s.p("window 8192 4096")
        s.p.good()
        s.p("recv 4096 100")
        s.peer.fpdu(mp.tagged(mp.WRITE, window["key"], window["addr"], b"through the window"))
        s.peer.send(b"closed", op=op, word=window["key"])
        wc = s.p.good()
        assert (wc["len"], wc["flags"] & WITH_INV, wc["inv"]) == (6, WITH_INV, window["key"])
        assert bytes.fromhex(s.p("peek 8192 18")["data"]) == b"through the window"
        echo(s)
        s.peer.fpdu(mp.tagged(mp.WRITE, window["key"], window["addr"], b"once more"))
        assert s.peer.recv_terminate().error == (1, 1, 0)
        lab.gone()
        assert bytes.fromhex(s.p("peek 8192 18")["data"]) == b"through the window"


def test_no_receive_buffer(lab):
    with lab.session() as s:
        u = mp.send(1, b"nobody waits")
        s.peer.fpdu(u)
        t = s.peer.recv_terminate()
        assert t.error == (1, 2, 2)
        check_quote(t, u)
        lab.gone()


def test_mo_of_a_second_segment(lab):
    for mo in (0, 9, 11):
        with lab.session() as s:
            s.p("recv 4096 100")
            s.peer.fpdu(mp.send(1, b"x" * 10, last=False))
            s.peer.fpdu(mp.send(1, b"x" * 10, mo=mo))
            assert s.peer.recv_terminate().error == (1, 2, 4)
            lab.gone()


def test_mixed_messages(lab):
    """A message begins inside another one."""
    with lab.session() as s:
        s.p("recv 4096 100")
        s.peer.fpdu(mp.send(1, b"x" * 10, last=False))
        s.peer.fpdu(write(s))
        assert s.peer.recv_terminate().error[0] in (0, 1)
        lab.gone()


@pytest.mark.parametrize("where", ["CRC", "payload", "header"])
def test_bad_crc(lab, where):
    with lab.session() as s:
        s.p("recv 4096 100")
        frame = bytearray(fpdu(mp.send(1, b"x" * 50)))
        # The reserved word is in no other check.
        frame[{"CRC": -1, "payload": 40, "header": 5}[where]] ^= 1
        s.peer.raw(frame)
        t = s.peer.recv_terminate()
        assert t.error == (2, 0, 2)
        check_quote(t, b"")
        lab.gone()
        assert s.p.poll()["status"] == FLUSHED


def test_pad_is_summed(lab):
    """Padding with other bytes than zero is odd but summed; a wrong sum is an error."""
    with lab.session() as s:
        s.p("recv 4096 100")
        frame = bytearray(fpdu(mp.send(1, b"x")))
        frame[-5] = 0x55
        s.peer.raw(frame)
        assert s.peer.recv_terminate().error == (2, 0, 2)
        lab.gone()


@pytest.mark.parametrize("length", [0, 1, 2, 13, 17])
def test_segment_shorter_than_its_header(lab, length):
    with lab.session() as s:
        s.p("recv 4096 100")
        s.peer.raw(fpdu(mp.send(1, b"")[:length]) + bytes(64))
        with contextlib.suppress(Closed):
            assert s.peer.recv_terminate().error[0] in (0, 1, 2)
        lab.gone()


@pytest.mark.parametrize("size", [0, 27, 29, 100])
def test_read_request_of_a_wrong_length(lab, size):
    with lab.session() as s:
        s.peer.fpdu(mp.untagged(mp.READ_REQ, 1, 1, bytes(size)))
        assert s.peer.recv_terminate().error[0] in (0, 1)
        lab.gone()


def test_more_reads_than_granted(lab):
    """RFC 5041 section 7.1: no buffer in queue 1 for the request."""
    with lab.session(rev=2, flags=C | S, pd=enhanced(1, 1), depths=(1, 1), rcvbuf=4096) as s:
        assert s.reply.depths[0] == 1
        s.peer.raw(b"".join(fpdu(read(s, END, msn=i)) for i in range(1, 9)))
        seg = s.peer.recv()
        with contextlib.suppress(Closed):
            while seg.op != mp.TERMINATE:
                seg = s.peer.recv()
        assert seg.op == mp.TERMINATE
        assert seg.error == (1, 2, 2)
        lab.gone()


@pytest.mark.parametrize("error", [(0, 1, 0), (0, 0, 0), (1, 2, 2), (2, 0, 2), (7, 15, 255)])
def test_peer_terminates(lab, error):
    """No answer to a Terminate but the end."""
    with lab.session() as s:
        s.p("recv 4096 100")
        s.peer.fpdu(mp.terminate(*error))
        assert s.peer.wait_closed() == b""
        lab.gone()
        assert s.p.poll()["status"] == FLUSHED


def test_read_that_the_peer_refuses(lab):
    """The Terminate quotes our request: it completes with an access error."""
    with lab.session() as s:
        s.peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
        s.p(f"read 0 100 0 {0x1234}")
        q = s.peer.recv_ulpdu()
        body = bytes([0x01, 0x00, 0xE0, 0]) + struct.pack(">H", len(q)) + q[:18] + q[18:46]
        s.peer.fpdu(mp.untagged(mp.TERMINATE, 2, 1, body))
        assert s.p.poll()["status"] == 10
        lab.gone()


BAD_RESPONSES = {
    "key": lambda sink, to: mp.tagged(mp.READ_RESP, sink ^ 0x100, to, b"x" * 100),
    "offset": lambda sink, to: mp.tagged(mp.READ_RESP, sink, to + 1, b"x" * 99),
    "more than asked for": lambda sink, to: mp.tagged(mp.READ_RESP, sink, to, b"x" * 101),
    "less than asked for": lambda sink, to: mp.tagged(mp.READ_RESP, sink, to, b"x" * 99),
}


@pytest.mark.parametrize("what", BAD_RESPONSES)
def test_bad_read_response(lab, what):
    with lab.session() as s:
        s.peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
        s.p("fill 0 300 9")
        before = s.p("sum 100 200")
        s.p(f"read 0 100 0 {0x1234}")
        sink, to, *_ = struct.unpack(">IQIIQ", s.peer.recv().payload)
        s.peer.fpdu(BAD_RESPONSES[what](sink, to))
        assert s.peer.recv_terminate().error[0] in (0, 1)
        lab.gone()
        assert s.p.poll()["status"] != 0
        assert s.p("sum 100 200") == before


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("cut", [0, 1, 10, 25, 60, 75])
def test_stream_ends_inside_a_segment(lab, cut, how):
    with lab.session() as s:
        s.p("recv 4096 100")
        s.peer.raw(fpdu(mp.send(1, b"x" * 50))[:cut])
        time.sleep(0.02)
        getattr(s.peer, how)()
        lab.gone()
        assert s.p.poll()["status"] == FLUSHED


def test_puppet_disconnects(lab):
    with lab.session() as s:
        echo(s)
        s.p("disconnect")
        assert s.peer.wait_closed() == b""
    lab.gone(error=False)


def test_program_dies_in_the_stream(lab):
    """Killed with a connection and work in its queues: the peer sees the end."""
    with Puppet(lab.a) as p:
        p(f"listen {PORT + 2}")
        with Peer.connect(lab.b.name, lab.a.ip, PORT + 2) as peer:
            peer.frame()
            p.request()
            p("accept 4 4 -")
            peer.recv_frame()
            p("recv 0 100")
            p.kill()
            peer.wait_closed()


@pytest.mark.long
def test_decoded(lab, pair):
    """tshark understands a hundred connections and more that end with a Terminate."""
    pair.offloads_off()
    with Capture(lab.b.netdev, lab.b.name) as cap:
        # (tcpdump may miss one where all is slow.)
        for i in range(110):
            with lab.session(rev=2, flags=C | S, pd=enhanced(4, 4)) as s:
                s.peer.fpdu(write(bad_key(s)) if i % 2 else read(bad_key(s)))
                s.peer.recv_terminate()
        d = cap.decode()
    assert not d.malformed, d.malformed[:10]
    assert not d.unread and not d.cut, (d.unread[:10], d.cut[:10])
    assert d.mpa >= {"request", "reply"}
    assert d.opcodes["Terminate"] >= 100, (d.opcodes, d.parts[:10], d.again[:10])
