# SPDX-License-Identifier: GPL-2.0
"""The responder of rurdma_roce and a peer that plays by no rules (IBTA volume 1, sections 9.6 to 9.9).

The peer is a Python script over a raw socket, the puppet a program with a QP that was connected by hand. Whatever
the peer says, the kernel log stays empty and another connection of the same device goes on working. The requester
is in test_roce_requester.py.
"""

import random
import socket
import struct

import pytest
import roce_peer as rp
from ends import Refused
from roce_lab import (
    ERROR,
    EVENT_ACCESS,
    EVENT_ESTABLISHED,
    EVENT_REQUEST,
    FLUSHED,
    MTU,
    PEER_QPN,
    RQ_PSN,
    TOO_LONG,
    extra_address,
)
from roce_peer import NAK_ACCESS, NAK_INVALID, NAK_SEQUENCE, RNR, atomic_eth, deth, ieth, imm, plus, reth

pytestmark = pytest.mark.usefixtures("roce_harmless")
SIZE = 1 << 20
TOP = (1 << 64) - 4


def pieces(data, n=MTU):
    return [data[i : i + n] for i in range(0, len(data), n)]


def u64(b):
    return struct.unpack("=Q", b)[0]


# --- what is done with requests ------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3, 4, 1023, MTU])
def test_send(roce_lab, n):
    """A message of one packet; the acknowledge has its number and counts it."""
    with roce_lab.qp() as s:
        s.works(n)
        s.works(n)
        assert s.msn == 2


def test_send_in_packets(roce_lab):
    """FIRST, MIDDLE, LAST: each is acknowledged, and the message is counted at its end."""
    data = random.randbytes(3 * MTU + 77)
    with roce_lab.qp() as s:
        s.p("recv 4096 8192")
        one, two, three, four = pieces(data)
        s.told(s.ask(rp.SEND_FIRST, payload=one))
        s.told(s.ask(rp.SEND_MIDDLE, payload=two))
        s.told(s.ask(rp.SEND_MIDDLE, payload=three))
        assert s.msn == 0
        s.nothing_completed()
        s.told(s.ask(rp.SEND_LAST, payload=four))
        assert s.msn == 1
        assert s.p.good()["len"] == len(data)
        assert s.peek(4096, len(data)) == data


def test_immediate_data(roce_lab):
    """With a SEND of one packet, with one of two, with a WRITE."""
    with_imm = 2  # IBV_WC_WITH_IMM
    with roce_lab.qp() as s:
        for _ in range(3):
            s.p("recv 4096 8192")
        s.told(s.ask(rp.SEND_ONLY_IMM, imm(0x11223344), payload=b"abc"))
        s.ask(rp.SEND_FIRST, payload=bytes(MTU), ack=False)
        s.told(s.ask(rp.SEND_LAST_IMM, imm(5), payload=b"d"))
        s.told(s.ask(rp.WRITE_ONLY_IMM, reth(s.addr, s.key, 7), imm(0xFFFFFFFF), payload=b"written"))
        for n, value in ((3, 0x11223344), (MTU + 1, 5), (7, 0xFFFFFFFF)):
            wc = s.p.good()
            assert (wc["len"], wc["imm"], wc["flags"] & with_imm) == (n, value, with_imm)
        assert s.peek(0, 7) == b"written"


def test_write(roce_lab):
    """Of one packet and of several; the program is told nothing."""
    data = random.randbytes(2 * MTU + 5)
    with roce_lab.qp() as s:
        s.told(s.ask(rp.WRITE_ONLY, reth(s.addr + 5000, s.key, 9), payload=b"nine byte"))
        assert s.peek(4999, 11) == b"\0nine byte\0"
        one, two, three = pieces(data)
        s.ask(rp.WRITE_FIRST, reth(s.addr + 7, s.key, len(data)), payload=one, ack=False)
        s.ask(rp.WRITE_MIDDLE, payload=two, ack=False)
        s.told(s.ask(rp.WRITE_LAST, payload=three))
        assert s.peek(7, len(data)) == data
        s.p("recv 0 10")
        s.ask(rp.WRITE_FIRST, reth(s.addr, s.key, MTU + 1), payload=bytes(MTU), ack=False)
        s.told(s.ask(rp.WRITE_LAST_IMM, imm(1), payload=b"z"))
        assert s.p.good()["len"] == MTU + 1
        s.nothing_completed()


@pytest.mark.parametrize("n", [0, 1, 5, MTU, MTU + 1, 5 * MTU - 3])
def test_read(roce_lab, n):
    """The answer has the number of the request and those behind it; its first and last packets an AETH."""
    with roce_lab.qp() as s:
        s.p("fill 300 8192 7")
        psn = s.ask(rp.READ_REQUEST, reth(s.addr + 300, s.key, n), packets=max(1, -(-n // MTU)))
        assert s.read_answer(psn, n) == s.peek(300, n)
        s.works()


def test_atomics(roce_lab):
    """The answer is what was there before, and the operation has happened."""
    with roce_lab.qp() as s:
        addr, key = s.region("lwra")
        s.poke(8, struct.pack("=QQQ", 1, 1000, 1))

        def atomic(op, swap_add, compare=0):
            psn = s.ask(op, atomic_eth(addr + 16, key, swap_add, compare))
            a = s.recv_answer()
            assert (a.op, a.psn, a.syndrome, a.msn) == (rp.ATOMIC_ACK, psn, rp.ACK, s.msn)
            return a.original, u64(s.peek(16, 8))

        assert atomic(rp.FETCH_ADD, 7) == (1000, 1007)
        assert atomic(rp.CMP_SWAP, 5, compare=1006) == (1007, 1007)
        assert atomic(rp.CMP_SWAP, 5, compare=1007) == (1007, 5)
        assert atomic(rp.FETCH_ADD, (1 << 64) - 6) == (5, (1 << 64) - 1)
        assert (u64(s.peek(8, 8)), u64(s.peek(24, 8))) == (1, 1)
        s.works()


def test_flush_and_atomic_write(roce_lab):
    """Annex A19: answered by an empty read response. A FLUSH needs a right, and is refused without it."""
    with roce_lab.qp() as s:
        psn = s.ask(rp.ATOMIC_WRITE, reth(s.addr + 64, s.key, 8), payload=b"8 bytes!")
        assert s.read_answer(psn, 0) == b""
        assert s.peek(63, 10) == b"\x008 bytes!\0"
        psn = s.ask(rp.FLUSH, rp.feth(1), reth(s.addr, s.key, 64))
        s.told(psn, NAK_INVALID, s.msn - 1)
        s.failed(EVENT_REQUEST)


GLOBAL, PERSISTENT = 1, 2
RANGE, REGION = 0, 1
# The FETH; where the range begins in a region of 4096 bytes, and its length.
FLUSHES = {
    "range": (rp.feth(GLOBAL, RANGE), 1, 3000),
    "all bytes": (rp.feth(GLOBAL, RANGE), 0, 4096),
    "last byte": (rp.feth(GLOBAL, RANGE), 4095, 1),
    "region": (rp.feth(GLOBAL, REGION), 0, 0),
    "region, of which the range says nothing": (rp.feth(GLOBAL, REGION), -8, (1 << 32) - 1),
    "reserved bits": (rp.feth(GLOBAL | 0xFFFFFFC0, RANGE), 0, 64),
}


@pytest.mark.parametrize("what", FLUSHES)
def test_flush(roce_lab, what):
    """Annex A19: an empty READ response has its number and counts it; once more if it comes once more."""
    feth, off, n = FLUSHES[what]
    data = random.randbytes(MTU)
    with roce_lab.qp(rights="wrag") as s:
        addr, key = s.region("lwg")
        s.ask(rp.WRITE_ONLY, reth(addr, key, MTU), payload=data, ack=False)
        psn = s.ask(rp.FLUSH, feth, reth(addr + off, key, n))
        assert s.read_answer(psn, 0) == b""
        assert s.peek(0, MTU) == data
        s.say(rp.FLUSH, psn, feth, reth(addr + off, key, n), ack=True)
        assert s.read_answer(psn, 0) == b""
        s.works()
        assert s.msn == 3


def test_flushes_at_once(roce_lab):
    """They take no part of the responder resources: more than there are of those are answered, in order."""
    with roce_lab.qp(rights="wrag", ird=1) as s:
        addr, key = s.region("lwg")
        psns = [s.ask(rp.FLUSH, rp.feth(GLOBAL, RANGE), reth(addr, key, 8)) for _ in range(5)]
        for s.msn, psn in enumerate(psns, 1):
            s.read_answer(psn, 0)
        s.works()


# Rights of the QP and of the region; the FETH; where the range begins and its length; what changes the key.
REFUSED_FLUSHES = {
    "no right to a range": ("wrag", "lwr", rp.feth(GLOBAL, RANGE), 0, 8, 0),
    "no right to a region": ("wrag", "lwr", rp.feth(GLOBAL, REGION), 0, 0, 0),
    "no right to persistence": ("wragp", "lwg", rp.feth(PERSISTENT, RANGE), 0, 8, 0),
    "no right to one of both": ("wragp", "lwg", rp.feth(GLOBAL | PERSISTENT, RANGE), 0, 8, 0),
    "one byte too far": ("wrag", "lwg", rp.feth(GLOBAL, RANGE), 1, 4096, 0),
    "before the region": ("wrag", "lwg", rp.feth(GLOBAL, RANGE), -1, 8, 0),
    "range of nobody": ("wrag", "lwg", rp.feth(GLOBAL, RANGE), 0, 8, 0x5A5A0000),
    "region of nobody": ("wrag", "lwg", rp.feth(GLOBAL, REGION), 0, 0, 0x5A5A0000),
}
INVALID_FLUSHES = {
    "QP without persistence": ("wrag", "lwg", rp.feth(PERSISTENT, RANGE), 0, 8, 0),
    "QP without global visibility": ("wrap", "lwg", rp.feth(GLOBAL, RANGE), 0, 8, 0),
    "no type": ("wragp", "lwg", rp.feth(0, RANGE), 0, 8, 0),
    "type that is none": ("wragp", "lwg", rp.feth(GLOBAL | 4, RANGE), 0, 8, 0),
    "level that is none": ("wragp", "lwg", rp.feth(GLOBAL, 2), 0, 8, 0),
}


@pytest.mark.parametrize("what", [*REFUSED_FLUSHES, *INVALID_FLUSHES])
def test_flush_is_refused(roce_lab, what):
    """What the region does not grant is an access error, what the QP does not, or nobody knows, an invalid request."""
    qp, region, feth, off, n, change = {**REFUSED_FLUSHES, **INVALID_FLUSHES}[what]
    with roce_lab.qp(rights=qp) as s:
        addr, key = s.region(region)
        psn = s.psn
        s.say(rp.FLUSH, psn, feth, reth(addr + off, key ^ change, n), ack=True)
        if what in INVALID_FLUSHES:
            refused(s, psn, NAK_INVALID, EVENT_REQUEST)
        else:
            refused(s, psn, NAK_ACCESS, EVENT_ACCESS)


def test_zero_length_requests_name_no_memory(roce_lab):
    """Neither key nor address is looked at (section 9.4.3: nothing is accessed)."""
    with roce_lab.qp() as s:
        s.told(s.ask(rp.WRITE_ONLY, reth(TOP, 0xDEAD, 0)))
        assert s.read_answer(s.ask(rp.READ_REQUEST, reth(TOP, 0xDEAD, 0)), 0) == b""
        s.works(0)


def test_acknowledged_when_asked(roce_lab):
    """Without AckReq nothing is said; one acknowledge is for all before it."""
    with roce_lab.qp() as s:
        for _ in range(5):
            s.p("recv 4096 100")
        for _ in range(4):
            s.ask(rp.SEND_ONLY, payload=b"quiet", ack=False)
        assert s.peer.quiet(0.1)
        s.told(s.ask(rp.SEND_ONLY, payload=b"loud"))
        assert s.msn == 5
        assert [s.p.good()["len"] for _ in range(5)] == [5] * 4 + [4]


def test_answers_keep_the_order_of_requests(roce_lab):
    """Three at once: a long read, a message, a read."""
    with roce_lab.qp() as s:
        s.p("recv 65536 100")
        first = s.ask(rp.READ_REQUEST, reth(s.addr, s.key, 20 * MTU), packets=20)
        send = s.ask(rp.SEND_ONLY, payload=b"between")
        last = s.ask(rp.READ_REQUEST, reth(s.addr, s.key, 4))
        s.msn -= 2
        s.read_answer(first, 20 * MTU)
        a = s.recv_answer()
        # The second read may have come before the message was acknowledged, and says that, too.
        if a.op == rp.ACKNOWLEDGE:
            assert (a.psn, a.msn) == (send, 2)
            a = s.recv_answer()
        assert (a.op, a.psn, a.msn) == (rp.READ_ONLY, last, 3)
        assert s.p.good()["len"] == 7


def test_source_port_is_that_of_the_flow(roce_lab):
    """Annex A17: the same for all packets of a QP, from the dynamic range; TTL and type of service as asked for."""
    with roce_lab.qp() as s:
        got = []
        for _ in range(3):
            s.say(rp.WRITE_ONLY, s.psn, reth(0, 0, 0), ack=True)
            got.append(s.recv_answer())
            s.psn = plus(s.psn)
        assert len({a.sport for a in got}) == 1
        assert got[0].sport >= 0xC000
        assert {(a.ip[1], a.ip[8], a.ip[6:8]) for a in got} == {(0, 64, b"\x40\0")}


# --- packets that are missing, and that come again ------------------------------


def test_packet_ahead(roce_lab):
    """One refusal, with the number that is expected; what is ahead is dropped; then all goes on."""
    with roce_lab.qp() as s:
        s.works()
        for _ in range(4):
            s.p("recv 4096 100")
        for i in (1, 2, 3):
            s.say(rp.SEND_ONLY, plus(s.psn, i), payload=b"ahead", ack=True)
        s.told(s.psn, NAK_SEQUENCE)
        assert s.peer.quiet(0.1)
        for i in range(4):
            s.told(s.ask(rp.SEND_ONLY, payload=b"x" * i))
        assert [s.p.good()["len"] for _ in range(4)] == [0, 1, 2, 3]
        # The next gap is another one.
        s.say(rp.WRITE_ONLY, plus(s.psn, 1), reth(0, 0, 0))
        s.told(s.psn, NAK_SEQUENCE)
        s.works()


def test_gap_in_a_message(roce_lab):
    """The middle is missing; it and all behind it come again."""
    data = random.randbytes(4 * MTU)
    with roce_lab.qp() as s:
        s.p("recv 4096 4096")
        one, two, three, four = pieces(data)
        s.ask(rp.SEND_FIRST, payload=one, ack=False)
        s.say(rp.SEND_MIDDLE, plus(s.psn), payload=three)
        s.say(rp.SEND_LAST, plus(s.psn, 2), payload=four, ack=True)
        s.told(s.psn, NAK_SEQUENCE)
        s.ask(rp.SEND_MIDDLE, payload=two, ack=False)
        s.ask(rp.SEND_MIDDLE, payload=three, ack=False)
        s.told(s.ask(rp.SEND_LAST, payload=four))
        assert s.p.good()["len"] == len(data)
        assert s.peek(4096, len(data)) == data


def test_far_behind_and_far_ahead(roce_lab):
    """Half of the numbers are old, half are new (section 9.7.1)."""
    with roce_lab.qp() as s:
        s.works()
        s.say(rp.SEND_ONLY, plus(s.psn, -(rp.PSNS // 2) + 1), payload=b"old")
        s.told(plus(s.psn, -1))
        s.say(rp.SEND_ONLY, plus(s.psn, rp.PSNS // 2 - 1), payload=b"new")
        s.told(s.psn, NAK_SEQUENCE)
        s.works()


def test_duplicate_send(roce_lab):
    """Acknowledged with the last number, asked for or not, and not delivered."""
    with roce_lab.qp() as s:
        s.works()
        s.works()
        s.p("recv 4096 100")
        for ack in (True, False):
            s.say(rp.SEND_ONLY, RQ_PSN, payload=b"again", ack=ack)
            s.told(plus(s.psn, -1))
        s.nothing_completed()
        assert s.peek(4096, 5) == bytes(5)
        s.told(s.ask(rp.SEND_ONLY, payload=b"new"))
        assert s.p.good()["len"] == 3


def test_duplicate_write_is_not_placed(roce_lab):
    """What was written since stands."""
    with roce_lab.qp() as s:
        psn = s.ask(rp.WRITE_ONLY, reth(s.addr, s.key, 4), payload=b"once")
        s.told(psn)
        s.poke(0, b"mine")
        s.say(rp.WRITE_ONLY, psn, reth(s.addr, s.key, 4), payload=b"once", ack=True)
        s.told(psn)
        assert s.peek(0, 4) == b"mine"


def test_duplicate_in_a_message(roce_lab):
    """A FIRST that comes again does not begin a message."""
    with roce_lab.qp() as s:
        s.p("recv 4096 4096")
        first = s.ask(rp.SEND_FIRST, payload=b"a" * MTU)
        s.told(first)
        s.say(rp.SEND_FIRST, first, payload=b"b" * MTU, ack=True)
        s.told(first)
        s.told(s.ask(rp.SEND_LAST, payload=b"c"))
        assert s.p.good()["len"] == MTU + 1
        assert s.peek(4096, MTU + 1) == b"a" * MTU + b"c"


def test_duplicate_read_is_executed_again(roce_lab):
    """With what is there now (section 9.7.4.1.1); all of it, or from its middle on."""
    with roce_lab.qp() as s:
        s.p("fill 0 4096 1")
        psn = s.ask(rp.READ_REQUEST, reth(s.addr, s.key, 3 * MTU), packets=3)
        assert s.read_answer(psn, 3 * MTU) == s.peek(0, 3 * MTU)
        s.p("fill 0 4096 2")
        s.say(rp.READ_REQUEST, psn, reth(s.addr, s.key, 3 * MTU), ack=True)
        assert s.read_answer(psn, 3 * MTU) == s.peek(0, 3 * MTU)
        s.say(rp.READ_REQUEST, plus(psn), reth(s.addr + MTU, s.key, 2 * MTU), ack=True)
        assert s.read_answer(plus(psn), 2 * MTU) == s.peek(MTU, 2 * MTU)
        s.works()


def test_duplicate_read_asks_for_no_more(roce_lab):
    """A duplicate that is another request is ignored: longer, elsewhere, of another key."""
    with roce_lab.qp() as s:
        other = s.region("r", 0, 8192)[1]
        psn = s.ask(rp.READ_REQUEST, reth(s.addr, s.key, 100))
        s.read_answer(psn, 100)
        for what in ((s.addr, s.key, 101), (s.addr + 1, s.key, 99), (s.addr, other, 100), (s.addr, s.key, SIZE)):
            s.say(rp.READ_REQUEST, psn, reth(*what), ack=True)
        s.works()


def test_duplicate_atomic_is_replayed(roce_lab):
    """The result of the first time, and nothing happens to the memory."""
    with roce_lab.qp() as s:
        addr, key = s.region("lwra")
        results = []
        for i in range(3):
            psn = s.ask(rp.FETCH_ADD, atomic_eth(addr, key, 10))
            results.append((psn, s.msn, s.recv_answer().original))
            assert results[-1][2] == 10 * i
        s.poke(0, struct.pack("=Q", 12345))
        for psn, msn, original in reversed(results):
            s.say(rp.FETCH_ADD, psn, atomic_eth(addr, key, 10), ack=True)
            a = s.recv_answer()
            assert (a.op, a.psn, a.msn, a.original) == (rp.ATOMIC_ACK, psn, msn, original)
        # Another operation of the same number is no duplicate of it.
        for op in (rp.CMP_SWAP, rp.READ_REQUEST, rp.ATOMIC_WRITE):
            eth = atomic_eth(addr, key, 10) if op == rp.CMP_SWAP else reth(addr, key, 8)
            s.say(op, results[0][0], eth, payload=bytes(8) if op == rp.ATOMIC_WRITE else b"", ack=True)
        assert s.peer.quiet(0.05)
        assert u64(s.peek(0, 8)) == 12345
        s.works()


# --- no receive -------------------------------------------------------------------


@pytest.mark.parametrize("timer", [0, 1, 14, 31])
def test_receiver_not_ready(roce_lab, timer):
    """The refusal has the timer that was asked for; what follows is dropped until the message comes again."""
    with roce_lab.qp(rnrtimer=timer) as s:
        s.say(rp.SEND_ONLY, s.psn, payload=b"early", ack=True)
        s.told(s.psn, RNR | timer)
        s.say(rp.SEND_ONLY, plus(s.psn), payload=b"ahead", ack=True)
        assert s.peer.quiet(0.05)
        s.say(rp.SEND_ONLY, s.psn, payload=b"early", ack=True)
        s.told(s.psn, RNR | timer)
        s.works()


def test_not_ready_for_immediate_data(roce_lab):
    """A WRITE takes a receive with its last packet; its data may be there before."""
    with roce_lab.qp(rnrtimer=3) as s:
        s.told(s.ask(rp.WRITE_FIRST, reth(s.addr, s.key, MTU + 4), payload=b"w" * MTU))
        s.say(rp.WRITE_LAST_IMM, s.psn, imm(9), payload=b"last", ack=True)
        s.told(s.psn, RNR | 3)
        s.p("recv 0 0")
        s.told(s.ask(rp.WRITE_LAST_IMM, imm(9), payload=b"last"))
        wc = s.p.good()
        assert (wc["len"], wc["imm"]) == (MTU + 4, 9)
        assert s.peek(0, MTU + 4) == b"w" * MTU + b"last"


def test_doubled_request_without_receive(roce_lab):
    """It is refused each time, since the first refusal may be lost, and counts once in the time that it is to wait."""
    was = roce_lab.counter("receiver_not_ready")
    with roce_lab.qp(rnrtimer=0) as s:  # 655 ms
        for _ in range(3):
            s.say(rp.SEND_ONLY, s.psn, payload=b"early", ack=True)
            s.told(s.psn, RNR)
        assert roce_lab.counter("receiver_not_ready") == was + 1
        s.works()


def test_requests_without_receive_go_on(roce_lab):
    """WRITE and READ take none."""
    was = roce_lab.counter("receiver_not_ready")
    with roce_lab.qp() as s:
        s.told(s.ask(rp.WRITE_ONLY, reth(s.addr, s.key, 4), payload=b"1234"))
        assert s.read_answer(s.ask(rp.READ_REQUEST, reth(s.addr, s.key, 4)), 4) == b"1234"
        s.say(rp.SEND_ONLY, s.psn, payload=b"x", ack=True)
        s.told(s.psn, RNR | 12)
    assert roce_lab.counter("receiver_not_ready") == was + 1


# --- requests that are refused -------------------------------------------------------


def before(*packets):
    """What is said, and acknowledged, before the request that is refused."""

    def prepare(s):
        for op, ext, payload in packets:
            s.told(s.ask(op, *ext(s), payload=payload))

    return prepare


def plain(s):
    return ()


def to_memory(n, off=0, **kw):
    return lambda s: (reth(s.addr + off, s.key, n),)


IN_A_SEND = before((rp.SEND_FIRST, plain, b"f" * MTU))
IN_A_WRITE = before((rp.WRITE_FIRST, to_memory(2 * MTU + 1), b"f" * MTU))
NOTHING = before()
# What was said before, the opcode, its extended headers, its payload. Section 9.7.4.1.2 to .6.
INVALID_REQUESTS = {
    "SEND MIDDLE without FIRST": (NOTHING, rp.SEND_MIDDLE, plain, bytes(MTU)),
    "SEND LAST without FIRST": (NOTHING, rp.SEND_LAST, plain, b"x"),
    "WRITE MIDDLE without FIRST": (NOTHING, rp.WRITE_MIDDLE, plain, bytes(MTU)),
    "WRITE LAST without FIRST": (NOTHING, rp.WRITE_LAST, plain, b"x"),
    "SEND FIRST in a SEND": (IN_A_SEND, rp.SEND_FIRST, plain, bytes(MTU)),
    "SEND ONLY in a SEND": (IN_A_SEND, rp.SEND_ONLY, plain, b"x"),
    "WRITE LAST in a SEND": (IN_A_SEND, rp.WRITE_LAST, plain, b"x"),
    "READ in a SEND": (IN_A_SEND, rp.READ_REQUEST, to_memory(4), b""),
    "SEND MIDDLE in a WRITE": (IN_A_WRITE, rp.SEND_MIDDLE, plain, bytes(MTU)),
    "atomic in a WRITE": (IN_A_WRITE, rp.FETCH_ADD, lambda s: (atomic_eth(s.addr, s.key, 1),), b""),
    "SEND FIRST shorter than the MTU": (NOTHING, rp.SEND_FIRST, plain, bytes(MTU - 4)),
    "SEND FIRST longer than the MTU": (NOTHING, rp.SEND_FIRST, plain, bytes(MTU + 4)),
    "SEND ONLY longer than the MTU": (NOTHING, rp.SEND_ONLY, plain, bytes(MTU + 1)),
    "SEND MIDDLE shorter than the MTU": (IN_A_SEND, rp.SEND_MIDDLE, plain, bytes(MTU - 1)),
    "SEND LAST of nothing": (IN_A_SEND, rp.SEND_LAST, plain, b""),
    "SEND LAST longer than the MTU": (IN_A_SEND, rp.SEND_LAST, plain, bytes(MTU + 1)),
    "WRITE ONLY longer than it says": (NOTHING, rp.WRITE_ONLY, to_memory(7), b"8 bytes."),
    "WRITE ONLY shorter than it says": (NOTHING, rp.WRITE_ONLY, to_memory(9), b"8 bytes."),
    "WRITE FIRST of one packet": (NOTHING, rp.WRITE_FIRST, to_memory(MTU), bytes(MTU)),
    "WRITE LAST too early": (IN_A_WRITE, rp.WRITE_LAST, plain, bytes(MTU)),
    "WRITE MIDDLE, WRITE LAST too long": (
        before((rp.WRITE_FIRST, to_memory(2 * MTU + 1), bytes(MTU)), (rp.WRITE_MIDDLE, plain, bytes(MTU))),
        rp.WRITE_LAST,
        plain,
        b"xy",
    ),
    "WRITE of 2 GiB and more": (NOTHING, rp.WRITE_FIRST, to_memory((1 << 31) + 1), bytes(MTU)),
    "READ of 2 GiB and more": (NOTHING, rp.READ_REQUEST, to_memory((1 << 31) + 1), b""),
    "READ with payload": (NOTHING, rp.READ_REQUEST, to_memory(4), b"load"),
    "atomic with payload": (NOTHING, rp.FETCH_ADD, lambda s: (atomic_eth(s.addr, s.key, 1),), b"load"),
    "atomic that is not aligned": (NOTHING, rp.CMP_SWAP, lambda s: (atomic_eth(s.addr + 4, s.atomic_key, 1),), b""),
    "ATOMIC WRITE of 4 bytes": (NOTHING, rp.ATOMIC_WRITE, to_memory(4), b"four"),
    "FLUSH of no type": (NOTHING, rp.FLUSH, lambda s: (rp.feth(0), reth(s.addr, s.key, 4)), b""),
    **{f"reserved opcode {op:#x}": (NOTHING, op, plain, b"") for op in rp.RESERVED},
}


def refused(s, psn, syndrome, event, msn=None):
    """The refusal, and what it means for the QP: an event, ERROR, receives flushed, silence."""
    s.told(psn, syndrome, s.msn if msn is None else msn)
    s.failed(event)
    s.say(rp.WRITE_ONLY, psn, reth(0, 0, 0), ack=True)
    s.say(rp.WRITE_ONLY, plus(psn), reth(0, 0, 0), ack=True)
    assert s.peer.quiet(0.03)


@pytest.mark.parametrize("what", INVALID_REQUESTS)
def test_invalid_request(roce_lab, what):
    prepare, op, ext, payload = INVALID_REQUESTS[what]
    with roce_lab.qp() as s:
        s.p("recv 4096 4096")
        s.atomic_key = s.region("lwra")[1]
        prepare(s)
        msn = s.msn
        psn = s.ask(op, *ext(s), payload=payload)
        refused(s, psn, NAK_INVALID, EVENT_REQUEST, msn)
        assert s.p.poll()["status"] == FLUSHED


def test_message_longer_than_its_receive(roce_lab):
    """The receive completes with a length error; in its second packet as well as in its first."""
    for first in (False, True):
        with roce_lab.qp() as s:
            s.p(f"recv 4096 {MTU + 10 if first else 10}")
            s.p("recv 4096 4096")
            if first:
                s.told(s.ask(rp.SEND_FIRST, payload=bytes(MTU)))
            psn = s.psn
            s.say(rp.SEND_LAST if first else rp.SEND_ONLY, psn, payload=b"eleven byte", ack=True)
            refused(s, psn, NAK_INVALID, EVENT_REQUEST)
            assert [s.p.poll()["status"] for _ in range(2)] == [TOO_LONG, FLUSHED]
            assert s.peek(4096, 11) == bytes(11)


def other_key(rights, n=4096):
    return lambda s: s.region(rights, 0, n)


def dead_key(s):
    r = s.p("region lwra 0 4096")
    s.p(f"dereg {r['n']}")
    return r["addr"], r["key"]


# Whose memory, how far from its beginning: all of them an access error.
VIOLATIONS = {
    "key of nobody": (lambda s: (s.addr, s.key ^ 0x5A5A0000), 0),
    "key 0": (lambda s: (s.addr, 0), 0),
    "key that is gone": (dead_key, 0),
    "other domain": (other_key("xlwra"), 0),
    "no right": (other_key("l"), 0),
    "before the region": (other_key("lwra"), -8),
    "one byte too far": (other_key("lwra", 4095), 4088),
    "behind the region": (other_key("lwra"), 1 << 33),
    "at the end of all memory": (lambda s: ((1 << 64) - 8, s.key), 0),
}


def access(s, op, addr, key):
    """One access to 8 bytes by the peer. Returns its number."""
    psn = s.psn
    if op == "write":
        s.say(rp.WRITE_ONLY, psn, reth(addr, key, 8), payload=b"8 bytes.", ack=True)
    elif op == "read":
        s.say(rp.READ_REQUEST, psn, reth(addr, key, 8), ack=True)
    elif op == "atomic":
        s.say(rp.FETCH_ADD, psn, atomic_eth(addr, key, 1), ack=True)
    else:
        s.say(rp.ATOMIC_WRITE, psn, reth(addr, key, 8), payload=b"8 bytes.", ack=True)
    return psn


@pytest.mark.parametrize("what", VIOLATIONS)
def test_access_violation(roce_lab, what):
    memory, off = VIOLATIONS[what]
    was = roce_lab.counter("access_errors")
    ops = ("write", "read", "atomic", "atomic write")
    for op in ops:
        with roce_lab.qp() as s:
            s.p("recv 65536 100")
            s.p("fill 0 4104 3")
            sum_before = s.p("sum 0 4104")
            addr, key = memory(s)
            psn = access(s, op, addr + off, key)
            refused(s, psn, NAK_ACCESS, EVENT_ACCESS)
            assert s.p.poll()["status"] == FLUSHED
            assert s.p("sum 0 4104") == sum_before
    assert roce_lab.counter("access_errors") == was + len(ops)


@pytest.mark.parametrize("rights,op", [("lra", "write"), ("lra", "atomic write"), ("lwa", "read"), ("lwr", "atomic")])
def test_each_right_is_asked_for(roce_lab, rights, op):
    """A region with the two other rights: one is not the other."""
    with roce_lab.qp() as s:
        refused(s, access(s, op, *s.region(rights)), NAK_ACCESS, EVENT_ACCESS)


def test_long_write_is_refused_when_it_begins(roce_lab):
    """The last byte of the message is outside: not one is placed (section 9.7.4.1.5: the RETH is checked)."""
    with roce_lab.qp() as s:
        addr, key = s.region("lw", 0, 2 * MTU)
        psn = s.psn
        s.say(rp.WRITE_FIRST, psn, reth(addr, key, 2 * MTU + 1), payload=b"w" * MTU, ack=True)
        refused(s, psn, NAK_ACCESS, EVENT_ACCESS)
        assert s.peek(0, MTU) == bytes(MTU)


@pytest.mark.parametrize("op", [rp.WRITE_ONLY, rp.READ_REQUEST])
def test_range_that_wraps(roce_lab, op):
    """The end of the address space is not followed by its beginning."""
    with roce_lab.qp() as s:
        psn = s.psn
        s.say(op, psn, reth(TOP, s.key, 8), payload=b"8 bytes." if op == rp.WRITE_ONLY else b"", ack=True)
        refused(s, psn, NAK_ACCESS, EVENT_ACCESS)


def test_region_goes_in_the_midst_of_a_write(roce_lab):
    """Each packet has the key looked up."""
    with roce_lab.qp() as s:
        r = s.p("region lw 0 4096")
        s.told(s.ask(rp.WRITE_FIRST, reth(r["addr"], r["key"], 3 * MTU), payload=b"1" * MTU))
        s.p(f"dereg {r['n']}")
        psn = s.psn
        s.say(rp.WRITE_MIDDLE, psn, payload=b"2" * MTU, ack=True)
        refused(s, psn, NAK_ACCESS, EVENT_ACCESS)
        assert s.peek(MTU, MTU) == bytes(MTU)


@pytest.mark.parametrize("right,op", [("w", "write"), ("w", "atomic write"), ("r", "read"), ("a", "atomic")])
def test_right_of_the_qp(roce_lab, right, op):
    """A QP that was not set up for an operation does not know it: an invalid request."""
    with roce_lab.qp(rights="wra".replace(right, "")) as s:
        refused(s, access(s, op, *s.region("lwra")), NAK_INVALID, EVENT_REQUEST)


@pytest.mark.parametrize("key", ["wrong", "cannot be"])
def test_key_that_cannot_be_invalidated(roce_lab, key):
    """The message is not delivered; of a region of a process no peer takes the key away."""
    with roce_lab.qp() as s:
        s.p("recv 4096 100")
        psn = s.psn
        s.say(rp.SEND_ONLY_INV, psn, ieth(s.key ^ (0x5A5A0000 if key == "wrong" else 0)), payload=b"x", ack=True)
        refused(s, psn, NAK_ACCESS, EVENT_ACCESS)
        assert s.p.poll()["status"] == FLUSHED


def test_refused_behind_answers(roce_lab):
    """What was asked for before the request that is refused is answered, then comes the refusal."""
    with roce_lab.qp() as s:
        read = s.ask(rp.READ_REQUEST, reth(s.addr, s.key, 10 * MTU), packets=10)
        bad = s.psn
        s.say(rp.WRITE_ONLY, bad, reth(s.addr, 0, 1), payload=b"x", ack=True)
        s.read_answer(read, 10 * MTU)
        refused(s, bad, NAK_ACCESS, EVENT_ACCESS)


# --- packets that are dropped ----------------------------------------------------------


def other_service(service):
    return lambda s: s.peer.body(service | rp.SEND_ONLY, s.psn, *(deth(0, 1),) * (service == rp.UD), payload=b"no")


# The body of a packet with the right ICRC; section 9.6.1.
DROPPED = {
    "unknown QP": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no", qpn=s.qpn ^ 0x555555),
    "QP 0": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no", qpn=0),
    "QP of a group": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no", qpn=0xFFFFFF),
    "P_Key": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no", pkey=0x1234),
    "P_Key 0": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no", pkey=0),
    "P_Key of nobody": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no", pkey=0x8000),
    "version": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no", tver=1),
    "UC": other_service(rp.UC),
    "RD": other_service(rp.RD),
    "UD": other_service(rp.UD),
    "congestion notification": lambda s: s.peer.body(rp.CNP, s.psn, payload=bytes(16)),
    "acknowledge that nobody waits for": lambda s: s.peer.body(rp.ACKNOWLEDGE, s.psn, rp.aeth(rp.ACK, 1)),
    "more pad than payload": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, pad=3),
    "length of 4 n + 2": lambda s: s.peer.body(rp.SEND_ONLY, s.psn, payload=b"no")[:-2],
    "nothing behind the BTH": lambda s: s.peer.body(rp.WRITE_ONLY, s.psn),
    "half a RETH": lambda s: s.peer.body(rp.WRITE_ONLY, s.psn, reth(s.addr, s.key, 0)[:8]),
    "half a BTH": lambda s: s.peer.body(rp.SEND_ONLY, s.psn)[:8],
    "nothing": lambda s: b"",
}


@pytest.mark.parametrize("what", DROPPED)
def test_dropped(roce_lab, what):
    """Without a word, and the QP goes on."""
    with roce_lab.qp() as s:
        s.peer.raw(s.peer.datagram(DROPPED[what](s)))
        s.works()
        s.nothing_completed()


def test_bad_icrc(roce_lab):
    """Dropped and counted; wherever the bit is that is wrong, but for what routers change."""
    with roce_lab.qp() as s:
        was = roce_lab.counter("crc_errors")
        good = bytearray(s.peer.datagram(s.peer.body(rp.SEND_ONLY, s.psn, payload=b"0123", ack=True)))
        # IP's identification, source port, what is reserved beside the PSN, PSN, payload, ICRC
        places = (5, 21, 36, 39, 41, len(good) - 1)
        for at in places:
            bad = bytearray(good)
            bad[at] ^= 2
            s.peer.raw(bytes(bad))
        s.works()
        assert roce_lab.counter("crc_errors") == was + len(places)


def test_fields_that_routers_change(roce_lab):
    """Type of service, time to live, FECN and BECN are not summed; an identification of 0 is one."""
    with roce_lab.qp() as s:
        for ip in ({"tos": 0xB8}, {"ttl": 1}, {"ident": 0}, {"ident": 0xFFFF}, {"sport": 1}):
            s.told(s.ask(rp.WRITE_ONLY, reth(0, 0, 0), ip=ip))
        for resv8a in (0x80, 0x40, 0x3F):
            s.told(s.ask(rp.WRITE_ONLY, reth(0, 0, 0), resv8a=resv8a))


def test_bits_that_do_not_matter(roce_lab):
    """The migration state, what is reserved beside the PSN, and whose member of the partition the peer is."""
    with roce_lab.qp() as s:
        for bits in ({"mig": False}, {"resv7": 0x7F}, {"pkey": 0x7FFF}, {"se": True}):
            s.told(s.ask(rp.WRITE_ONLY, reth(0, 0, 0), **bits))


def test_connection_is_one_of_two_addresses(roce_lab):
    """A request of the right QP and number, from another address of the peer's host or to another of ours."""
    a, b = roce_lab.a, roce_lab.b
    from_other, to_other = extra_address(b, 99), extra_address(a, 98)
    with roce_lab.qp() as s:
        s.p("recv 4096 100")
        body = s.peer.body(rp.SEND_ONLY, s.psn, payload=b"forged", ack=True)
        s.peer.raw(rp.datagram(from_other, a.ip, body))
        s.peer.raw(rp.datagram(b.ip, to_other, body))
        s.nothing_completed()
        assert s.peer.quiet(0.03)
        s.told(s.ask(rp.SEND_ONLY, payload=b"true"))
        assert s.p.good()["len"] == 4
    # They do arrive: a datagram may come from anywhere.
    with roce_lab.qp("ud") as s:
        for src, dst in ((from_other, a.ip), (b.ip, to_other)):
            s.p("recv 4096 100")
            body = s.peer.body(rp.UD | rp.SEND_ONLY, 0, deth(rp.QKEY, 5), payload=b"forged")
            s.peer.raw(rp.datagram(src, dst, body))
            assert s.p.good()["len"] == 46
            assert s.peek(4096 + 32, 8) == socket.inet_aton(src) + socket.inet_aton(dst)


@pytest.mark.parametrize("state", ["init", "rtr", "rts", "sqd", "err", "reset"])
def test_states(roce_lab, state):
    """Requests are answered from RTR on, where the first one is an event; before, and in ERROR, the QP is not there."""
    with roce_lab.qp(to=state if state in ("init", "rtr") else "rts") as s:
        if state in ("sqd", "err", "reset"):
            s.p(f"modify {state}")
        if state in ("rtr", "rts", "sqd"):
            s.works()
            if state == "rtr":
                assert s.p("async 5000")["event"] == EVENT_ESTABLISHED
                s.works()
            with pytest.raises(Refused):
                s.p("async 0")
            return
        s.say(rp.WRITE_ONLY, s.psn, reth(0, 0, 0), ack=True)
        s.say(rp.SEND_ONLY, plus(s.psn), payload=b"x", ack=True)
        assert s.peer.quiet(0.05)
        if state == "init":
            s.p(f"modify rtr dest={PEER_QPN}")
            s.works()
        else:
            assert s.state() == {"err": ERROR, "reset": 0}[state]
