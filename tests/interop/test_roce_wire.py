# SPDX-License-Identifier: GPL-2.0
"""What rurdma and rxe put on the wire, as tshark and scapy see it."""

import collections

import pytest
from capture import Capture
from rvm import gid_index, run, wait_until
from siwlink import rxe_and_rurdma

# IBTA table 38: transport in the upper three bits. No FLUSH: rxe's cannot be understood, see test_rxe.py.
RC_PACKETS = {*range(0x00, 0x15), 0x16, 0x17, 0x1D}
UC_PACKETS = {*range(0x20, 0x2C)}
UD_PACKETS = {0x64, 0x65}
ROUNDS = 100


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
    for end in (wire.rxe, wire.rurdma):
        few = {hex(op): n for op in RC_PACKETS | UC_PACKETS | UD_PACKETS if (n := seen[end.ip][op]) < ROUNDS}
        assert not few, (end.dev, few)


@pytest.mark.long
def test_icrc(wire):
    """scapy computes the same invariant CRC for each of them."""
    wire.capture.stop()
    got = run(["python3", "-B", "/src/tests/interop/icrc.py", wire.capture.file], timeout=1500)
    assert int(got.out.split()[-6]) >= ROUNDS * len(RC_PACKETS), got
