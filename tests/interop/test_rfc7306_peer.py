# SPDX-License-Identifier: GPL-2.0
"""Immediate data and atomics (RFC 7306) with the scripted peer: what is on the wire, and what may not be."""

import struct

import mpa_peer as mp
import pytest
from capture import Capture
from ends import Puppet, join
from lab import PORT, bad_key, check_quote, echo, other
from mpa_peer import ALL_BITS, CMP_SWAP, FETCH_ADD, C, R, S, enhanced, fpdu

pytestmark = pytest.mark.usefixtures("harmless")
# Of completions: status, opcode, flags.
FLUSHED, REM_INV_REQ, REM_ACCESS, REM_OP = 5, 9, 10, 11
RDMA_WRITE, COMP_SWAP, FETCH_AND_ADD, RECV, RECV_RDMA_WITH_IMM = 1, 3, 4, 128, 129
WITH_IMM = 2
READY = mp.tagged(mp.WRITE, 0, 0)


def atomics(s):
    """The session with a region of the puppet's that takes atomics in place of its own."""
    return other(s, "lwra")


def word(s, at=0):
    """A word of the region, as a number of the puppet's machine."""
    return struct.unpack("=Q", bytes.fromhex(s.p(f"peek {at} 8")["data"]))[0]


def poke(s, value, at=0):
    s.p(f"poke {at} {struct.pack('=Q', value).hex()}")


def request(s, msn=1, ident=7, to=0, aop=FETCH_ADD, data=1, **kw):
    return mp.atomic_request(msn, ident, s.key, (s.addr + to) & ALL_BITS, aop, data, **kw)


# --- immediate data of the peer ----------------------------------------------


@pytest.mark.parametrize("op", [mp.IMM, mp.IMM_SE])
def test_immediate_data(lab, op):
    """Alone: a receive is taken and told the first four of the eight bytes; nothing is placed."""
    with lab.session() as s:
        s.p("fill 4096 100 3")
        before = s.p("sum 4096 100")
        s.p("recv 4096 100")
        s.peer.fpdu(mp.immediate(1, bytes.fromhex("a1a2a3a4b1b2b3b4"), op=op))
        wc = s.p.good()
        assert (wc["opcode"], wc["flags"], wc["len"], wc["imm"]) == (RECV_RDMA_WITH_IMM, WITH_IMM, 0, 0xA1A2A3A4)
        assert s.p("sum 4096 100") == before
        s.peer.msn = 2
        echo(s)


def test_immediate_data_needs_no_room(lab):
    """A receive without a buffer does."""
    with lab.session() as s:
        s.p("recv 0 0")
        s.peer.fpdu(mp.immediate(1, bytes(8)))
        assert s.p.good()["opcode"] == RECV_RDMA_WITH_IMM


def test_write_with_immediate_data(lab):
    """The completion has the length of the Write, whatever segments it came in, and of no other one."""
    with lab.session() as s:
        for _ in range(6):
            s.p("recv 65536 100")
        text = bytes(range(250))
        s.peer.fpdu(mp.tagged(mp.WRITE, s.key, s.addr, text[:100], last=False))
        s.peer.fpdu(mp.tagged(mp.WRITE, s.key, s.addr + 100, text[100:]))
        s.peer.fpdu(mp.immediate(1, b"\0\0\0\1\0\0\0\0"))
        # Between the two an answer of the peer's is no operation of its own.
        s.p(f"read 8192 10 0 {0x1234}")
        sink, to, *_ = struct.unpack(">IQIIQ", s.peer.recv().payload)
        s.peer.fpdu(mp.tagged(mp.WRITE, s.key, s.addr, text[:7]))
        s.peer.fpdu(mp.tagged(mp.READ_RESP, sink, to, b"x" * 10))
        s.peer.fpdu(mp.immediate(2, b"\0\0\0\2\0\0\0\0"))
        # Of a Write that something came behind it does not tell.
        s.peer.fpdu(mp.tagged(mp.WRITE, s.key, s.addr, text[:9]))
        s.peer.fpdu(mp.send(3, b"between"))
        s.peer.fpdu(mp.immediate(4, b"\0\0\0\4\0\0\0\0"))
        # Nor twice.
        s.peer.fpdu(mp.immediate(5, b"\0\0\0\5\0\0\0\0"))
        got = []
        for _ in range(6):
            wc = s.p.good()
            got.append((wc["opcode"], wc["len"], wc["imm"] if wc["flags"] == WITH_IMM else None))
        read = (2, 10, None)
        assert read in got
        got.remove(read)
        imm = RECV_RDMA_WITH_IMM
        assert got == [(imm, 250, 1), (imm, 7, 2), (RECV, 7, None), (imm, 0, 4), (imm, 0, 5)]
        assert bytes.fromhex(s.p("peek 0 250")["data"]) == text


def test_immediate_data_without_a_receive(lab):
    with lab.session() as s:
        u = mp.immediate(1, bytes(8))
        s.peer.fpdu(u)
        t = s.peer.recv_terminate()
        assert t.error == (1, 2, 2)
        check_quote(t, u)
        lab.gone()


# What the peer sends, and the Terminate that must answer it: layer, type, code. RFC 7306 sections 4, 6.3 and 8.2.
BAD_IMMEDIATE = {
    "no data": (lambda s: mp.immediate(1, b""), (0, 2, 255)),
    "7 bytes": (lambda s: mp.immediate(1, bytes(7)), (0, 2, 255)),
    "9 bytes": (lambda s: mp.immediate(1, bytes(9)), (1, 2, 5)),
    "many bytes": (lambda s: mp.immediate(1, bytes(1200)), (1, 2, 5)),
    "not the last segment": (lambda s: mp.immediate(1, bytes(8), last=False), (0, 2, 255)),
    "queue 1": (lambda s: mp.untagged(mp.IMM, 1, 1, bytes(8)), (1, 2, 1)),
    "queue 3": (lambda s: mp.untagged(mp.IMM_SE, 3, 1, bytes(8)), (1, 2, 1)),
    "MSN": (lambda s: mp.immediate(2, bytes(8)), (1, 2, 3)),
    "MO": (lambda s: mp.immediate(1, bytes(8), mo=8), (1, 2, 4)),
    "tagged": (lambda s: mp.tagged(mp.IMM, s.key, s.addr, bytes(8)), (0, 2, 6)),
}


@pytest.mark.parametrize("what", BAD_IMMEDIATE)
def test_bad_immediate_data(lab, what):
    build, want = BAD_IMMEDIATE[what]
    with lab.session() as s:
        s.p("recv 4096 100")
        u = build(s)
        s.peer.fpdu(u)
        t = s.peer.recv_terminate()
        assert t.error == want
        check_quote(t, u)
        lab.gone()
        assert s.p.poll()["status"] == FLUSHED


# --- atomics of the peer ----------------------------------------------------


@pytest.mark.parametrize(
    "before,kw,after",
    [
        (41, {"data": 1}, 42),
        (ALL_BITS, {"data": 2}, 1),
        # Fields of 8 bits, none of which runs over into the next.
        (0x01FF_01FF_01FF_01FF, {"data": 0x0101_0101_0101_0101, "mask": 0x8080_8080_8080_8080}, 0x0200_0200_0200_0200),
        # The compare fields are not for this operation.
        (5, {"data": 0, "compare": 1, "compare_mask": 0}, 5),
        (0x1122334455667788, {"aop": CMP_SWAP, "data": 9, "compare": 0x1122334455667788}, 9),
        (0x1122334455667788, {"aop": CMP_SWAP, "data": 9, "compare": 0x1122334455667789}, 0x1122334455667788),
        (
            0x1122334455667788,
            {"aop": CMP_SWAP, "data": ALL_BITS, "mask": 0xFF, "compare": 0x1100 << 48, "compare_mask": 0xFF << 56},
            0x11223344556677FF,
        ),
        # Nothing is compared, nothing swapped.
        (7, {"aop": CMP_SWAP, "data": 8, "mask": 0, "compare": 9, "compare_mask": 0}, 7),
    ],
)
def test_atomic(lab, before, kw, after):
    with lab.session() as s:
        s.p("fill 0 24 1")
        poke(s, before, 8)
        around = s.p("peek 0 8"), s.p("peek 16 8")
        s.peer.fpdu(request(atomics(s), ident=0xA1B2C3D4, to=8, **kw))
        answer = s.peer.recv()
        assert answer.msn == 1
        assert answer.original == (0xA1B2C3D4, before)
        assert word(s, 8) == after
        assert (s.p("peek 0 8"), s.p("peek 16 8")) == around
        echo(s)


def test_reserved_bits_of_an_atomic(lab):
    """28 bits before the operation, the Invalidate STag, bits of the control fields."""
    with lab.session() as s:
        poke(s, 0)
        u = bytearray(request(atomics(s), reserved=(1 << 28) - 1, word=0xFFFFFFFF))
        u[0] |= 0x3C
        u[1] |= 0x30
        s.peer.fpdu(bytes(u))
        assert s.peer.recv().original == (7, 0)
        assert word(s) == 1


def test_atomics_and_reads_are_answered_in_order(lab):
    """They share queue 1 and its numbers; the answers of atomics are counted by themselves."""
    with lab.session(depths=(16, 4)) as s:
        poke(s, 0)
        a = atomics(s)
        said = b""
        for msn in range(1, 13):
            if msn % 3 == 0:
                said += fpdu(mp.read_request(msn, 0x100 + msn, 0, 8, a.key, a.addr))
            else:
                said += fpdu(request(a, msn=msn, ident=msn, data=1))
        s.peer.raw(said)
        value = number = 0
        for msn in range(1, 13):
            got = s.peer.recv()
            if msn % 3 == 0:
                assert (got.op, got.stag) == (mp.READ_RESP, 0x100 + msn)
                assert struct.unpack("=Q", got.payload)[0] == value
            else:
                number += 1
                assert got.msn == number
                assert got.original == (msn, value)
                value += 1
        assert word(s) == 8


def test_more_atomics_than_granted(lab):
    """RFC 7306 section 5.2: they count like reads; RFC 5041 section 7.1: no buffer in queue 1."""
    with lab.session(rev=2, flags=C | S, pd=enhanced(1, 1), depths=(1, 1), rcvbuf=4096) as s:
        poke(s, 0)
        a = atomics(s)
        s.peer.raw(b"".join(fpdu(request(a, msn=i)) for i in range(1, 9)))
        seg = s.peer.recv()
        answers = 0
        while seg.op != mp.TERMINATE:
            assert seg.original == (7, answers)
            answers += 1
            seg = s.peer.recv()
        assert seg.error == (1, 2, 2)
        lab.gone()
        # What was not answered was not done, but for the one whose answer the end overtook.
        assert word(s) - answers in (0, 1)


def test_atomic_placed_write_before_it(lab):
    """RFC 7306 section 7: the answer comes after what was written before it is placed."""
    with lab.session() as s:
        a = atomics(s)
        for i in range(1, 21):
            s.peer.raw(fpdu(mp.tagged(mp.WRITE, s.key, s.addr, struct.pack("=Q", i * 10))) + fpdu(request(a, msn=i)))
            assert s.peer.recv().original == (7, i * 10)
        assert word(s) == 201


END = 1 << 12
# As BAD_IMMEDIATE. RFC 7306 sections 4, 5.2.1 and 8.2, RFC 5040 sections 4.8 and 7.2.
BAD_ATOMIC = {
    "unaligned by 1": (lambda s: request(atomics(s), to=1), (0, 2, 7)),
    "unaligned by 4, compare and swap": (lambda s: request(atomics(s), to=4, aop=CMP_SWAP), (0, 2, 7)),
    "unaligned by 7": (lambda s: request(atomics(s), to=7), (0, 2, 7)),
    "key": (lambda s: request(bad_key(atomics(s))), (0, 1, 0)),
    "key 0": (lambda s: mp.atomic_request(1, 7, 0, s.addr, FETCH_ADD, 1), (0, 1, 0)),
    "behind the region": (lambda s: request(atomics(s), to=END), (0, 1, 1)),
    "before the region": (lambda s: request(other(s, "lwra", 4096, 4096), to=-8), (0, 1, 1)),
    "end of the address space": (
        lambda s: mp.atomic_request(1, 7, atomics(s).key, ALL_BITS - 7, FETCH_ADD, 1),
        (0, 1, 1),
    ),
    "no right": (lambda s: request(s), (0, 1, 2)),
    "no right but to write": (lambda s: request(other(s, "lw")), (0, 1, 2)),
    "other domain": (lambda s: request(other(s, "xlwra")), (0, 1, 3)),
    "operation 1": (lambda s: request(atomics(s), aop=1), (0, 2, 6)),
    "operation 3": (lambda s: request(atomics(s), aop=3), (0, 2, 6)),
    "operation 15": (lambda s: request(atomics(s), aop=15), (0, 2, 6)),
    "no body": (lambda s: mp.untagged(mp.ATOMIC_REQ, 1, 1), (0, 2, 255)),
    "51 bytes": (lambda s: request(atomics(s))[:-1], (0, 2, 255)),
    "53 bytes": (lambda s: request(atomics(s)) + b"\0", (1, 2, 5)),
    "not the last segment": (lambda s: request(atomics(s), last=False), (0, 2, 255)),
    "queue 0": (lambda s: mp.untagged(mp.ATOMIC_REQ, 0, 1, bytes(52)), (1, 2, 1)),
    "queue 3": (lambda s: mp.untagged(mp.ATOMIC_REQ, 3, 1, bytes(52)), (1, 2, 1)),
    "MSN": (lambda s: request(atomics(s), msn=2), (1, 2, 3)),
    "MO": (lambda s: request(atomics(s), mo=52), (1, 2, 4)),
    "tagged": (lambda s: mp.tagged(mp.ATOMIC_REQ, s.key, s.addr, bytes(52)), (0, 2, 6)),
    "response that nobody waits for": (lambda s: mp.atomic_response(1, 7, 8), (0, 2, 6)),
    "response in queue 0": (lambda s: mp.untagged(mp.ATOMIC_RESP, 0, 1, bytes(12)), (1, 2, 1)),
    "response of 32 bytes": (lambda s: mp.untagged(mp.ATOMIC_RESP, 3, 1, bytes(32)), (1, 2, 5)),
    "response of 11 bytes": (lambda s: mp.untagged(mp.ATOMIC_RESP, 3, 1, bytes(11)), (0, 2, 255)),
}


@pytest.mark.parametrize("what", BAD_ATOMIC)
def test_bad_atomic(lab, what):
    """Refused with its Terminate, and no byte is touched."""
    build, want = BAD_ATOMIC[what]
    with lab.session() as s:
        s.p("recv 65536 100")
        s.p("fill 0 16384 5")
        before = s.p("sum 0 16384")
        u = build(s)
        s.peer.fpdu(u)
        t = s.peer.recv_terminate()
        assert t.error == want
        check_quote(t, u)
        lab.gone()
        assert s.p("sum 0 16384") == before
        assert s.p.poll()["status"] == FLUSHED


# --- immediate data of ours --------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 20000])
@pytest.mark.parametrize("se", ["", "se"])
def test_write_with_immediate_data_by_us(lab, size, se):
    """A Write, then at once Immediate Data: the four bytes and zeros; numbered with the sends."""
    with lab.session() as s:
        s.peer.fpdu(READY)
        s.p("fill 0 20000 9")
        text = bytes.fromhex(s.p(f"peek 0 {size}")["data"]) if size else b""
        for msn, imm in ((1, 0xA1A2A3A4), (2, 1), (4, 0xFFFFFFFF)):
            if msn == 4:
                s.p("send 0 5")
                assert (s.peer.recv().msn, s.p.good()["opcode"]) == (3, 0)
            s.p(f"writeimm 0 {size} {0x12345678} {0x99} {imm} {se}")
            first, data = s.peer.recv_message()
            assert (first.op, first.stag, first.to, data) == (mp.WRITE, 0x99, 0x12345678, text)
            got = s.peer.recv()
            assert (got.op, got.tagged, got.last) == (mp.IMM_SE if se else mp.IMM, False, True)
            assert (got.qn, got.msn, got.mo, got.stag) == (0, msn, 0, 0)
            assert got.payload == struct.pack(">II", imm, 0)
            wc = s.p.good()
            assert (wc["opcode"], wc["len"]) == (RDMA_WRITE, size)


def test_nothing_between_write_and_immediate_data(lab):
    """However many requests of the peer wait for an answer."""
    with lab.session(depths=(64, 4)) as s:
        a = atomics(s)
        for msn in range(1, 61):
            if msn % 2:
                s.peer.fpdu(mp.read_request(msn, msn, 0, 3000, s.key, s.addr))
            else:
                s.peer.fpdu(request(a, msn=msn))
            if msn % 4 == 0:
                s.p(f"writeimm 0 5000 0 {0x99} {msn}")
        left, writes = 60 + 15, 0
        while left:
            first, _ = s.peer.recv_message()
            left -= 1
            if first.op == mp.WRITE:
                writes += 1
                got = s.peer.recv()
                assert (got.op, got.msn) == (mp.IMM, writes)
        assert writes == 15
        for _ in range(15):
            s.p.good()


# --- atomics of ours ----------------------------------------------------------


def test_atomic_by_us(lab):
    """All fields of the requests; the result is a number of our machine."""
    with lab.session(depths=(4, 4)) as s:
        s.peer.fpdu(READY)
        s.p(f"fadd 64 {0x1122334455667788} {0x99AABBCC} {0x0102030405060708}")
        one = s.peer.recv()
        assert (one.msn, one.stag) == (1, 0)
        aop, ident, stag, to, data, mask, compare, compare_mask = one.atomic
        assert (aop, stag, to) == (FETCH_ADD, 0x99AABBCC, 0x1122334455667788)
        assert (data, mask, compare, compare_mask) == (0x0102030405060708, 0, 0, ALL_BITS)
        s.p(f"cas 72 {0x1122334455667788} {0x99AABBCC} {0x5152535455565758} {0x6162636465666768}")
        two = s.peer.recv()
        assert two.msn == 2
        aop, ident2, stag, to, data, mask, compare, compare_mask = two.atomic
        assert (aop, stag, to) == (CMP_SWAP, 0x99AABBCC, 0x1122334455667788)
        assert (data, mask) == (0x6162636465666768, ALL_BITS)
        assert (compare, compare_mask) == (0x5152535455565758, ALL_BITS)
        assert ident != ident2
        s.peer.fpdu(mp.atomic_response(1, ident, 0x0807060504030201))
        wc = s.p.good()
        assert (wc["opcode"], wc["len"]) == (FETCH_AND_ADD, 8)
        assert word(s, 64) == 0x0807060504030201
        s.peer.fpdu(mp.atomic_response(2, ident2, 5))
        wc = s.p.good()
        assert (wc["opcode"], wc["len"]) == (COMP_SWAP, 8)
        assert word(s, 72) == 5
        # A read has the next number.
        s.p(f"read 0 10 0 {0x99}")
        assert s.peer.recv().msn == 3


def test_outbound_depth_of_atomics(lab):
    """No more than the peer takes, with reads together."""
    with lab.session(rev=2, flags=C | S, pd=enhanced(2, 1), depths=(1, 4)) as s:
        assert s.reply.flags & R == 0
        s.peer.fpdu(READY)
        for i in range(4):
            s.p(f"fadd {8 * i} 0 {0x99} {i}")
        s.p(f"read 100 4 0 {0x99}")
        got = [s.peer.recv(), s.peer.recv()]
        for i in range(4):
            assert s.peer.quiet(0.2)
            s.peer.fpdu(mp.atomic_response(i + 1, got[i].atomic[1], 100 + i))
            s.p.good()
            if i < 3:
                got.append(s.peer.recv())
        assert [x.msn for x in got] == [1, 2, 3, 4, 5]
        assert got[4].op == mp.READ_REQ
        assert [word(s, 8 * i) for i in range(4)] == [100, 101, 102, 103]


BAD_RESPONSES = {
    "another identifier": lambda i: mp.atomic_response(1, i ^ 1, 9),
    "number 0": lambda i: mp.atomic_response(0, i, 9),
    "number 2": lambda i: mp.atomic_response(2, i, 9),
    "queue 1": lambda i: mp.untagged(mp.ATOMIC_RESP, 1, 1, struct.pack(">IQ", i, 9)),
    "too short": lambda i: mp.atomic_response(1, i, 9)[:-1],
    "too long": lambda i: mp.atomic_response(1, i, 9) + bytes(20),
    "in two segments": lambda i: mp.atomic_response(1, i, 9, last=False),
    "of a read": lambda i: mp.tagged(mp.READ_RESP, 0x99, 0, bytes(8)),
}


@pytest.mark.parametrize("what", BAD_RESPONSES)
def test_bad_atomic_response(lab, what):
    with lab.session() as s:
        s.peer.fpdu(READY)
        s.p("fill 0 300 9")
        before = s.p("sum 0 300")
        s.p(f"fadd 64 0 {0x99} 1")
        u = BAD_RESPONSES[what](s.peer.recv().atomic[1])
        s.peer.fpdu(u)
        t = s.peer.recv_terminate()
        assert t.error[0] in (0, 1)
        check_quote(t, u)
        lab.gone()
        assert s.p.poll()["status"] == FLUSHED
        assert s.p("sum 0 300") == before


def test_answers_in_the_wrong_order(lab):
    """RFC 7306 section 7: an atomic is answered after the read before it."""
    with lab.session() as s:
        s.peer.fpdu(READY)
        s.p(f"read 0 8 0 {0x99}")
        s.p(f"fadd 64 0 {0x99} 1")
        s.peer.recv()
        s.peer.fpdu(mp.atomic_response(1, s.peer.recv().atomic[1], 5))
        assert s.peer.recv_terminate().error == (0, 2, 6)
        lab.gone()
        assert s.p.poll()["status"] == FLUSHED


@pytest.mark.parametrize(
    "error,quote,status",
    [
        ((0, 1, 2), True, REM_ACCESS),
        ((0, 1, 1), True, REM_ACCESS),
        ((0, 2, 7), True, REM_OP),
        ((0, 2, 6), True, REM_OP),
        ((1, 2, 2), True, REM_INV_REQ),
        # A peer that does not know RFC 7306 and quotes nothing (siw).
        ((0, 2, 6), False, REM_OP),
        ((0, 0, 0), False, FLUSHED),
        ((2, 0, 2), False, FLUSHED),
    ],
)
def test_atomic_that_the_peer_refuses(lab, error, quote, status):
    with lab.session() as s:
        s.peer.fpdu(READY)
        s.p(f"fadd 64 0 {0x99} 1")
        s.p(f"fadd 72 0 {0x99} 1")
        u = s.peer.recv_ulpdu()
        s.peer.recv()
        layer, etype, code = error
        body = bytes([layer << 4 | etype, code, 0xC0 if quote else 0, 0])
        if quote:
            body += struct.pack(">H", len(u)) + u[:18]
        s.peer.fpdu(mp.untagged(mp.TERMINATE, 2, 1, body))
        assert [s.p.poll()["status"] for _ in range(2)] == [status, FLUSHED]
        lab.gone()


# --- another decoder -----------------------------------------------------------

# As tshark names them, in the order of its output. It knows no immediate data.
FIELDS = [
    f"iwarp_rdma.{f}"
    for f in (
        "opcode",
        "atomic.opcode",
        "atomic.request_identifier",
        "atomic.remote_stag",
        "atomic.remote_tagged_offset",
        "atomic.add_data",
        "atomic.add_mask",
        "atomic.swap_data",
        "atomic.swap_mask",
        "atomic.compare_data",
        "atomic.compare_mask",
        "atomic.original_request_identifier",
        "atomic.original_remote_data_value",
    )
]


@pytest.mark.long
def test_atomics_decoded(lab, pair):
    """tshark reads in our atomics what was asked for and answered."""
    pair.offloads_off()
    with Capture(lab.b.netdev, lab.b.name) as cap:
        with Puppet(lab.a) as a, Puppet(lab.b) as b:
            a(f"listen {PORT + 3}")
            join(a, b, lab.a.ip, PORT + 3)
            r = a("region lwra 0 4096")
            b(f"fadd 64 {r['addr']} {r['key']} {0x1122334455667788}")
            b.good()
            b(f"cas 64 {r['addr']} {r['key']} {0x1122334455667788} {0x99}")
            b.good()
        rows = [dict(zip(FIELDS, x.split("\t"), strict=False)) for x in cap.fields(FIELDS).splitlines()]
        decoded = cap.decode()
    assert not decoded.malformed, decoded.malformed
    ours = [{k.rsplit(".")[-1]: int(v, 0) for k, v in x.items() if v and "," not in v} for x in rows]
    asked = [x for x in ours if "remote_stag" in x]
    answers = [x["original_remote_data_value"] for x in ours if "original_remote_data_value" in x]
    assert answers == [0, 0x1122334455667788]
    assert [x["remote_stag"] for x in asked] == [r["key"]] * 2
    assert [x["remote_tagged_offset"] for x in asked] == [r["addr"]] * 2
    assert (asked[0]["add_data"], asked[0]["add_mask"]) == (0x1122334455667788, 0)
    assert (asked[1]["swap_data"], asked[1]["swap_mask"]) == (0x99, ALL_BITS)
    assert (asked[1]["compare_data"], asked[1]["compare_mask"]) == (0x1122334455667788, ALL_BITS)
