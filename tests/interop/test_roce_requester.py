# SPDX-License-Identifier: GPL-2.0
"""The requester of rurdma_roce and a peer that plays by no rules (IBTA volume 1, sections 9.7.3, 9.7.5 and 9.7.6).

The puppet posts work requests, the peer sees their packets and answers as it likes. Timing is that of the kernel's
clock where packets come in.
"""

import itertools
import random
import struct
import time

import pytest
import roce_peer as rp
from roce_lab import (
    ACCESS,
    BAD_RESPONSE,
    FLUSHED,
    INVALID,
    MTU,
    OPERATION,
    PROTECTION,
    RETRY,
    RNR_RETRY,
    RTS,
    SQ_PSN,
)
from roce_peer import ACK, NAK_ACCESS, NAK_INVALID, NAK_OPERATION, NAK_SEQUENCE, RNR, RNR_MS, plus

pytestmark = pytest.mark.usefixtures("roce_harmless")
ADDR, KEY = 0x123456789ABC, 0x55667788
# Codes of the timeout, which is 4.096 us * 2^code: 67 ms, 0.5 s, and one that no test is to see.
QUICK, SLOW, PATIENT = 14, 17, 22
WC_FLUSH = 8  # IBV_WC_FLUSH
# What is due after some time may be late by this.
LATE = 1.5


def seconds(code):
    return 4.096e-6 * 2**code


def sends(s, *lengths):
    """The puppet sends messages of one packet each, which the peer sees. Returns their numbers."""
    for n in lengths:
        s.p(f"send 0 {n}")
    return [s.asked(rp.SEND_ONLY, n).psn for n in lengths]


def again(s, psn):
    """What comes now begins with this packet."""
    s.sq = psn


def done(s, *wrs):
    """These complete, in this order, and no more."""
    for wr in wrs:
        assert s.p.good()["wr"] == wr
    s.nothing_completed()


def failing(s, wr, status, *flushed):
    """One completes with this status, those behind it flushed; the completion says it all (section 10.10.2)."""
    wc = s.p.poll()
    assert (wc["wr"], wc["status"]) == (wr, status)
    for n in flushed:
        wc = s.p.poll()
        assert (wc["wr"], wc["status"]) == (n, FLUSHED)
    s.nothing_completed()
    s.failed()


def answer_read(s, psn, data, first=0, total=None):
    """Responses for a read, `data` in packets, the first of which has this index among `total`."""
    parts = [data[i : i + MTU] for i in range(0, len(data), MTU)] or [b""]
    total = total or len(parts)
    for i, part in enumerate(parts, first):
        response(s, psn, i, total, part)


def response(s, psn, index, total, part, **kw):
    begins, ends = index == 0, index == total - 1
    op = (rp.READ_MIDDLE, rp.READ_LAST, rp.READ_FIRST, rp.READ_ONLY)[2 * begins + ends]
    s.peer.send(op, plus(psn, index), *(rp.aeth(ACK, 0),) * (begins or ends), payload=part, **kw)


# --- what is sent ------------------------------------------------------------------


def test_send(roce_lab):
    """One packet, then three; an acknowledge is asked for at the end of each."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"fill 0 {3 * MTU} 1")
        s.p("send 0 5 se")
        q = s.asked(rp.SEND_ONLY, 5, ack=True)
        assert (q.se, q.payload) == (True, s.peek(0, 5))
        s.p(f"send 0 {2 * MTU + 3} imm=305419896")
        got = [s.asked(rp.SEND_FIRST, MTU, False), s.asked(rp.SEND_MIDDLE, MTU, False)]
        got.append(s.asked(rp.SEND_LAST_IMM, 3, True))
        assert got[2].imm == 0x12345678
        assert not any(q.se for q in got)
        assert b"".join(q.payload for q in got) == s.peek(0, 2 * MTU + 3)
        s.p(f"send 0 4 inline inv={KEY}")
        assert s.asked(rp.SEND_ONLY_INV, 4, True).ext["ieth"] == (KEY,)
        s.tell(plus(s.sq, -1))
        done(s, 1, 2, 3)


def test_write(roce_lab):
    """The RETH of the first packet is about the whole message."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"fill 0 {3 * MTU} 1")
        s.p(f"write 0 {2 * MTU} {ADDR} {KEY}")
        got = [s.asked(rp.WRITE_FIRST, MTU, False), s.asked(rp.WRITE_LAST, MTU, True)]
        assert got[0].reth == (ADDR, KEY, 2 * MTU)
        assert b"".join(q.payload for q in got) == s.peek(0, 2 * MTU)
        s.p(f"write 0 0 {ADDR} {KEY}")
        assert s.asked(rp.WRITE_ONLY, 0, True).reth == (ADDR, KEY, 0)
        s.p(f"writeimm 0 {MTU + 1} {ADDR} {KEY} 77 se")
        s.asked(rp.WRITE_FIRST, MTU, False)
        q = s.asked(rp.WRITE_LAST_IMM, 1, True)
        assert (q.imm, q.se) == (77, True)
        s.tell(plus(s.sq, -1))
        done(s, 1, 2, 3)


@pytest.mark.parametrize("n", [0, 1, MTU, 4 * MTU + 6])
def test_read(roce_lab, n):
    """A request takes as many numbers as its answer has packets; the answer is where it belongs."""
    data = random.randbytes(n)
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p("poke 8191 ee")
        s.p(f"poke {8192 + n} ee")
        s.p(f"read 8192 {n} {ADDR} {KEY}")
        s.p("send 0 1")
        q = s.asked(rp.READ_REQUEST, 0)
        assert q.reth == (ADDR, KEY, n)
        s.sq = plus(q.psn, max(1, -(-n // MTU)))
        send = s.asked(rp.SEND_ONLY, 1).psn
        answer_read(s, q.psn, data)
        done(s, 1)
        assert s.peek(8191, n + 2) == b"\xee" + data + b"\xee"
        s.tell(send)
        done(s, 2)


def test_atomics(roce_lab):
    """What they ask for, and where the answer goes: a number of this machine."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"fadd 64 {ADDR} {KEY} 5")
        s.p(f"cas 72 {ADDR} {KEY} 6 7")
        one, two = s.asked(rp.FETCH_ADD, 0), s.asked(rp.CMP_SWAP, 0)
        assert one.atomic[:3] == (ADDR, KEY, 5)
        assert two.atomic == (ADDR, KEY, 7, 6)
        for q, value in ((one, 0x1122334455667788), (two, 9)):
            s.peer.send(rp.ATOMIC_ACK, q.psn, rp.aeth(ACK, 1), rp.atomic_ack(value))
        done(s, 1, 2)
        assert struct.unpack("=QQ", s.peek(64, 16)) == (0x1122334455667788, 9)


@pytest.mark.parametrize(
    "types,level,posted,feth,sent",
    [
        ("g", "range", 9000, (1, 0), 9000),
        ("p", "range", 1, (2, 0), 1),
        ("gp", "range", (1 << 32) - 1, (3, 0), (1 << 32) - 1),
        ("g", "mr", 0, (1, 1), 0),
        # Of a whole region the length says nothing, and may be one that the RETH has no room for.
        ("gp", "mr", 1 << 40, (3, 1), 0),
    ],
)
def test_flush(roce_lab, types, level, posted, feth, sent):
    """Annex A19: FETH and RETH are what was posted; an empty READ response completes it, and what is before it."""
    with roce_lab.qp(timeout=PATIENT, flush=1) as s:
        s.p(f"write 0 {MTU} {ADDR} {KEY}")
        s.p(f"flush {types} {level} {ADDR + 3} {posted} {KEY}")
        s.asked(rp.WRITE_ONLY, MTU)
        q = s.asked(rp.FLUSH, 0)
        assert (q.feth, q.reth) == (feth, (ADDR + 3, KEY, sent))
        s.nothing_completed()
        answer_read(s, q.psn, b"")
        assert s.p.good()["wr"] == 1
        wc = s.p.good()
        assert (wc["wr"], wc["opcode"]) == (2, WC_FLUSH)
        s.nothing_completed()


def test_acknowledge_of_a_flush(roce_lab):
    """Is no answer: the FLUSH comes again, as it was, until the READ response is there."""
    with roce_lab.qp(timeout=PATIENT, flush=1) as s:
        s.p(f"flush g range {ADDR} 8 {KEY}")
        q = s.asked(rp.FLUSH, 0)
        s.tell(q.psn)
        again(s, q.psn)
        r = s.asked(rp.FLUSH, 0)
        assert (r.feth, r.reth) == (q.feth, q.reth) == ((1, 0), (ADDR, KEY, 8))
        s.nothing_completed()
        answer_read(s, r.psn, b"")
        done(s, 1)


def test_reads_outstanding(roce_lab):
    """No more than max_rd_atomic at a time."""
    with roce_lab.qp(ord=2, timeout=PATIENT) as s:
        for i in range(4):
            s.p(f"read {i * 64} 8 {ADDR} {KEY}")
        psns = [s.asked(rp.READ_REQUEST).psn for _ in range(2)]
        assert s.peer.quiet(0.1)
        answer_read(s, psns[0], b"8 bytes.")
        psns.append(s.asked(rp.READ_REQUEST).psn)
        assert s.peer.quiet(0.1)
        answer_read(s, psns[1], b"8 bytes.")
        psns.append(s.asked(rp.READ_REQUEST).psn)
        for psn in psns[2:]:
            answer_read(s, psn, b"8 bytes.")
        done(s, 1, 2, 3, 4)


def test_window(roce_lab):
    """A long message stops after so many packets, of which the last asks for an acknowledge, and goes on with it."""
    with roce_lab.qp(timeout=PATIENT) as s:
        packets = 600
        s.p(f"write 0 {packets * MTU} {ADDR} {KEY}")
        # In the order of their numbers: the engine may go on on another CPU, and on a veth packets overtake each other.
        got = sorted(iter(lambda: s.peer.recv_or_none(1), None), key=lambda q: plus(q.psn, -SQ_PSN))
        window = len(got)
        assert 32 <= window < packets
        assert [q.psn for q in got] == [plus(SQ_PSN, i) for i in range(window)]
        assert got[-1].ack
        assert sum(q.ack for q in got) >= window // 64
        s.tell(got[-1].psn)
        acked = window
        while len(got) < packets:
            got.append(s.peer.recv())
            index = plus(got[-1].psn, -SQ_PSN)
            assert index < acked + window
            if got[-1].ack:
                acked = max(acked, index + 1)
                s.tell(got[-1].psn)
        assert {q.psn for q in got} == {plus(SQ_PSN, i) for i in range(packets)}
        done(s, 1)


# --- acknowledges --------------------------------------------------------------------


def test_one_acknowledge_for_several(roce_lab):
    with roce_lab.qp(timeout=PATIENT) as s:
        psns = sends(s, 1, 2, 3, 4, 5)
        s.tell(psns[2])
        done(s, 1, 2, 3)
        s.tell(psns[4])
        done(s, 4, 5)


def test_acknowledge_in_the_midst_of_a_message(roce_lab):
    """Completes what is before the message, and is progress in it."""
    with roce_lab.qp(timeout=PATIENT) as s:
        (first,) = sends(s, 1)
        s.p(f"send 0 {3 * MTU}")
        for op in (rp.SEND_FIRST, rp.SEND_MIDDLE, rp.SEND_LAST):
            s.asked(op)
        s.tell(plus(first, 2))
        done(s, 1)
        s.tell(plus(first, 2), NAK_SEQUENCE)  # stale
        s.tell(plus(first, 3), NAK_SEQUENCE)
        again(s, plus(first, 3))
        s.asked(rp.SEND_LAST, MTU, True)
        s.tell(plus(first, 3))
        done(s, 2)


@pytest.mark.parametrize("syndrome", [ACK, NAK_SEQUENCE, NAK_ACCESS, RNR | 1])
def test_stale_and_ghost_acknowledges(roce_lab, syndrome):
    """Of what was acknowledged before, and of what was never sent (section 9.7.5.1.4)."""
    with roce_lab.qp(timeout=PATIENT) as s:
        one, two, three = sends(s, 1, 2, 3)
        s.tell(one)
        done(s, 1)
        for psn in (one, plus(one, -1), plus(one, -1000), plus(three), plus(three, 1000), plus(one, rp.PSNS // 2)):
            s.tell(psn, syndrome)
        assert s.peer.quiet(0.1)
        s.nothing_completed()
        assert s.state() == RTS
        s.tell(two)
        s.tell(three)
        done(s, 2, 3)


@pytest.mark.parametrize("syndrome", [0x00, 0x0A, 0x1E])
def test_credits_are_not_waited_for(roce_lab, syndrome):
    """A peer that counts them, down to none: who has no receive says so."""
    with roce_lab.qp(timeout=PATIENT) as s:
        (psn,) = sends(s, 1)
        s.tell(psn, syndrome)
        done(s, 1)
        s.tell(*sends(s, 2))
        done(s, 2)


@pytest.mark.parametrize("syndrome", [0x40, 0x5F, 0x64, 0x7F, 0x80, 0xFF])
def test_reserved_syndromes(roce_lab, syndrome):
    with roce_lab.qp(timeout=PATIENT) as s:
        (psn,) = sends(s, 1)
        s.tell(psn, syndrome)
        s.nothing_completed()
        s.tell(psn)
        done(s, 1)


# --- sent again --------------------------------------------------------------------------


def test_sequence_error(roce_lab):
    """All from the number that is named comes again; what is before it has arrived."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p("fill 0 100 1")
        psns = sends(s, 1, 2, 3, 4)
        s.tell(psns[1], NAK_SEQUENCE)
        done(s, 1)
        again(s, psns[1])
        assert [s.asked(rp.SEND_ONLY, n, True).payload for n in (2, 3, 4)] == [s.peek(0, n) for n in (2, 3, 4)]
        assert s.peer.quiet(0.05)
        s.tell(psns[3])
        done(s, 2, 3, 4)


def test_sequence_error_in_a_message(roce_lab):
    """It goes on in its middle, with the data of there."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"fill 0 {4 * MTU} 1")
        s.p(f"write 0 {4 * MTU} {ADDR} {KEY}")
        first = s.asked(rp.WRITE_FIRST).psn
        for op in (rp.WRITE_MIDDLE, rp.WRITE_MIDDLE, rp.WRITE_LAST):
            s.asked(op)
        s.tell(plus(first, 2), NAK_SEQUENCE)
        again(s, plus(first, 2))
        assert s.asked(rp.WRITE_MIDDLE, MTU).payload == s.peek(2 * MTU, MTU)
        assert s.asked(rp.WRITE_LAST, MTU, True).payload == s.peek(3 * MTU, MTU)
        s.tell(plus(first, 3))
        done(s, 1)


def test_sequence_errors_are_counted(roce_lab):
    """Each is a retry; progress gives them all back (section 9.9.2.1.2)."""
    with roce_lab.qp(retry=1, timeout=PATIENT) as s:
        for i in range(4):
            (psn,) = sends(s, 1)
            s.tell(psn, NAK_SEQUENCE)
            again(s, psn)
            s.asked(rp.SEND_ONLY)
            s.tell(psn)
            done(s, i + 1)
    with roce_lab.qp(retry=0, timeout=PATIENT) as s:
        psns = sends(s, 1, 2)
        s.tell(psns[0], NAK_SEQUENCE)
        failing(s, 1, RETRY, 2)


def test_receiver_not_ready(roce_lab):
    """It and what follows come again, no earlier than the peer asked for."""
    for code in (22, 26):
        with roce_lab.qp(timeout=PATIENT) as s:
            psns = sends(s, 1, 2, 3)
            asked_at = time.clock_gettime(time.CLOCK_REALTIME)
            s.tell(psns[1], RNR | code)
            done(s, 1)
            again(s, psns[1])
            waited = s.asked(rp.SEND_ONLY, 2).time - asked_at
            assert RNR_MS[code] / 1000 <= waited < RNR_MS[code] / 1000 + LATE
            s.asked(rp.SEND_ONLY, 3)
            s.tell(psns[2])
            done(s, 2, 3)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_receiver_is_never_ready(roce_lab, retries):
    """As often as was agreed upon; then the request fails, and those behind it are flushed."""
    with roce_lab.qp(rnr=retries, timeout=PATIENT) as s:
        psns = sends(s, 1, 2, 3)
        s.tell(psns[0])
        done(s, 1)
        for _ in range(retries):
            s.tell(psns[1], RNR | 1)
            again(s, psns[1])
            s.asked(rp.SEND_ONLY, 2)
            s.asked(rp.SEND_ONLY, 3)
        s.tell(psns[1], RNR | 1)
        failing(s, 2, RNR_RETRY, 3)
        assert s.peer.quiet(0.05)


@pytest.mark.parametrize("behind", [RNR | 29, NAK_SEQUENCE])
def test_receiver_not_ready_comes_twice(roce_lab, behind):
    """The network doubles it, or something older follows: one try, and the time that was asked for is kept."""
    with roce_lab.qp(rnr=1, timeout=PATIENT) as s:
        psns = sends(s, 1, 2)
        asked_at = time.clock_gettime(time.CLOCK_REALTIME)
        s.tell(psns[0], RNR | 29)
        for _ in range(3):
            s.tell(psns[0], behind)
        again(s, psns[0])
        assert s.asked(rp.SEND_ONLY, 1).time - asked_at >= RNR_MS[29] / 1000
        s.asked(rp.SEND_ONLY, 2)
        assert s.peer.quiet(0.05)
        s.tell(psns[1])
        done(s, 1, 2)


def test_receiver_may_take_its_time(roce_lab):
    """rnr_retry 7 stands for any number; retry_cnt is not touched."""
    with roce_lab.qp(rnr=7, retry=0, timeout=PATIENT) as s:
        (psn,) = sends(s, 1)
        for _ in range(12):
            s.tell(psn, RNR | 1)
            again(s, psn)
            s.asked(rp.SEND_ONLY, 1)
        s.tell(psn)
        done(s, 1)


@pytest.mark.parametrize("retries", [0, 2])
def test_silence(roce_lab, retries):
    """Sent 1 + retry_cnt times, each after the timeout; then the request fails, and those behind it are flushed."""
    with roce_lab.qp(retry=retries, timeout=QUICK) as s:
        s.p("send 0 1")
        s.p("send 0 2")
        came = [s.asked(rp.SEND_ONLY, 1).time]
        s.asked(rp.SEND_ONLY, 2)
        for _ in range(retries):
            again(s, SQ_PSN)
            came.append(s.asked(rp.SEND_ONLY, 1).time)
            s.asked(rp.SEND_ONLY, 2)
        for one, two in itertools.pairwise(came):
            assert seconds(QUICK) <= two - one < 4 * seconds(QUICK) + LATE
        failing(s, 1, RETRY, 2)
        assert s.peer.quiet(2 * seconds(QUICK))


def test_silence_after_progress(roce_lab):
    """The retries begin anew with each acknowledge."""
    with roce_lab.qp(retry=1, timeout=SLOW) as s:
        psns = sends(s, 1, 2)
        for i, psn in enumerate(psns):
            again(s, psn)
            for n in range(i, 2):
                s.asked(rp.SEND_ONLY, n + 1)
            s.tell(psn)
            done(s, i + 1)


def test_no_timeout(roce_lab):
    """Code 0: it is waited for ever."""
    with roce_lab.qp(timeout=0, retry=0) as s:
        (psn,) = sends(s, 1)
        assert s.peer.quiet(1)
        s.tell(psn)
        done(s, 1)


# --- refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("syndrome,status", [(NAK_INVALID, INVALID), (NAK_ACCESS, ACCESS), (NAK_OPERATION, OPERATION)])
@pytest.mark.parametrize("what", ["send", "write", "read", "fadd", "flush"])
def test_refused(roce_lab, what, syndrome, status):
    """What is before it has arrived, it fails, what is behind it is flushed."""
    with roce_lab.qp(timeout=PATIENT, flush=int(what == "flush")) as s:
        s.p("recv 4096 100")
        (first,) = sends(s, 1)
        s.p(
            {
                "send": "send 0 8",
                "write": f"write 0 8 {ADDR} {KEY}",
                "read": f"read 0 8 {ADDR} {KEY}",
                "fadd": f"fadd 0 {ADDR} {KEY} 1",
                "flush": f"flush g range {ADDR} 8 {KEY}",
            }[what]
        )
        s.p("send 0 1")
        refused, behind = s.peer.recv(), s.peer.recv()
        assert (refused.psn, behind.psn) == (plus(first), plus(first, 2))
        s.tell(refused.psn, syndrome)
        assert (wc := s.p.poll())["status"] == 0 and wc["wr"] == 2
        # Then the send behind it; the receive's queue and theirs are in no order.
        rest = [(wc["wr"], wc["status"]) for wc in (s.p.poll() for _ in range(3))]
        rest.remove((1, FLUSHED))
        assert rest == [(3, status), (4, FLUSHED)]
        s.failed()
        s.tell(behind.psn)
        s.nothing_completed()
        assert s.peer.quiet(0.05)


def test_read_refused_in_its_middle(roce_lab):
    """What has come stands; the request fails."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"read 0 {3 * MTU} {ADDR} {KEY}")
        psn = s.asked(rp.READ_REQUEST).psn
        response(s, psn, 0, 3, b"r" * MTU)
        s.tell(plus(psn), NAK_ACCESS)
        failing(s, 1, ACCESS)
        assert s.peek(0, MTU + 1) == b"r" * MTU + b"\0"


# --- what cannot be executed here ------------------------------------------------------------


def test_wrong_key_in_its_turn(roce_lab):
    """What is before it completes when it is acknowledged, sent again if it has to be; nothing behind it is sent."""
    with roce_lab.qp(timeout=PATIENT) as s:
        psns = sends(s, 1, 2)
        s.p(f"send 0 3 lkey={s.key ^ 0x5A5A00}")
        s.p("send 0 4")
        assert s.peer.quiet(0.1)
        s.nothing_completed()
        assert s.state() == RTS
        s.tell(psns[0])
        done(s, 1)
        s.tell(psns[1], NAK_SEQUENCE)
        again(s, psns[1])
        s.asked(rp.SEND_ONLY, 2)
        s.nothing_completed()
        s.tell(psns[1])
        assert s.p.good()["wr"] == 2
        failing(s, 3, PROTECTION, 4)
        assert s.peer.quiet(0.05)


def test_wrong_bounds_in_a_message(roce_lab):
    """The same where only the second packet's memory is none of the region's."""
    with roce_lab.qp(timeout=PATIENT) as s:
        lkey = s.p(f"region lr 0 {MTU}")["lkey"]
        (psn,) = sends(s, 1)
        s.p(f"send 0 {3 * MTU} lkey={lkey}")
        s.asked(rp.SEND_FIRST, MTU)
        assert s.peer.quiet(0.1)
        s.nothing_completed()
        s.tell(psn)
        assert s.p.good()["wr"] == 1
        failing(s, 2, PROTECTION)


def test_silence_before_a_wrong_key(roce_lab):
    """What is before it is never acknowledged: that is what fails, and the other is flushed."""
    with roce_lab.qp(retry=1, timeout=QUICK) as s:
        s.p("send 0 1")
        s.p(f"send 0 2 lkey={s.key ^ 0x5A5A00}")
        for _ in range(2):
            again(s, SQ_PSN)
            s.asked(rp.SEND_ONLY, 1)
        failing(s, 1, RETRY, 2)


# --- answers of reads and atomics ------------------------------------------------------------


def test_read_response_out_of_order(roce_lab):
    """A packet is missing: from there on it is asked for again, and what came too early does not count."""
    data = random.randbytes(4 * MTU)
    parts = [data[i : i + MTU] for i in range(0, len(data), MTU)]
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"read 8192 {4 * MTU} {ADDR} {KEY}")
        psn = s.asked(rp.READ_REQUEST).psn
        response(s, psn, 0, 4, parts[0])
        response(s, psn, 2, 4, b"!" * MTU)
        response(s, psn, 3, 4, b"!" * MTU)
        again(s, plus(psn))
        assert s.asked(rp.READ_REQUEST).reth == (ADDR + MTU, KEY, 3 * MTU)
        assert s.peer.quiet(0.05)
        s.nothing_completed()
        assert s.peek(8192 + MTU, 3 * MTU) == bytes(3 * MTU)
        # Its answer is one of its own, and begins with a FIRST.
        answer_read(s, plus(psn), data[MTU:])
        done(s, 1)
        assert s.peek(8192, 4 * MTU) == data


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_read_response_lost(roce_lab, lost):
    """Nothing comes any more: after the timeout the rest is asked for."""
    data = random.randbytes(4 * MTU - 1)
    with roce_lab.qp(timeout=SLOW) as s:
        s.p(f"read 8192 {len(data)} {ADDR} {KEY}")
        q = s.asked(rp.READ_REQUEST)
        for i in range(lost):
            response(s, q.psn, i, 4, data[i * MTU : (i + 1) * MTU])
        again(s, plus(q.psn, lost))
        r = s.asked(rp.READ_REQUEST)
        assert r.reth == (ADDR + lost * MTU, KEY, len(data) - lost * MTU)
        assert r.time - q.time >= seconds(SLOW)
        answer_read(s, r.psn, data[lost * MTU :])
        done(s, 1)
        assert s.peek(8192, len(data)) == data


def test_read_response_comes_again(roce_lab):
    """What is there already is not placed again."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"read 8192 {2 * MTU} {ADDR} {KEY}")
        psn = s.asked(rp.READ_REQUEST).psn
        response(s, psn, 0, 2, b"a" * MTU)
        response(s, psn, 0, 2, b"!" * MTU)
        response(s, psn, 1, 2, b"b" * MTU)
        done(s, 1)
        response(s, psn, 1, 2, b"!" * MTU)
        assert s.peer.quiet(0.05)
        assert s.peek(8192, 2 * MTU) == b"a" * MTU + b"b" * MTU
        assert s.state() == RTS


@pytest.mark.parametrize("index,n", [(0, MTU - 4), (0, 0), (0, MTU + 4), (1, 99), (1, 101), (1, 0)])
def test_read_response_of_a_wrong_length(roce_lab, index, n):
    """The request fails, and nothing is placed beside it."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"read 8192 {MTU + 100} {ADDR} {KEY}")
        s.p("send 0 1")
        psn = s.asked(rp.READ_REQUEST).psn
        if index:
            response(s, psn, 0, 2, b"a" * MTU)
        response(s, psn, index, 2, b"!" * n)
        failing(s, 1, BAD_RESPONSE, 2)
        assert s.peek(8192 + MTU + 100, 8) == bytes(8)
        assert s.peek(8192 + index * MTU, 1) == b"\0"


@pytest.mark.parametrize("index", range(3))
def test_read_response_of_a_wrong_place(roce_lab, index):
    """What begins or ends where the answer does not is none: the request fails, and nothing is placed."""
    places = [rp.READ_FIRST, rp.READ_MIDDLE, rp.READ_LAST]
    for op in {*places, rp.READ_ONLY} - {places[index]}:
        with roce_lab.qp(timeout=PATIENT) as s:
            s.p(f"read 8192 {3 * MTU} {ADDR} {KEY}")
            s.p("send 0 1")
            psn = s.asked(rp.READ_REQUEST).psn
            for i in range(index):
                response(s, psn, i, 3, b"a" * MTU)
            s.peer.send(op, plus(psn, index), *(rp.aeth(ACK, 0),) * (op != rp.READ_MIDDLE), payload=b"!" * MTU)
            failing(s, 1, BAD_RESPONSE, 2)
            assert s.peek(8192 + index * MTU, 8) == bytes(8)


def test_read_response_goes_on(roce_lab):
    """The rest is asked for again, and the peer goes on with a MIDDLE, as rxe does, or as if it had never stopped."""
    data = random.randbytes(4 * MTU)
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"read 8192 {4 * MTU} {ADDR} {KEY}")
        psn = s.asked(rp.READ_REQUEST).psn
        response(s, psn, 0, 4, data[:MTU])
        response(s, psn, 2, 4, b"!" * MTU)
        again(s, plus(psn))
        assert s.asked(rp.READ_REQUEST).reth == (ADDR + MTU, KEY, 3 * MTU)
        for i in range(1, 4):
            response(s, psn, i, 4, data[i * MTU : (i + 1) * MTU])
        done(s, 1)
        assert s.peek(8192, 4 * MTU) == data


@pytest.mark.parametrize("syndrome", [NAK_SEQUENCE, NAK_ACCESS, RNR | 1, 0x40])
@pytest.mark.parametrize("what", ["read", "fadd"])
def test_response_that_refuses(roce_lab, what, syndrome):
    """Only an acknowledge refuses: a response whose syndrome says so is none."""
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"read 8192 8 {ADDR} {KEY}" if what == "read" else f"fadd 8192 {ADDR} {KEY} 1")
        psn = s.asked(rp.READ_REQUEST if what == "read" else rp.FETCH_ADD).psn
        if what == "read":
            s.peer.send(rp.READ_ONLY, psn, rp.aeth(syndrome, 1), payload=b"8 bytes.")
        else:
            s.peer.send(rp.ATOMIC_ACK, psn, rp.aeth(syndrome, 1), rp.atomic_ack(1))
        failing(s, 1, BAD_RESPONSE)
        assert s.peek(8192, 8) == bytes(8)


def test_implied_sequence_error(roce_lab):
    """What is behind a read is acknowledged, and the read is not answered: both come again (section 9.7.5.2.8)."""
    for kind in ("read", "fadd"):
        with roce_lab.qp(timeout=PATIENT) as s:
            s.p(f"read 0 8 {ADDR} {KEY}" if kind == "read" else f"fadd 0 {ADDR} {KEY} 1")
            s.p("send 0 1")
            asks, send = s.peer.recv(), s.peer.recv()
            s.tell(send.psn)
            s.nothing_completed()
            again(s, asks.psn)
            s.asked(rp.READ_REQUEST if kind == "read" else rp.FETCH_ADD)
            s.asked(rp.SEND_ONLY, 1)
            if kind == "read":
                answer_read(s, asks.psn, b"8 bytes.")
            else:
                s.peer.send(rp.ATOMIC_ACK, asks.psn, rp.aeth(ACK, 1), rp.atomic_ack(1))
            done(s, 1)
            s.tell(send.psn)
            done(s, 2)


def test_response_acknowledges_what_is_before_it(roce_lab):
    with roce_lab.qp(timeout=PATIENT) as s:
        sends(s, 1, 2)
        s.p(f"read 0 8 {ADDR} {KEY}")
        answer_read(s, s.asked(rp.READ_REQUEST).psn, b"8 bytes.")
        done(s, 1, 2, 3)


WRONG_ANSWERS = {
    "atomic's for a read": ("read", rp.ATOMIC_ACK, rp.atomic_ack(1)),
    "read's for an atomic": ("fadd", rp.READ_ONLY, b"8 bytes."),
    "read's for a send": ("send", rp.READ_ONLY, b"8 bytes."),
    "read's, with data, for a flush": ("flush", rp.READ_ONLY, b"8 bytes."),
    "atomic's for a flush": ("flush", rp.ATOMIC_ACK, rp.atomic_ack(1)),
}
ASKING = {
    "read": f"read 0 8 {ADDR} {KEY}",
    "fadd": f"fadd 0 {ADDR} {KEY} 1",
    "send": "send 0 8",
    "flush": f"flush g range {ADDR} 8 {KEY}",
}


@pytest.mark.parametrize("what", WRONG_ANSWERS)
def test_answer_of_the_wrong_kind(roce_lab, what):
    kind, op, answer = WRONG_ANSWERS[what]
    with roce_lab.qp(timeout=PATIENT, flush=int(kind == "flush")) as s:
        s.p("fill 0 64 9")
        was = s.p("sum 0 64")
        s.p(ASKING[kind])
        psn = s.peer.recv().psn
        s.peer.send(op, psn, rp.aeth(ACK, 1), answer)
        failing(s, 1, BAD_RESPONSE)
        assert s.p("sum 0 64") == was


def test_answers_with_a_bad_icrc_or_from_elsewhere(roce_lab):
    """Are none."""
    with roce_lab.qp(timeout=PATIENT) as s:
        (psn,) = sends(s, 1)
        bad = bytearray(s.peer.datagram(s.peer.body(rp.ACKNOWLEDGE, psn, rp.aeth(ACK, 1))))
        bad[-1] ^= 1
        s.peer.raw(bytes(bad))
        s.peer.send(rp.ACKNOWLEDGE, psn, rp.aeth(NAK_ACCESS, 1), qpn=s.qpn ^ 1)
        s.peer.send(rp.UC | rp.ACKNOWLEDGE, psn, rp.aeth(NAK_ACCESS, 1))
        s.nothing_completed()
        assert s.state() == RTS
        s.tell(psn)
        done(s, 1)


def test_both_directions_at_once(roce_lab):
    """Requests and answers of each side between those of the other."""
    data = random.randbytes(2 * MTU)
    with roce_lab.qp(timeout=PATIENT) as s:
        s.p(f"poke 0 {data.hex()}")
        s.p(f"send 0 {2 * MTU}")
        s.p(f"read 8192 {MTU} {ADDR} {KEY}")
        s.asked(rp.SEND_FIRST, MTU)
        s.asked(rp.SEND_LAST, MTU)
        q = s.asked(rp.READ_REQUEST)
        s.told(s.ask(rp.WRITE_ONLY, rp.reth(s.addr + 16384, s.key, 5), payload=b"write"))
        read = s.ask(rp.READ_REQUEST, rp.reth(s.addr, s.key, 2 * MTU), packets=2)
        assert s.read_answer(read, 2 * MTU) == data
        answer_read(s, q.psn, data[:MTU])
        done(s, 1, 2)
        assert s.peek(8192, MTU) == data[:MTU]
        s.works()
