# SPDX-License-Identifier: GPL-2.0
"""Packets of a scripted peer that GRO puts together: each is one of its own all the same."""

import random
import re

import pytest
import roce_peer as rp
from roce_lab import MTU
from roce_peer import ACK, NAK_SEQUENCE, plus, reth

pytestmark = pytest.mark.usefixtures("roce_harmless")
COUNT = 20
IDENTS = {"count": lambda i: 0xFFF8 + i & 0xFFFF or 1, "same": lambda _: 4711, "any": lambda i: 1 + i * 40503 % 65535}


@pytest.fixture
def gro(roce_lab):
    """On, and patient: packets that come within 20 ms are put together."""
    a = roce_lab.a

    def switch(state, ns):
        a.run(f"ethtool -K {a.netdev} gro {state}")
        a.run(f"echo {ns} > /sys/class/net/{a.netdev}/gro_flush_timeout")

    switch("on", 20_000_000)
    yield lambda: int(re.findall(r"^Ip: \d+ \d+ (\d+)", a.run("cat /proc/net/snmp").out, re.M)[0])
    switch("off", 0)


def message(first, middle, last, packets):
    """Opcodes of a message of so many packets."""
    return [first, *[middle] * (packets - 2), last]


def ask_all(s, ops, data, ident, damage=None, ext=()):
    """A message in packets with a UDP checksum. `damage`: of this one the ICRC is wrong."""
    for i, op in enumerate(ops):
        how = {"ident": ident(i), "csum": True}
        if i == damage:
            how["sum_of"] = lambda *_: b"\0\0\0\0"
        piece = data[i * MTU : (i + 1) * MTU]
        s.ask(op, *(ext if i == 0 else ()), ack=i == len(ops) - 1, payload=piece, ip=how)
    return plus(s.psn, -1)


@pytest.mark.parametrize("idents", IDENTS)
def test_send(roce_lab, gro, idents):
    """Identifications that count, around 65536 too, that stay, or that are neither."""
    data = random.randbytes((COUNT - 1) * MTU + 77)
    bad = roce_lab.counter("crc_errors")
    with roce_lab.qp() as s:
        s.p("recv 4096 65536")
        before = gro()
        ops = message(rp.SEND_FIRST, rp.SEND_MIDDLE, rp.SEND_LAST, COUNT)
        s.told(ask_all(s, ops, data, IDENTS[idents]))
        skbs = gro() - before
        assert s.p.good()["len"] == len(data)
        assert s.peek(4096, len(data)) == data
    assert roce_lab.counter("crc_errors") == bad
    # What comes in between are acknowledges of others.
    assert (skbs < COUNT) == (idents != "any"), skbs


@pytest.mark.parametrize("idents", ["count", "same"])
def test_one_is_damaged(roce_lab, gro, idents):
    """It alone is lost: those before it arrive, those behind it have to come again."""
    data = random.randbytes(COUNT * MTU)
    bad, at = roce_lab.counter("crc_errors"), 7
    with roce_lab.qp() as s:
        first = s.psn
        ops = message(rp.WRITE_FIRST, rp.WRITE_MIDDLE, rp.WRITE_LAST, COUNT)
        to = reth(s.addr + 4096, s.key, len(data))
        last = ask_all(s, ops, data, IDENTS[idents], damage=at, ext=(to,))
        # The message that was counted at the end has not come to it.
        s.told(plus(first, at), NAK_SEQUENCE, msn=s.msn - 1)
        assert s.peek(4096, at * MTU) == data[: at * MTU]
        s.psn, s.msn = plus(first, at), s.msn - 1
        assert ask_all(s, ops[at:], data[at * MTU :], IDENTS[idents]) == last
        s.told(last)
        assert s.peek(4096, len(data)) == data
    assert roce_lab.counter("crc_errors") == bad + 1


ONCE = {"all": range(COUNT), "one": [7]}


@pytest.mark.parametrize("op", [rp.SEND_ONLY, rp.WRITE_ONLY], ids=["send", "write"])
@pytest.mark.parametrize("asked", ONCE)
def test_acknowledges_of_a_burst(roce_lab, gro, op, asked):
    """Messages that come at once take fewer acknowledges than there are (IBTA volume 1, section 9.7.5.1.2).

    But who asked is told: of the last one that asked, or of one behind it, and then no more.
    """
    data = random.randbytes(COUNT * MTU)
    with roce_lab.qp() as s:
        first, msn, told = s.psn, s.msn, []
        for i in range(COUNT if op == rp.SEND_ONLY else 0):
            s.p(f"recv {4096 + i * MTU} {MTU}")
        before = gro()
        for i in range(COUNT):
            at = i * MTU
            ext = () if op == rp.SEND_ONLY else (reth(s.addr + 4096 + at, s.key, MTU),)
            how = {"ident": IDENTS["count"](i), "csum": True}
            s.ask(op, *ext, ack=i in ONCE[asked], payload=data[at : at + MTU], ip=how)
        while not told or told[-1] < ONCE[asked][-1]:
            a = s.recv_answer()
            i = (a.psn - first) % rp.PSNS
            # Each says how many messages were completed, and comes behind the one before.
            assert (a.op, a.syndrome, a.msn) == (rp.ACKNOWLEDGE, ACK, msn + i + 1), (i, a)
            assert not told or i > told[-1], (told, i)
            told.append(i)
        assert s.peer.quiet(0.1)
        skbs = gro() - before
        # One for each skb at most, and GRO has put some together.
        assert len(told) <= skbs < COUNT, (told, skbs)
        assert s.peek(4096, len(data)) == data
        if op == rp.SEND_ONLY:
            assert [s.p.good()["len"] for _ in range(COUNT)] == [MTU] * COUNT
        s.works()
