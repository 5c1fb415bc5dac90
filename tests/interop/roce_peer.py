# SPDX-License-Identifier: GPL-2.0
"""A RoCEv2 peer made of a raw IP socket: it can say what no honest peer says.

Written from IBTA volume 1, chapter 9 (transport), annexes A17 (RoCEv2) and A19, and shares no code with the
module. Nothing here decides what is right: tests do. IPv4 only.
"""

import itertools
import socket
import struct
import time
import zlib
from dataclasses import dataclass, field

from mpa_peer import in_netns

PORT = 4791
PSNS = 1 << 24
TIMEOUT = 15

# --- opcodes: service in the upper three bits, operation below ---------------

RC, UC, RD, UD, CNP = 0x00, 0x20, 0x40, 0x60, 0x81
SEND_FIRST, SEND_MIDDLE, SEND_LAST, SEND_LAST_IMM, SEND_ONLY, SEND_ONLY_IMM = range(6)
WRITE_FIRST, WRITE_MIDDLE, WRITE_LAST, WRITE_LAST_IMM, WRITE_ONLY, WRITE_ONLY_IMM = range(6, 12)
READ_REQUEST, READ_FIRST, READ_MIDDLE, READ_LAST, READ_ONLY = range(12, 17)
ACKNOWLEDGE, ATOMIC_ACK, CMP_SWAP, FETCH_ADD = range(17, 21)
SEND_LAST_INV, SEND_ONLY_INV, FLUSH, ATOMIC_WRITE = 0x16, 0x17, 0x1C, 0x1D
RESERVED = (0x15, 0x18, 0x19, 0x1A, 0x1B, 0x1E, 0x1F)
# A message ends with these.
ENDS = {
    *(SEND_LAST, SEND_LAST_IMM, SEND_ONLY, SEND_ONLY_IMM, SEND_LAST_INV, SEND_ONLY_INV),
    *(WRITE_LAST, WRITE_LAST_IMM, WRITE_ONLY, WRITE_ONLY_IMM),
    *(READ_REQUEST, CMP_SWAP, FETCH_ADD, FLUSH, ATOMIC_WRITE),
}

# --- syndromes of the AETH ---------------------------------------------------

ACK = 0x1F  # credits are not counted
RNR = 0x20  # | timer
NAK_SEQUENCE, NAK_INVALID, NAK_ACCESS, NAK_OPERATION = range(0x60, 0x64)
# Milliseconds of the RNR timer codes (table 45).
RNR_MS = [655.36, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32, 0.48, 0.64, 0.96, 1.28, 1.92]
RNR_MS += [2.56, 3.84, 5.12, 7.68, 10.24, 15.36, 20.48, 30.72, 40.96, 61.44, 81.92, 122.88, 163.84, 245.76]
RNR_MS += [327.68, 491.52]

QKEY, QKEY_GSI = 0x11111111, 0x80010000


def plus(psn, n=1):
    return (psn + n) % PSNS


# --- extended headers ----------------------------------------------------------


def reth(va, rkey, length):
    return struct.pack(">QII", va % (1 << 64), rkey, length)


def atomic_eth(va, rkey, swap_add, compare=0):
    return struct.pack(">QIQQ", va % (1 << 64), rkey, swap_add, compare)


def aeth(syndrome, msn):
    return struct.pack(">I", syndrome << 24 | msn % PSNS)


def atomic_ack(original):
    return struct.pack(">Q", original)


def imm(value):
    return struct.pack(">I", value)


def ieth(rkey):
    return struct.pack(">I", rkey)


def feth(kinds, level=0):
    return struct.pack(">I", kinds | level << 4)


def deth(qkey, src_qpn):
    return struct.pack(">II", qkey, src_qpn)


# What stands behind the BTH, by operation; see Packet.
EXTENDED = {
    **dict.fromkeys((SEND_LAST_IMM, SEND_ONLY_IMM, WRITE_LAST_IMM), ("imm",)),
    **dict.fromkeys((WRITE_FIRST, WRITE_ONLY, READ_REQUEST, ATOMIC_WRITE), ("reth",)),
    WRITE_ONLY_IMM: ("reth", "imm"),
    **dict.fromkeys((READ_FIRST, READ_LAST, READ_ONLY, ACKNOWLEDGE), ("aeth",)),
    ATOMIC_ACK: ("aeth", "original"),
    **dict.fromkeys((CMP_SWAP, FETCH_ADD), ("atomic",)),
    **dict.fromkeys((SEND_LAST_INV, SEND_ONLY_INV), ("ieth",)),
    FLUSH: ("feth", "reth"),
}
_FORMATS = {
    "imm": ">I",
    "reth": ">QII",
    "aeth": ">I",
    "original": ">Q",
    "atomic": ">QIQQ",
    "ieth": ">I",
    "feth": ">I",
    "deth": ">II",
}

# --- packets ---------------------------------------------------------------------


def icrc(ip, udp, rest):
    """Of an IPv4 header, a UDP header, and what follows up to the ICRC; what routers change counts as ones."""
    ip, udp, rest = bytearray(ip), bytearray(udp), bytearray(rest)
    ip[1] = ip[8] = 0xFF  # type of service, time to live
    ip[10:12] = udp[6:8] = b"\xff\xff"  # the checksums
    rest[4:5] = b"\xff"  # FECN, BECN and what is reserved beside them
    # In front of all: the LRH that is not there.
    return struct.pack("<I", zlib.crc32(bytes(8 * b"\xff" + ip + udp + rest)))


def bth(opcode, qpn, psn, ack=False, se=False, mig=True, pad=0, tver=0, pkey=0xFFFF, resv8a=0, resv7=0):
    flags = se << 7 | mig << 6 | pad << 4 | tver
    return struct.pack(">BBHII", opcode, flags, pkey, resv8a << 24 | qpn, ack << 31 | resv7 << 24 | psn % PSNS)


def checksum(data):
    """The Internet's."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF or 0xFFFF


def datagram(src, dst, body, ident=1, tos=0, ttl=64, sport=0xC123, dport=PORT, sum_of=icrc, csum=False):
    """An IPv4 packet of `body`, from BTH on, and its ICRC. `sum_of` None: the ICRC is in `body` already."""
    length = 8 + len(body) + (4 if sum_of else 0)
    ip = struct.pack(">BBHHHBBH", 0x45, tos, 20 + length, ident, 0x4000, ttl, socket.IPPROTO_UDP, 0)
    ip += socket.inet_aton(src) + socket.inet_aton(dst)
    # No UDP checksum: IPv4 allows that.
    udp = struct.pack(">HHHH", sport, dport, length, 0)
    rest = body + (sum_of(ip, udp, body) if sum_of else b"")
    if csum:
        pseudo = ip[12:] + struct.pack(">HH", socket.IPPROTO_UDP, length)
        udp = udp[:6] + struct.pack(">H", checksum(pseudo + udp + rest))
    return ip + udp + rest


@dataclass
class Packet:
    """A received packet, taken apart."""

    ip: bytes  # the header
    sport: int
    time: float  # when it came, by the kernel's clock
    op: int
    se: bool
    mig: bool
    pad: int
    tver: int
    pkey: int
    qpn: int
    ack: bool
    psn: int
    payload: bytes  # without pad
    ext: dict = field(default_factory=dict)

    @property
    def syndrome(self):
        return self.ext["aeth"][0] >> 24

    @property
    def msn(self):
        return self.ext["aeth"][0] % PSNS

    @property
    def imm(self):
        return self.ext["imm"][0]

    @property
    def original(self):
        return self.ext["original"][0]

    @property
    def reth(self):
        """Address, key, length."""
        return self.ext["reth"]

    @property
    def feth(self):
        """Types, level and what is reserved beside it."""
        return self.ext["feth"][0] & 0xF, self.ext["feth"][0] >> 4

    @property
    def atomic(self):
        """Address, key, swap or add, compare."""
        return self.ext["atomic"]

    @property
    def deth(self):
        """Q_Key, QP of the sender."""
        return self.ext["deth"]

    @classmethod
    def parse(cls, raw, when=0.0):
        """Of a whole IPv4 packet. The ICRC must be right, and what is not ours to vary must be as it should."""
        ip, udp, body = raw[:20], raw[20:28], raw[28:]
        sport, dport, length, _ = struct.unpack(">HHHH", udp)
        assert (ip[0], ip[9], dport, length) == (0x45, 17, PORT, 8 + len(body)), raw.hex()
        assert len(body) % 4 == 0, f"{len(body)} bytes"
        assert icrc(ip, udp, body[:-4]) == body[-4:], f"ICRC of {raw.hex()}"
        opcode, flags, pkey, qpn, psn = struct.unpack(">BBHII", body[:12])
        assert qpn >> 24 == 0 and psn >> 24 & 0x7F == 0, f"reserved bits in {body[:12].hex()}"
        names = (("deth",) if opcode & 0xE0 == UD else ()) + EXTENDED.get(opcode & 0x1F, ())
        ext, at = {}, 12
        for name in names:
            ext[name] = struct.unpack_from(_FORMATS[name], body, at)
            at += struct.calcsize(_FORMATS[name])
        pad = flags >> 4 & 3
        end = len(body) - 4 - pad
        assert end >= at and not any(body[end:-4]), f"pad of {body.hex()}"
        return cls(
            ip=ip,
            sport=sport,
            time=when,
            op=opcode,
            se=bool(flags & 0x80),
            mig=bool(flags & 0x40),
            pad=pad,
            tver=flags & 0xF,
            pkey=pkey,
            qpn=qpn,
            ack=bool(psn >> 31),
            psn=psn % PSNS,
            payload=bytes(body[at:end]),
            ext=ext,
        )


# --- the peer ------------------------------------------------------------------------

SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33


class RocePeer:
    """Sockets in a namespace without an RDMA link, at `src`, that talk to `dst`.

    `qpn` is whom the packets are for unless they say otherwise.
    """

    def __init__(self, netns, src, dst):
        self.src, self.dst, self.qpn = src, dst, 0
        self.idents = itertools.cycle(range(1, 1 << 16))
        with in_netns(netns):
            self.tx = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self.rx = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
            # Somebody has the port, so that nobody is told that it is closed.
            self.port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self.port.bind((src, PORT))
        self.rx.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.rx.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for s in (self.tx, self.rx, self.port):
            s.close()

    def raw(self, packet):
        """A whole IPv4 packet, or what is said to be one."""
        self.tx.sendto(packet, (self.dst, 0))

    def body(self, opcode, psn, *ext, payload=b"", qpn=None, pad=None, **bits):
        """From BTH to pad; `ext` are the extended headers in their order."""
        pad = -len(payload) % 4 if pad is None else pad
        head = bth(opcode, self.qpn if qpn is None else qpn, psn, pad=pad, **bits)
        return head + b"".join(ext) + payload + bytes(-len(payload) % 4)

    def datagram(self, body, src=None, **ip):
        """`body` with all that goes around it."""
        return datagram(src or self.src, self.dst, body, **{"ident": next(self.idents), **ip})

    def send(self, opcode, psn, *ext, payload=b"", ip=None, **kw):
        """`ip` are arguments of datagram(), the others of body()."""
        self.raw(self.datagram(self.body(opcode, psn, *ext, payload=payload, **kw), **(ip or {})))

    def recv(self, timeout=TIMEOUT):
        """The next packet from the other end. TimeoutError: none came."""
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no packet in {timeout} s")
            self.rx.settimeout(left)
            raw, control, _, _ = self.rx.recvmsg(65535, 64)
            if raw[12:16] != socket.inet_aton(self.dst) or raw[22:24] != struct.pack(">H", PORT):
                continue
            ((_, _, stamp),) = control
            seconds, nanoseconds = struct.unpack("qq", stamp[:16])
            return Packet.parse(raw, seconds + nanoseconds / 1e9)

    def recv_or_none(self, seconds):
        """The next packet, or nothing if none comes for a while."""
        try:
            return self.recv(seconds)
        except TimeoutError:
            return None

    def quiet(self, seconds):
        """Whether nothing comes for a while."""
        return self.recv_or_none(seconds) is None

    def drain(self):
        """Forgets what has come."""
        self.rx.setblocking(False)
        try:
            while True:
                self.rx.recv(1)
        except BlockingIOError:
            pass
