# SPDX-License-Identifier: GPL-2.0
"""How rurdma ends a connection, as the other end of the wire sees it, and how long it waits for whom.

The times are those of rurdma.rst.
"""

import contextlib
import time

import mpa_peer as mp
import pytest
from ends import Puppet, Refused
from lab import PORT
from mpa_peer import C, Closed, Peer

pytestmark = pytest.mark.usefixtures("harmless")
LARGE = 1000000
OURS = PORT + 4


@contextlib.contextmanager
def sending(lab, how, n, rcvbuf=None):
    """A message of n bytes is posted, and its program destroys the QP, or dies. Gives the peer, and the content."""
    with Puppet(lab.a) as p:
        p(f"listen {OURS}")
        with Peer.connect(lab.b.name, lab.a.ip, OURS, rcvbuf) as peer:
            peer.frame()
            p.request()
            p("accept 4 4 -")
            peer.crc = bool(peer.recv_frame().flags & C)
            p.event("ESTABLISHED")
            # From here on our end may send.
            peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
            p(f"fill 0 {n} 5")
            content = bytes.fromhex(p(f"peek 0 {n}")["data"])
            p(f"send 0 {n}")
            if n < LARGE:
                p.good()
            else:
                with pytest.raises(Refused):
                    p("poll 1000")
            p.kill() if how == "dies" else p("destroy")
            yield peer, content


HOW = pytest.mark.parametrize("how", ["destroys", "dies"])


@HOW
def test_reset_in_a_message(lab, how):
    """TCP has a part of the message, the peer takes no more: it is not waited for, and the peer sees a reset."""
    with sending(lab, how, LARGE, rcvbuf=4096) as (peer, content):
        got = b""
        with pytest.raises(Closed) as end:
            while True:
                seg = peer.recv()
                assert (seg.op, seg.last, seg.mo) == (mp.SEND, False, len(got))
                got += seg.payload
        assert end.value.reset
        # What came before that is what was sent.
        assert 0 < len(got) < LARGE
        assert content.startswith(got)


@HOW
def test_fin_behind_a_message(lab, how):
    """What TCP has taken is whole: it is delivered, and a FIN behind it."""
    with sending(lab, how, 3000) as (peer, content):
        first, got = peer.recv_message()
        assert (first.op, got) == (mp.SEND, content)
        with pytest.raises(Closed) as end:
            peer.exact(1)
        assert not end.value.reset
        assert end.value.rest == b""


def test_peer_that_never_closes(lab):
    """It has 5 s to close its end after ours, and what it sends meanwhile is dropped; then its end is reset."""
    with lab.session() as s:
        s.p("disconnect")
        start = time.monotonic()
        with pytest.raises(Closed) as end:
            s.peer.exact(1)
        assert not end.value.reset
        s.p.event("DISCONNECTED")
        with pytest.raises(Closed) as end:
            while time.monotonic() < start + 30:
                s.peer.raw(bytes(8))
                time.sleep(0.2)
        assert end.value.reset
        # (A busy machine may see the end late, but never early.)
        assert 4 < time.monotonic() - start < 15


@pytest.mark.long
def test_decision_that_never_comes(lab):
    """A program has 60 s to answer a request. Then the connection is closed, and it is too late to accept."""
    lab.puppet("destroy")
    with Peer.connect(lab.b.name, lab.a.ip, PORT) as peer:
        peer.frame()
        lab.puppet.request()
        start = time.monotonic()
        peer.sock.settimeout(100)
        assert peer.wait_closed() == b""
        assert 55 < time.monotonic() - start < 80
        with pytest.raises(Refused):
            lab.puppet("accept 4 4 -")
    # The next one is as good as any.
    with lab.session() as s:
        s.p("recv 0 100")
        s.peer.send(b"x")
        assert s.p.good()["len"] == 1
