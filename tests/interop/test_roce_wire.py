# SPDX-License-Identifier: GPL-2.0
"""What rurdma and rxe put on the wire, as tshark and scapy see it."""

import collections
import struct
from types import SimpleNamespace

import pytest
import roce_peer as rp
from capture import Capture
from rvm import Pair, gid_index, run, wait_until
from siwlink import rxe_and_rurdma

# IBTA table 38: transport in the upper three bits. No FLUSH: rxe's cannot be understood, see test_rxe.py; between two
# links of rurdma see below.
RC_PACKETS = {*range(0x00, 0x15), 0x16, 0x17, 0x1D}
UC_PACKETS = {*range(0x20, 0x2C)}
UD_PACKETS = {0x64, 0x65}
ROUNDS = 100
ICRC = "/src/tests/interop/icrc.py"


@pytest.fixture(scope="module")
def wire(module):
    with rxe_and_rurdma() as e:
        nodes = [(e.rxe, None), (e.rurdma, e.rurdma.node.name)]
        for end, netns in nodes:
            wait_until(lambda end=end, netns=netns: gid_index(end.dev, end.ip, netns) is not None)
        with Capture(e.rxe.netdev, what="udp port 4791") as cap:
            e.capture = cap
            yield e


def opcodes(wire, server, test, rounds=ROUNDS):
    s, c = wire.roles(server)
    where = [x for e in (s, c) for x in ((e.node and e.node.name) or "-", e.dev)]
    run(["vtopcodes", test, s.ip, *where, str(rounds + 1)], timeout=330, env={"RURDMA_TIMEOUT": "400"})


@pytest.mark.long
@pytest.mark.parametrize("server", ["rxe", "rurdma"])
@pytest.mark.parametrize("test", ["rc", "atomics", "uc", "ud"])
def test_every_packet(wire, server, test):
    """The content of every message is verified by the program, see tests/vm/vtopcodes.c."""
    opcodes(wire, server, test)


@pytest.mark.long
def test_decoded(wire):
    """Of each opcode there are 100 frames and more from either end, and none is malformed."""
    seen = collections.defaultdict(collections.Counter)
    fields = ("infiniband.bth.opcode", "ip.src", "_ws.malformed", "_ws.expert.message", "frame.number")
    for line in wire.capture.fields(fields, 600, which="infiniband").splitlines():
        op, src, malformed, expert, number = (line.split("\t") + [""] * 5)[:5]
        assert not malformed and "alformed" not in expert, f"frame {number}: {expert}"
        seen[src][int(op, 0)] += 1
    strange = wire.capture.fields(("frame.number",), 600, which="udp.port == 4791 && !infiniband").split()
    assert not strange, f"frames that tshark takes for something else: {strange[:10]}"
    for end in (wire.rxe, wire.rurdma):
        few = {hex(op): n for op in RC_PACKETS | UC_PACKETS | UD_PACKETS if (n := seen[end.ip][op]) < ROUNDS}
        assert not few, (end.dev, few)


@pytest.mark.long
def test_icrc(wire):
    """scapy computes the same invariant CRC for each of them."""
    wire.capture.stop()
    got = run(["python3", "-B", ICRC, wire.capture.file], timeout=1500)
    assert int(got.out.split()[-6]) >= ROUNDS * len(RC_PACKETS), got


# --- FLUSH ---


@pytest.fixture(scope="module")
def flushes(module):
    """Two links of rurdma, and a capture: either has had the other do the FLUSHes of tests/vm/vtops.c."""
    with Pair(kind="rurdma_roce") as p:
        p.offloads_off()
        p.settle()
        with Capture(p.a.netdev, p.a.name, "udp port 4791") as cap:
            for answers, asks in ((p.a, p.b), (p.b, p.a)):
                run(["vtops", "flushes", answers.ip, answers.name, answers.dev, asks.name, asks.dev])
            cap.stop()
            yield SimpleNamespace(a=p.a, b=p.b, capture=cap)


@pytest.mark.long
def test_flushes_decoded(flushes):
    """tshark knows 100 FLUSHes and more of either end, and their RETHs; no frame is malformed.

    Its selectivity level is not looked at: it takes bits 3 and 4 of the FETH for it, where rxe has 4 and 5.
    """
    lengths = collections.defaultdict(collections.Counter)
    reth = "infiniband.reth.dmalen"
    fields = ("infiniband.bth.opcode", "ip.src", reth, "_ws.malformed", "_ws.expert.message", "frame.number")
    for line in flushes.capture.fields(fields, 600, which="infiniband").splitlines():
        op, src, n, malformed, expert, number = (line.split("\t") + [""] * 6)[:6]
        assert not malformed and "alformed" not in expert, f"frame {number}: {expert}"
        if int(op, 0) == rp.FLUSH:
            lengths[src][int(n.split()[0], 0)] += 1
    for end in (flushes.a, flushes.b):
        assert set(lengths[end.ip]) == {0, 8, 9000}, end.dev
        assert lengths[end.ip].total() >= ROUNDS


def packets(capture, *opcodes):
    """As scapy takes them apart, {(sender, opcode): {PSN: what stands behind the BTH}}; all ICRCs are right."""
    got = collections.defaultdict(dict)
    for line in run(["python3", "-B", ICRC, capture.file, *opcodes], timeout=600).out.splitlines():
        if not line.startswith("packet "):
            continue
        _, src, op, psn, pkey, version, pad, reserved, rest = line.split()
        assert (pkey, version, pad, reserved) == ("0xffff", "0", "0", "0"), line
        # What comes again is what it was.
        assert got[src, int(op, 0)].setdefault(int(psn), rest) == rest, line
    return got


@pytest.mark.long
def test_flushes(flushes):
    """FETH and RETH of each are those that vtops.c posts, and an empty READ response has its number and counts it."""
    got = packets(flushes.capture, rp.WRITE_FIRST, rp.FLUSH, rp.READ_ONLY)
    for asks, answers in ((flushes.b, flushes.a), (flushes.a, flushes.b)):
        reths = [struct.unpack(">QII", bytes.fromhex(x)[:16]) for x in got[asks.ip, rp.WRITE_FIRST].values()]
        assert len(reths) == 20
        ((va, key, length),) = set(reths)
        assert length == 10000
        # The packets of a WRITE before it; what it asks for.
        posted = [(10, rp.feth(1), rp.reth(va + 3, key, 9000))] * 20
        posted += [(0, rp.feth(1, 1), rp.reth(0, key, 0))]
        posted += [(0, rp.feth(1), rp.reth(va, key, 8))] * 100
        # The first number is that of vtroce.h.
        requests, responses, psn, msn = {}, {}, 0xFFFFFE, 0
        for before, feth, reth in posted:
            psn, msn = rp.plus(psn, before), msn + 1 + bool(before)
            requests[psn] = (feth + reth).hex()
            responses[psn] = rp.aeth(rp.ACK, msn).hex()
            psn = rp.plus(psn)
        assert got[asks.ip, rp.FLUSH] == requests
        assert got[answers.ip, rp.READ_ONLY] == responses
