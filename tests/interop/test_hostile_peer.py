# SPDX-License-Identifier: GPL-2.0
"""Noise and mutated frames from a peer, in each state of a connection and in both roles.

What is said is drawn from a seed (mutations.py). After each round the
puppet's end is over, and at the end of a test a connection of the same device works; the bystander's
works after each test, and the kernel log is empty (lab.py).
"""

import contextlib
import struct
from types import SimpleNamespace

import mpa_peer as mp
import pytest
from ends import Refused
from lab import PORT, connecting, echo, survives
from mpa_peer import A, C, Closed, Peer, R, S, enhanced, fpdu
from mutations import mutate, noise

pytestmark = [pytest.mark.usefixtures("harmless"), pytest.mark.soak]
ENDS = {"CONNECT_ERROR", "UNREACHABLE", "REJECTED", "ESTABLISHED", "DISCONNECTED"}


@pytest.fixture(autouse=True)
def works_afterwards(lab):
    yield
    with lab.session() as s:
        echo(s)


def in_pieces(rng, peer, data):
    """TCP cuts where it likes. The other end may have closed already."""
    with contextlib.suppress(Closed):
        while data:
            n = rng.choice([1, 3, 20, 1460, len(data)])
            peer.raw(data[:n])
            data = data[n:]


# --- before the stream -------------------------------------------------------


def request(rng):
    """A good request of either revision."""
    if rng.random() < 0.5:
        return mp.mpa_frame(flags=C, pd=rng.randbytes(rng.randrange(30)))
    rtr = rng.choice([0, A | mp.RTR_SEND, A | mp.RTR_WRITE, A | mp.RTR_READ, A | 14])
    return mp.mpa_frame(rev=2, flags=C | S, pd=enhanced(rng.randrange(9), rng.randrange(9), rtr) + rng.randbytes(9))


@pytest.mark.parametrize("what", ["noise", "mutated", "mutated, then noise"])
def test_hostile_request(lab, seeds, what):
    """The listener hears of it if it can be read, and closes if not."""
    for rng in seeds:
        lab.puppet("destroy")
        with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
            in_pieces(rng, peer, noise(rng) if what == "noise" else mutate(rng, request(rng)))
            if what == "mutated, then noise":
                in_pieces(rng, peer, noise(rng))
            with contextlib.suppress(Refused):
                lab.puppet("event 100")
                lab.puppet("accept 4 4 -")
            survives(SimpleNamespace(peer=peer))


@pytest.mark.parametrize("decision", ["accept 4 4 -", "reject -", "destroy"])
def test_hostile_before_the_answer(lab, seeds, decision):
    """The request is good; what comes behind it is not, and nobody may speak yet."""
    for rng in seeds:
        lab.puppet("destroy")
        with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
            peer.raw(request(rng))
            lab.puppet.request()
            in_pieces(rng, peer, rng.choice([noise(rng), fpdu(mp.send(1, b"x")), request(rng)]))
            with contextlib.suppress(Refused):
                lab.puppet(decision)
            survives(SimpleNamespace(peer=peer))


def test_hostile_first_words(lab, seeds):
    """Accepted, and in place of the first FPDU or ready-to-receive indication something else."""
    for rng in seeds:
        lab.puppet("destroy")
        with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
            rtr = A | rng.choice([mp.RTR_SEND, mp.RTR_WRITE, mp.RTR_READ])
            peer.frame(rev=2, flags=C | S, pd=enhanced(4, 4, rtr))
            lab.puppet.request()
            lab.puppet("accept 4 4 -")
            peer.recv_frame()
            first = rng.choice([mp.send(1), mp.tagged(mp.WRITE, 0, 0), mp.read_request(1, 0, 0, 0, 0, 0)])
            in_pieces(rng, peer, rng.choice([noise(rng), fpdu(mutate(rng, first)), mutate(rng, fpdu(first))]))
            survives(SimpleNamespace(peer=peer))


@pytest.mark.parametrize("what", ["noise", "mutated", "mutated, then a segment"])
def test_hostile_reply(lab, seeds, what):
    """To a request of the puppet's: it hears of an end, or of a connection that then ends."""
    for rng in seeds:
        with connecting(lab) as (peer, _):
            flags = C | S | rng.choice([0, 0, R])
            good = mp.mpa_frame(key=mp.REPLY, rev=2, flags=flags, pd=enhanced(4, 4, A | 14) + rng.randbytes(5))
            in_pieces(rng, peer, noise(rng) if what == "noise" else mutate(rng, good))
            if what == "mutated, then a segment":
                in_pieces(rng, peer, fpdu(mp.send(1, b"x" * 40)))
            survives(SimpleNamespace(peer=peer))
            assert lab.puppet.event()["event"] in ENDS


# --- in the stream -----------------------------------------------------------


def segment(rng, s):
    """A good segment of each opcode; of a response one that nobody waits for."""
    key, to, n = s.key, s.addr + rng.randrange(64), rng.choice([0, 1, 60, 300])
    op = rng.randrange(12)
    if op in (mp.IMM, mp.IMM_SE):
        return mp.immediate(1, bytes(8), op=op)
    if op == mp.ATOMIC_REQ:
        return mp.atomic_request(1, 1, s.atomic_key, to & ~7, rng.choice([mp.FETCH_ADD, mp.CMP_SWAP]), n)
    if op == mp.ATOMIC_RESP:
        return mp.atomic_response(1, 1, n)
    if op == mp.WRITE:
        return mp.tagged(mp.WRITE, key, to, bytes(n), last=rng.random() < 0.7)
    if op == mp.READ_REQ:
        return mp.read_request(1, 1, 0, n, key, to)
    if op == mp.READ_RESP:
        return mp.tagged(mp.READ_RESP, key, to, bytes(n))
    if op == mp.TERMINATE:
        return mp.terminate(rng.randrange(3), rng.randrange(3), rng.randrange(10))
    word = key if op in (mp.SEND_INV, mp.SEND_SE_INV) else 0
    return mp.send(1, bytes(n), op=op, word=word, last=rng.random() < 0.7)


STREAM = {
    "noise": lambda rng, s: noise(rng),
    "segments with good sums": lambda rng, s: b"".join(fpdu(mutate(rng, segment(rng, s))) for _ in range(3)),
    "segments with old sums": lambda rng, s: mutate(rng, b"".join(fpdu(segment(rng, s)) for _ in range(3))),
    "lengths": lambda rng, s: fpdu(segment(rng, s), length=rng.choice([0, 1, 13, 17, 18, 1500, 0x7FFF, 0xFFFF])),
    "in a message": lambda rng, s: fpdu(mp.send(1, b"x" * 64, last=False)) + fpdu(mutate(rng, segment(rng, s))),
    "behind a Terminate": lambda rng, s: fpdu(mp.terminate(0, 1, 2)) + noise(rng) + fpdu(segment(rng, s)),
}


@pytest.mark.parametrize("what", STREAM)
def test_hostile_stream(lab, seeds, what):
    """Taken or refused, never worse; with the CRC and without it."""
    for rng in seeds:
        for flags in (C, 0):
            with lab.session(flags=flags) as s:
                s.p("recv 4096 100")
                s.atomic_key = s.p("region lwra 0 4096")["key"]
                in_pieces(rng, s.peer, STREAM[what](rng, s))
                survives(s)
                lab.gone()


def test_hostile_read_response(lab, seeds):
    """The puppet has reads outstanding; what answers them is mutated."""
    for rng in seeds:
        with lab.session() as s:
            s.peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
            for i in range(3):
                s.p(f"read {i * 100} 100 0 {0x1234}")
            sink, to, *_ = struct.unpack(">IQIIQ", s.peer.recv().payload)
            good = [mp.tagged(mp.READ_RESP, sink, to, bytes(60), last=False)]
            good.append(mp.tagged(mp.READ_RESP, sink, to + 60, bytes(40)))
            at = rng.randrange(2)
            good[at] = mutate(rng, good[at])
            in_pieces(rng, s.peer, b"".join(fpdu(x) for x in good) + noise(rng))
            survives(s)
            lab.gone()


def test_hostile_atomic_response(lab, seeds):
    """The puppet has atomics outstanding; what answers them is mutated."""
    for rng in seeds:
        with lab.session() as s:
            s.peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
            idents = []
            for i in range(3):
                s.p(f"fadd {i * 8} 0 {0x1234} 1")
                idents.append(s.peer.recv().atomic[1])
            good = [mp.atomic_response(i + 1, ident, i) for i, ident in enumerate(idents)]
            at = rng.randrange(3)
            good[at] = mutate(rng, good[at])
            in_pieces(rng, s.peer, b"".join(fpdu(x) for x in good) + noise(rng))
            survives(s)
            lab.gone()


def test_hostile_while_closing(lab, seeds):
    """The puppet has said that it disconnects, with work in its queue; the peer goes on talking."""
    for rng in seeds:
        with lab.session() as s:
            s.p("recv 4096 100")
            s.peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
            s.p("send 0 3000")
            s.atomic_key = s.key
            s.p("disconnect")
            in_pieces(rng, s.peer, b"".join(fpdu(mutate(rng, segment(rng, s))) for _ in range(3)) + noise(rng))
            survives(s)
            lab.gone(error=False)
