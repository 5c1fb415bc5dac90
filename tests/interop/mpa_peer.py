# SPDX-License-Identifier: GPL-2.0
"""An iWARP peer made of a TCP socket: it can say what no honest peer says.

Written from RFC 5044 (MPA), 6581 (MPA revision 2), 5041 (DDP), 5040 (RDMAP) and
7306 (immediate data, atomics), and shares no code with the module. Nothing here decides what is right: tests do.
"""

import contextlib
import os
import socket
import struct
from dataclasses import dataclass

REQUEST, REPLY = b"MPA ID Req Frame", b"MPA ID Rep Frame"
M, C, R, S = 0x80, 0x40, 0x20, 0x10
WRITE, READ_REQ, READ_RESP, SEND, SEND_INV, SEND_SE, SEND_SE_INV, TERMINATE = range(8)
IMM, IMM_SE, ATOMIC_REQ, ATOMIC_RESP = range(8, 12)
FETCH_ADD, CMP_SWAP = 0, 2
ALL_BITS = (1 << 64) - 1
# Of the enhanced data: peer-to-peer, and the ready-to-receive indications.
A, RTR_SEND, RTR_WRITE, RTR_READ = 1, 2, 4, 8
UNKNOWN_DEPTH = 0x3FFF
TIMEOUT = 15


class Closed(Exception):
    """The other end closed; `rest` is what came before that, less than was wanted."""

    def __init__(self, rest=b"", reset=False):
        super().__init__(f"closed{' by a reset' if reset else ''} after {rest!r}")
        self.rest, self.reset = rest, reset


def _table():
    out = []
    for i in range(256):
        c = i
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
        out.append(c)
    return out


_TABLE = _table()


def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c = c >> 8 ^ _TABLE[(c ^ b) & 0xFF]
    return c ^ 0xFFFFFFFF


@contextlib.contextmanager
def in_netns(name):
    """This thread, in a namespace; sockets stay where they are made."""
    if not name:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        os.setns(there, os.CLONE_NEWNET)
        yield
    finally:
        os.setns(home, os.CLONE_NEWNET)
        os.close(there)
        os.close(home)


# --- frames -----------------------------------------------------------------


def mpa_frame(key=REQUEST, rev=1, flags=C, pd=b"", pd_len=None):
    return key + struct.pack(">BBH", flags, rev, len(pd) if pd_len is None else pd_len) + pd


def enhanced(ird, ord_, rtr=0):
    """The enhanced data of revision 2; `rtr` a sum of A and RTR_*."""
    return struct.pack(
        ">HH",
        ird | (0x8000 if rtr & A else 0) | (0x4000 if rtr & RTR_SEND else 0),
        ord_ | (0x8000 if rtr & RTR_WRITE else 0) | (0x4000 if rtr & RTR_READ else 0),
    )


@dataclass
class Frame:
    key: bytes
    flags: int
    rev: int
    data: bytes  # private data, with the enhanced data

    @property
    def depths(self):
        ird, ord_ = struct.unpack(">HH", self.data[:4])
        return ird & 0x3FFF, ord_ & 0x3FFF

    @property
    def rtr(self):
        ird, ord_ = struct.unpack(">HH", self.data[:4])
        return (
            (A if ird & 0x8000 else 0)
            | (RTR_SEND if ird & 0x4000 else 0)
            | (RTR_WRITE if ord_ & 0x8000 else 0)
            | (RTR_READ if ord_ & 0x4000 else 0)
        )

    @property
    def pd(self):
        return self.data[4:] if self.rev == 2 and self.flags & S else self.data


def ddp(tagged, last=True, version=1, reserved=0):
    return (0x80 if tagged else 0) | (0x40 if last else 0) | reserved << 2 | version


def rdmap(op, version=1, reserved=0):
    return version << 6 | reserved << 4 | op


def untagged(op, qn, msn, payload=b"", mo=0, last=True, word=0, ddp_version=1, rdmap_version=1):
    """`word`: the reserved one, which is the STag of Send with Invalidate."""
    hdr = struct.pack(">BBIIII", ddp(False, last, ddp_version), rdmap(op, rdmap_version), word, qn, msn, mo)
    return hdr + payload


def tagged(op, stag, to, payload=b"", last=True, ddp_version=1, rdmap_version=1):
    return struct.pack(">BBIQ", ddp(True, last, ddp_version), rdmap(op, rdmap_version), stag, to) + payload


def send(msn, payload=b"", op=SEND, **kw):
    return untagged(op, 0, msn, payload, **kw)


def read_request(msn, sink_stag, sink_to, size, stag, to, **kw):
    return untagged(READ_REQ, 1, msn, struct.pack(">IQIIQ", sink_stag, sink_to, size, stag, to), **kw)


def immediate(msn, data, op=IMM, **kw):
    return untagged(op, 0, msn, data, **kw)


def atomic_request(msn, ident, stag, to, aop, data, mask=None, compare=0, compare_mask=ALL_BITS, reserved=0, **kw):
    """`mask` by default: that of the operation on all 64 bits."""
    if mask is None:
        mask = ALL_BITS if aop == CMP_SWAP else 0
    body = struct.pack(">IIIQQQQQ", reserved << 4 | aop, ident, stag, to, data, mask, compare, compare_mask)
    return untagged(ATOMIC_REQ, 1, msn, body, **kw)


def atomic_response(msn, ident, original, **kw):
    return untagged(ATOMIC_RESP, 3, msn, struct.pack(">IQ", ident, original), **kw)


def terminate(layer, etype, code):
    return untagged(TERMINATE, 2, 1, struct.pack(">BBH", layer << 4 | etype, code, 0))


def fpdu(ulpdu, crc=True, bad_crc=0, length=None, pad=b"\0"):
    """`crc` False: the field is there, and not looked at."""
    body = struct.pack(">H", len(ulpdu) if length is None else length) + ulpdu
    body += pad * (-len(body) % 4)
    return body + struct.pack("<I", (crc32c(body) if crc else 0xDEADBEEF) ^ bad_crc)


@dataclass
class Segment:
    """A received FPDU, taken apart."""

    tagged: bool
    last: bool
    op: int
    stag: int  # or the reserved word
    to: int
    qn: int
    msn: int
    mo: int
    payload: bytes

    @classmethod
    def parse(cls, u):
        ctl, rctl = u[0], u[1]
        assert ctl & 0x3F == 1, f"DDP control {ctl:#x}"
        assert rctl & 0xF0 == 0x40, f"RDMAP control {rctl:#x}"
        is_tagged, last, op = bool(ctl & 0x80), bool(ctl & 0x40), rctl & 0xF
        if is_tagged:
            stag, to = struct.unpack(">IQ", u[2:14])
            return cls(True, last, op, stag, to, 0, 0, 0, u[14:])
        word, qn, msn, mo = struct.unpack(">IIII", u[2:18])
        return cls(False, last, op, word, 0, qn, msn, mo, u[18:])

    @property
    def atomic(self):
        """Of an Atomic Request: operation, identifier, STag, TO, data, mask, compare data and mask."""
        assert (self.op, self.tagged, self.last, self.qn, self.mo) == (ATOMIC_REQ, False, True, 1, 0)
        return struct.unpack(">IIIQQQQQ", self.payload)

    @property
    def original(self):
        """Of an Atomic Response: identifier and value."""
        assert (self.op, self.tagged, self.last, self.qn, self.mo, self.stag) == (ATOMIC_RESP, False, True, 3, 0, 0)
        return struct.unpack(">IQ", self.payload)

    @property
    def error(self):
        """Of a Terminate: layer, type, code."""
        return self.payload[0] >> 4, self.payload[0] & 0xF, self.payload[1]


# --- a connection -----------------------------------------------------------


class Peer:
    """A TCP connection; `crc` and `markers` as they were agreed on."""

    def __init__(self, sock):
        self.sock = sock
        self.crc = True
        self.markers = False  # in what we receive
        self.rx_pos = 0  # in the stream of FPDUs
        self.marker_count = 0
        self.msn = 1
        self.summed = None  # whether the last FPDU had the right CRC, agreed on or not
        sock.settimeout(TIMEOUT)

    @classmethod
    def connect(cls, netns, address, port, rcvbuf=None):
        with in_netns(netns):
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.settimeout(TIMEOUT)
        s.connect((address, port))
        return cls(s)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            raise Closed(reset=True) from None

    def exact(self, n):
        got = b""
        while len(got) < n:
            try:
                more = self.sock.recv(n - len(got))
            except ConnectionResetError:
                raise Closed(got, True) from None
            if not more:
                raise Closed(got)
            got += more
        return got

    def quiet(self, seconds):
        """Whether nothing comes for a while."""
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        finally:
            self.sock.settimeout(TIMEOUT)
        return False

    def wait_closed(self):
        """Everything up to the other end's close. Fails with a timeout if it does not close."""
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.sock.recv(65536):
                got += more
        return got

    # MPA

    def frame(self, **kw):
        self.raw(mpa_frame(**kw))

    def recv_frame(self):
        key, flags, rev, n = struct.unpack(">16sBBH", self.exact(20))
        return Frame(key, flags, rev, self.exact(n))

    # FPDUs

    def fpdu(self, ulpdu, **kw):
        self.raw(fpdu(ulpdu, **{"crc": self.crc, **kw}))

    def send(self, payload=b"", **kw):
        self.fpdu(send(self.msn, payload, **kw))
        self.msn += 1

    def recv_ulpdu(self):
        raw, words = [], []

        def marker(start):
            if self.markers and self.rx_pos % 512 == 0:
                m = self.exact(4)
                zero, ptr = struct.unpack(">HH", m)
                want = 0 if start is None else self.rx_pos - start
                assert (zero, ptr) == (0, want), f"marker {m.hex()} at {self.rx_pos}, pointer should be {want}"
                raw.append(m)
                self.rx_pos += 4
                self.marker_count += 1

        def word(start):
            marker(start)
            w = self.exact(4)
            self.rx_pos += 4
            return w

        marker(None)
        start = self.rx_pos
        words.append(word(start))
        raw.append(words[0])
        length = struct.unpack(">H", words[0][:2])[0]
        for _ in range((length + 2 + 3) // 4 - 1):
            words.append(word(start))
            raw.append(words[-1])
        crc = word(start)
        self.summed = struct.unpack("<I", crc)[0] == crc32c(b"".join(raw))
        assert self.summed or not self.crc, "CRC"
        body = b"".join(words)
        assert not any(body[2 + length :]), "pad is not zero"
        return body[2 : 2 + length]

    def recv(self):
        return Segment.parse(self.recv_ulpdu())

    def recv_message(self):
        """All segments of a message: the first one, and the whole payload."""
        first = seg = self.recv()
        data = seg.payload
        while not seg.last:
            seg = self.recv()
            assert (seg.op, seg.tagged) == (first.op, first.tagged)
            if seg.tagged:
                assert (seg.stag, seg.to) == (first.stag, first.to + len(data))
            else:
                assert (seg.qn, seg.msn, seg.mo) == (first.qn, first.msn, len(data))
            data += seg.payload
        return first, data

    def recv_terminate(self):
        """The Terminate that must come (after whatever else), and the close behind it."""
        seg = self.recv()
        while seg.op != TERMINATE:
            seg = self.recv()
        assert (seg.tagged, seg.last, seg.qn, seg.msn, seg.mo) == (False, True, 2, 1, 0)
        rest = self.wait_closed()
        assert rest == b"", f"{rest!r} behind a Terminate"
        return seg


class Listener:
    """For one connection at a time, in a namespace."""

    def __init__(self, netns, address, port):
        with in_netns(netns):
            self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((address, port))
        self.sock.listen(8)
        self.sock.settimeout(TIMEOUT)

    def accept(self):
        s, _ = self.sock.accept()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Peer(s)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()
