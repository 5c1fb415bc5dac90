# SPDX-License-Identifier: GPL-2.0
"""mpa_crc=0: no CRCs unless the peer asks for them, as initiator and as responder."""

import mpa_peer as mp
import pytest
from ends import Puppet
from lab import PORT, Lab, connecting, echo
from mpa_peer import A, C, S, enhanced
from rvm import Pair, run

BAD_CRC = (2, 0, 2)


@pytest.fixture(scope="module")
def lab():
    """As everybody's, of a module that was loaded with the parameter."""
    run("modprobe -r rurdma; modprobe rurdma mpa_crc=0")
    with Pair() as p, Puppet(p.a) as puppet:
        puppet(f"listen {PORT}")
        yield Lab(puppet=puppet, a=p.a, b=p.b)
    run("modprobe -r rurdma && modprobe rurdma")


def test_peer_asks(lab):
    """The initiator sets C: so does the reply, we send sums, and a wrong one ends the stream."""
    with lab.session(flags=C) as s:
        assert s.reply.flags & C
        echo(s)
        assert s.peer.summed
        s.p("recv 0 100")
        s.peer.fpdu(mp.send(s.peer.msn, b"x" * 20), crc=False)
        assert s.peer.recv_terminate().error == BAD_CRC
        lab.gone()


def test_nobody_asks(lab):
    """The peer's sums are wrong, and not looked at; ours are none."""
    with lab.session(flags=0) as s:
        assert not s.reply.flags & C
        assert not s.peer.crc
        echo(s)
        assert not s.peer.summed
        echo(s, 30000, 2)


@pytest.mark.parametrize("asks", [C, 0], ids=["asks", "does not ask"])
def test_responder(lab, asks):
    """Our request has no C; the reply decides."""
    with connecting(lab) as (peer, req):
        assert not req.flags & C
        peer.frame(key=mp.REPLY, rev=2, flags=asks | S, pd=enhanced(4, 4, A | mp.RTR_WRITE))
        peer.crc = bool(asks)
        lab.puppet.event("ESTABLISHED")
        assert peer.recv().op == mp.WRITE
        lab.puppet("recv 0 100")
        peer.send(b"x" * 20)
        assert lab.puppet.good()["len"] == 20
        lab.puppet("send 0 20")
        assert peer.recv().payload == b"x" * 20
        assert peer.summed == bool(asks)
        lab.puppet.good()
        lab.puppet("recv 0 100")
        peer.fpdu(mp.send(2, b"y" * 20), crc=False)
        if asks:
            assert peer.recv_terminate().error == BAD_CRC
            lab.gone()
        else:
            assert lab.puppet.good()["len"] == 20
