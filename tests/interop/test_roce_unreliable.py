# SPDX-License-Identifier: GPL-2.0
"""UC and UD of rurdma_roce, and a peer that plays by no rules (IBTA volume 1, section 9.8)."""

import random
import socket

import pytest
import roce_peer as rp
from ends import Refused
from roce_lab import ERROR, EVENT_ESTABLISHED, MTU, PEER_QPN, RTS, SQ_PSN
from roce_peer import QKEY, deth, imm, plus, reth

pytestmark = pytest.mark.usefixtures("roce_harmless")
GRH = 40
# Of a completion.
WITH_GRH, WITH_IMM = 1, 2


# --- UC, received ------------------------------------------------------------------


def uc_works(s, n=10):
    """A message arrives, in the oldest receive."""
    data = random.randbytes(n)
    s.ask(rp.SEND_ONLY, payload=data)
    wc = s.p.good()
    assert wc["len"] == n
    return wc["wr"], data


def test_uc_messages(roce_lab):
    """SEND and WRITE of one packet and of several, with immediate data; nothing is acknowledged."""
    data = random.randbytes(2 * MTU + 9)
    parts = (data[:MTU], data[MTU : 2 * MTU], data[2 * MTU :])
    with roce_lab.qp("uc") as s:
        for off in (4096, 16384, 32768):
            s.p(f"recv {off} 8192")
        s.ask(rp.SEND_FIRST, payload=parts[0])
        s.ask(rp.SEND_MIDDLE, payload=parts[1])
        s.ask(rp.SEND_LAST, payload=parts[2])
        s.ask(rp.SEND_ONLY_IMM, imm(77), payload=b"imm")
        s.ask(rp.WRITE_FIRST, reth(s.addr, s.key, len(data)), payload=parts[0])
        s.ask(rp.WRITE_MIDDLE, payload=parts[1])
        s.ask(rp.WRITE_LAST_IMM, imm(78), payload=parts[2])
        wcs = [s.p.good() for _ in range(3)]
        assert [(wc["wr"], wc["len"], wc["imm"] * (wc["flags"] == WITH_IMM)) for wc in wcs] == [
            (1, len(data), 0),
            (2, 3, 77),
            (3, len(data), 78),
        ]
        assert s.peek(4096, len(data)) == s.peek(0, len(data)) == data
        assert s.peer.quiet(0.05)


@pytest.mark.parametrize("lost", ["first", "middle", "last"])
def test_uc_message_with_a_hole(roce_lab, lost):
    """Nothing of it is delivered; its receive is the next message's (section 9.8.2.2)."""
    ops = {"first": rp.SEND_FIRST, "middle": rp.SEND_MIDDLE, "last": rp.SEND_LAST}
    with roce_lab.qp("uc") as s:
        s.p("recv 4096 8192")
        s.p("recv 16384 8192")
        for name, op in ops.items():
            if name == lost:
                s.psn = plus(s.psn)
            else:
                s.ask(op, payload=b"h" * (MTU if name != "last" else 3))
        s.nothing_completed()
        wr, data = uc_works(s)
        assert wr == 1
        assert s.peek(4096, len(data)) == data
        assert uc_works(s)[0] == 2


def test_uc_write_with_a_hole(roce_lab):
    """What came may be there; the immediate data do not come, and the next message does."""
    with roce_lab.qp("uc") as s:
        s.p("recv 4096 100")
        s.ask(rp.WRITE_FIRST, reth(s.addr, s.key, 2 * MTU + 1), payload=b"w" * MTU)
        s.psn = plus(s.psn)
        s.ask(rp.WRITE_LAST_IMM, imm(1), payload=b"w")
        s.nothing_completed()
        assert s.peek(MTU, MTU + 1) == bytes(MTU + 1)
        assert uc_works(s)[0] == 1


def test_uc_goes_on_with_the_next_message(roce_lab):
    """A gap between messages is no gap in one; a packet from nowhere begins none."""
    with roce_lab.qp("uc") as s:
        for _ in range(3):
            s.p("recv 4096 4096")
        assert uc_works(s)[0] == 1
        s.psn = plus(s.psn, 1000)
        assert uc_works(s)[0] == 2
        s.psn = plus(s.psn, rp.PSNS // 2)
        s.ask(rp.SEND_MIDDLE, payload=bytes(MTU))
        s.ask(rp.SEND_LAST, payload=b"x")
        s.nothing_completed()
        assert uc_works(s)[0] == 3


UC_DROPPED = {
    "LAST without FIRST": lambda s: s.ask(rp.SEND_LAST, payload=b"x"),
    "FIRST shorter than the MTU": lambda s: s.ask(rp.SEND_FIRST, payload=bytes(8)),
    "ONLY longer than the MTU": lambda s: s.ask(rp.SEND_ONLY, payload=bytes(MTU + 4)),
    "longer than the receive": lambda s: s.ask(rp.SEND_ONLY, payload=bytes(101)),
    "WRITE longer than it says": lambda s: s.ask(rp.WRITE_ONLY, reth(s.addr, s.key, 3), payload=b"four"),
    "WRITE with a key of nobody": lambda s: s.ask(rp.WRITE_ONLY, reth(s.addr, s.key ^ 0x5A5A00, 4), payload=b"four"),
    "WRITE outside": lambda s: s.ask(rp.WRITE_ONLY, reth(s.addr - 1, s.key, 4), payload=b"four"),
    "WRITE without the right": lambda s: s.ask(rp.WRITE_ONLY, reth(*s.region("lr"), 4), payload=b"four"),
    "READ": lambda s: s.ask(rp.READ_REQUEST, reth(s.addr, s.key, 4)),
    "atomic": lambda s: s.ask(rp.FETCH_ADD, rp.atomic_eth(s.addr, s.key, 1)),
    "reserved opcode": lambda s: s.ask(rp.RESERVED[0]),
    "RC": lambda s: s.peer.send(rp.RC | rp.SEND_ONLY, s.psn, payload=b"x", ack=True),
}


@pytest.mark.parametrize("what", UC_DROPPED)
def test_uc_dropped(roce_lab, what):
    """What RC refuses UC drops: the QP goes on, and its owner hears nothing (section 9.8.2.2)."""
    with roce_lab.qp("uc") as s:
        s.p("recv 4096 100")
        UC_DROPPED[what](s)
        s.nothing_completed()
        assert s.peek(0, 4) == bytes(4)
        assert uc_works(s)[0] == 1
        s.undisturbed()


def test_uc_is_established(roce_lab):
    """In RTR the first message that comes is an event, whatever was lost before it; nothing else is."""
    with roce_lab.qp("uc", to="rtr") as s:
        for op in (rp.SEND_LAST, rp.RESERVED[0]):
            s.psn = plus(s.psn)
            s.ask(op, payload=b"x")
        with pytest.raises(Refused):
            s.p("async 50")
        for _ in range(2):
            s.p("recv 4096 4096")
            uc_works(s)
        assert s.p("async 5000")["event"] == EVENT_ESTABLISHED
        with pytest.raises(Refused):
            s.p("async 0")


def test_uc_without_receive(roce_lab):
    """The message is lost; the next one is not."""
    with roce_lab.qp("uc") as s:
        s.ask(rp.SEND_ONLY, payload=b"lost")
        s.ask(rp.SEND_FIRST, payload=bytes(MTU))
        s.p("recv 4096 4096")
        s.ask(rp.SEND_LAST, payload=b"tail")
        s.nothing_completed()
        assert uc_works(s)[0] == 1


# --- UC, sent ---------------------------------------------------------------------------


def test_uc_sends(roce_lab):
    """Complete at once, and nobody is asked to acknowledge."""
    with roce_lab.qp("uc") as s:
        s.p(f"fill 0 {3 * MTU} 5")
        s.p(f"send 0 {2 * MTU + 1}")
        s.p(f"write 0 {MTU + 4} 4711 {0x815}")
        s.p("writeimm 0 4 4711 2069 123")
        got = [s.asked(op, n, ack=False) for op, n in ((rp.SEND_FIRST, MTU), (rp.SEND_MIDDLE, MTU), (rp.SEND_LAST, 1))]
        assert b"".join(q.payload for q in got) == s.peek(0, 2 * MTU + 1)
        assert s.asked(rp.WRITE_FIRST, MTU, ack=False).reth == (4711, 0x815, MTU + 4)
        s.asked(rp.WRITE_LAST, 4, ack=False)
        q = s.asked(rp.WRITE_ONLY_IMM, 4, ack=False)
        assert (q.reth, q.imm) == ((4711, 2069, 4), 123)
        assert [s.p.good()["wr"] for _ in range(3)] == [1, 2, 3]
        # Whatever a peer says of them.
        s.tell(SQ_PSN, rp.NAK_ACCESS)
        s.peer.send(rp.UC | rp.ACKNOWLEDGE, SQ_PSN, rp.aeth(rp.NAK_SEQUENCE, 0))
        assert s.peer.quiet(0.05)
        assert s.state() == RTS


# --- UD, received -----------------------------------------------------------------------


def datagram(s, payload=b"datagram", qkey=QKEY, op=rp.SEND_ONLY, extra=(), src_qpn=0x777, **kw):
    s.peer.send(rp.UD | op, 0, deth(qkey, src_qpn), *extra, payload=payload, **kw)


def ud_works(s, n=20):
    data = random.randbytes(n)
    datagram(s, data)
    wc = s.p.good()
    assert (wc["len"], wc["src"]) == (GRH + n, 0x777)
    return wc, data


@pytest.mark.parametrize("n", [0, 1, 500, MTU])
def test_ud_datagram(roce_lab, n):
    """In front of the payload 40 bytes: nothing, and the IPv4 header as it came (annex A17.4.5.1)."""
    with roce_lab.qp("ud") as s:
        s.p(f"recv 4096 {GRH + n}")
        s.poke(4096, b"\xee" * (GRH + n))
        wc, data = ud_works(s, n)
        assert wc["flags"] == WITH_GRH
        got = s.peek(4096, GRH + n)
        assert got[GRH:] == data
        assert got[:20] == bytes(20)
        ip = got[20:GRH]
        assert (ip[0], ip[8], ip[9]) == (0x45, 64, socket.IPPROTO_UDP)
        assert ip[12:] == socket.inet_aton(roce_lab.b.ip) + socket.inet_aton(roce_lab.a.ip)
        assert int.from_bytes(ip[2:4], "big") == 20 + 8 + 12 + 8 + n + -n % 4 + 4


def test_ud_immediate_data(roce_lab):
    with roce_lab.qp("ud") as s:
        s.p("recv 4096 100")
        datagram(s, b"x", op=rp.SEND_ONLY_IMM, extra=(imm(0xCAFE),))
        wc = s.p.good()
        assert (wc["flags"], wc["imm"], wc["len"]) == (WITH_GRH | WITH_IMM, 0xCAFE, GRH + 1)


UD_DROPPED = {
    "Q_Key": lambda s: datagram(s, qkey=QKEY ^ 1),
    "Q_Key of management": lambda s: datagram(s, qkey=rp.QKEY_GSI),
    "P_Key": lambda s: datagram(s, pkey=0x1234),
    "longer than the receive": lambda s: datagram(s, bytes(61)),
    "much longer than the receive": lambda s: datagram(s, bytes(MTU)),
    "SEND FIRST": lambda s: datagram(s, op=rp.SEND_FIRST),
    "WRITE": lambda s: datagram(s, op=rp.WRITE_ONLY, extra=(reth(s.addr, s.key, 8),)),
    "READ": lambda s: datagram(s, b"", op=rp.READ_REQUEST, extra=(reth(s.addr, s.key, 8),)),
    "RC": lambda s: s.peer.send(rp.SEND_ONLY, 0, payload=b"rc", ack=True),
    "UC": lambda s: s.peer.send(rp.UC | rp.SEND_ONLY, 0, payload=b"uc"),
    "half a DETH": lambda s: s.peer.send(rp.UD | rp.SEND_ONLY, 0, bytes(4)),
}


@pytest.mark.parametrize("what", UD_DROPPED)
def test_ud_dropped(roce_lab, what):
    """Anybody may send it, and it harms nobody: the receive is the next datagram's."""
    with roce_lab.qp("ud") as s:
        s.p("recv 4096 100")
        s.p("recv 8192 100")
        UD_DROPPED[what](s)
        s.nothing_completed()
        assert s.peek(0, 8) == bytes(8)
        assert [ud_works(s, n)[0]["wr"] for n in (60, 0)] == [1, 2]
        s.undisturbed()


def test_ud_without_receive(roce_lab):
    with roce_lab.qp("ud") as s:
        for _ in range(3):
            datagram(s)
        s.p("recv 4096 100")
        assert ud_works(s)[0]["wr"] == 1


def test_ud_states(roce_lab):
    """Before RTR and in ERROR there is nobody."""
    with roce_lab.qp("ud", to="init") as s:
        s.p("recv 4096 100")
        datagram(s)
        s.nothing_completed()
        s.p("modify rtr")
        ud_works(s)
        s.p("recv 4096 100")
        s.p("modify err")
        assert s.p.poll()["status"] != 0
        datagram(s)
        s.nothing_completed()
        assert s.state() == ERROR


# --- UD, sent -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 3, MTU])
def test_ud_sends(roce_lab, n):
    """A packet each, with the Q_Key that was named and our number."""
    with roce_lab.qp("ud") as s:
        s.p(f"fill 0 {MTU} 3")
        s.p(f"send 0 {n}")
        s.p(f"send 0 {n} qpn=4660 qkey=0x22222222 imm=99")
        one, two = s.peer.recv(), s.peer.recv()
        assert (one.op, one.qpn, one.deth, one.ack) == (rp.UD | rp.SEND_ONLY, PEER_QPN, (QKEY, s.qpn), False)
        assert (two.op, two.qpn, two.deth) == (rp.UD | rp.SEND_ONLY_IMM, 4660, (0x22222222, s.qpn))
        assert two.imm == 99
        assert one.payload == two.payload == s.peek(0, n)
        assert [s.p.good()["wr"] for _ in range(2)] == [1, 2]


def test_ud_numbers(roce_lab):
    """They count up from the number that the QP was given, whoever the datagrams are for (section 9.8.3)."""
    with roce_lab.qp("ud") as s:
        for i in range(4):
            s.p(f"send 0 1 qpn={4660 + i}")
        got = [s.peer.recv().psn for _ in range(4)]
        assert got == [plus(SQ_PSN, i) for i in range(4)]


def test_ud_controlled_qkey(roce_lab):
    """A Q_Key with its highest bit set stands for the QP's own (section 10.2.5)."""
    with roce_lab.qp("ud", qkey=0x33333333) as s:
        s.p("send 0 1 qkey=0x80000000")
        assert s.peer.recv().deth == (0x33333333, s.qpn)
        s.p.good()
