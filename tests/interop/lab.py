# SPDX-License-Identifier: GPL-2.0
"""A puppet on rurdma's side, a peer that plays by no rules on the other, and a bystander."""

import contextlib
import random
import struct
from types import SimpleNamespace

import mpa_peer as mp
import pytest
from ends import Puppet, join, message
from mpa_peer import C, Listener, M, Peer

PORT, PEER_PORT = 7471, 7500
ERROR_STATE = 6
CLOSED_EVENTS = {"DISCONNECTED"}


class Lab(SimpleNamespace):
    """The puppet, where it is, and where the peer is."""

    @contextlib.contextmanager
    def session(self, rev=1, flags=C, pd=b"", depths=(4, 4), reply=b"", rcvbuf=None, up=True):
        """A connection that the peer initiated and the puppet accepted."""
        self.puppet("destroy")
        with Peer.connect(self.b.name, self.a.ip, PORT, rcvbuf) as peer:
            peer.frame(rev=rev, flags=flags, pd=pd)
            asked = self.puppet.request()
            self.puppet(f"accept {depths[0]} {depths[1]} {reply.hex() or '-'}")
            frame = peer.recv_frame()
            assert frame.key == mp.REPLY
            peer.crc = bool((flags | frame.flags) & C)
            peer.markers = bool(flags & M)
            if up:
                self.puppet.event("ESTABLISHED")
            all_rights = self.puppet("region 0 0 4096")
            yield SimpleNamespace(
                peer=peer, asked=asked, reply=frame, p=self.puppet, addr=all_rights["addr"], key=all_rights["key"]
            )

    def gone(self, error=True):
        """The puppet's end noticed that the connection is over."""
        e = self.puppet.event()
        assert e["event"] in CLOSED_EVENTS, e
        if error:
            assert self.puppet("state")["state"] == ERROR_STATE


@pytest.fixture(scope="module")
def lab(pair):
    with Puppet(pair.a) as puppet:
        puppet(f"listen {PORT}")
        yield Lab(puppet=puppet, a=pair.a, b=pair.b)


@pytest.fixture(scope="module")
def bystander(pair):
    """Another connection of the same device, which nobody bothers."""
    with Puppet(pair.a) as mine, Puppet(pair.b) as other:
        mine(f"listen {PORT + 1}")
        join(mine, other, pair.a.ip, PORT + 1)
        yield mine, other


@pytest.fixture
def harmless(bystander, kernel_log):
    yield
    mine, other = bystander
    message(other, mine)
    # A capture that begins and ends is the one thing that may be told.
    assert not [x for x in kernel_log.poll() if "promiscuous mode" not in x]


def echo(s, n=100, seed=1):
    """A message each way: the connection works."""
    data = random.Random(seed).randbytes(n)
    s.p("recv 65536 65536")
    s.peer.send(data)
    assert s.p.good()["len"] == n
    assert bytes.fromhex(s.p(f"peek 65536 {n}")["data"]) == data
    s.p(f"poke 0 {data[::-1].hex()}")
    s.p(f"send 0 {n}")
    first, got = s.peer.recv_message()
    assert (first.op, first.qn) == (mp.SEND, 0)
    assert got == data[::-1]
    s.p.good()


@contextlib.contextmanager
def connecting(lab, pd=b"", depths=(4, 4)):
    """The puppet connects to the peer and waits for its reply."""
    lab.puppet("destroy")
    with Listener(lab.b.name, lab.b.ip, PEER_PORT) as li:
        lab.puppet(f"connect {lab.b.ip} {PEER_PORT} {depths[0]} {depths[1]} {pd.hex() or '-'}")
        with li.accept() as peer:
            yield peer, peer.recv_frame()


def survives(s):
    """Whatever was said: a Terminate, a close or nothing; then the end, which the puppet sees."""
    with contextlib.suppress(OSError):
        s.peer.sock.shutdown(1)
    with contextlib.suppress(TimeoutError):
        s.peer.wait_closed()
    s.peer.close()


def other(s, rights, off=0, n=4096):
    """Another region of the puppet's: its key, as a session that has it in place of `key`."""
    r = s.p(f"region {rights} {off} {n}")
    return SimpleNamespace(**{**vars(s), "key": r["key"], "addr": r["addr"]})


def bad_key(s):
    return SimpleNamespace(**{**vars(s), "key": s.key ^ 0x5A5A0000})


def check_quote(t, ulpdu):
    """What a Terminate says of the segment that caused it (RFC 5040 figure 10)."""
    layer, etype, _ = t.error
    hdrct = t.payload[2]
    quoted = t.payload[4:]
    if layer == 2 or etype == 0:
        assert (hdrct & 0xE0, quoted) == (0, b"")
        return
    hdr_len = 14 if ulpdu[0] & 0x80 else 18
    assert hdrct & 0xC0 == 0xC0
    assert struct.unpack(">H", quoted[:2])[0] == len(ulpdu)
    assert quoted[2 : 2 + hdr_len] == ulpdu[:hdr_len]
    if (layer, etype) == (0, 1) and ulpdu[1] & 0xF == mp.READ_REQ:
        assert hdrct & 0x20
        assert quoted[2 + hdr_len :] == ulpdu[18:46]
    else:
        assert hdrct & 0x20 == 0
