# SPDX-License-Identifier: GPL-2.0
"""A peer that is gone without a word."""

import contextlib
import time

import mpa_peer as mp
import pytest
from ends import Puppet
from lab import ERROR_STATE, PORT
from mpa_peer import Peer

FLUSHED = 5


@contextlib.contextmanager
def connected(p, port):
    """A puppet in a, a scripted peer in b; a message went each way."""
    with Puppet(p.a) as puppet:
        puppet(f"listen {port}")
        with Peer.connect(p.b.name, p.a.ip, port) as peer:
            peer.frame()
            puppet.request()
            puppet("accept 4 4 -")
            peer.recv_frame()
            puppet.event("ESTABLISHED")
            peer.fpdu(mp.tagged(mp.WRITE, 0, 0))
            puppet("send 0 10")
            peer.recv()
            puppet.good()
            puppet("recv 0 100")
            yield puppet


@pytest.mark.long
@pytest.mark.soak
def test_dead_peer(fresh_pair):
    """The cable is cut: after 90 s a connection ends by what is not acknowledged, an idle one by the keepalive."""
    p = fresh_pair
    with connected(p, PORT) as idle, connected(p, PORT + 1) as busy:
        p.b.run(f"ip link set {p.b.netdev} down")
        start = time.monotonic()
        busy("send 0 1000")
        for puppet in (busy, idle):
            puppet.event("DISCONNECTED", 150000)
            took = time.monotonic() - start
            assert 80 < took < 120
            assert puppet("state")["state"] == ERROR_STATE
        assert idle.poll()["status"] == FLUSHED
