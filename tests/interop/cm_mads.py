# SPDX-License-Identifier: GPL-2.0
"""MADs of the connection manager, of rdma_cm over IPv4 (IBTA volume 1, sections 13.4 and 12.6, annex A11).

Written from the tables, and shares no code with anybody. They go to QP 1, see `to_gsi`.
"""

import socket
import struct

import roce_peer as rp

MAD_LEN, DATA_LEN = 256, 232
CM = 7
SEND = 3
REQ, MRA, REJ, REP, RTU, DREQ, DREP, SIDR_REQ, SIDR_REP, LAP, APR = range(0x10, 0x1B)
# Why a REJ: the consumer did not want it.
CONSUMER = 28


def mad(attribute, data=b"", tid=1, mgmt_class=CM, version=2, method=SEND, base=1, status=0, modifier=0):
    head = struct.pack(">BBBBHHQHHI", base, mgmt_class, version, method, status, 0, tid, attribute, 0, modifier)
    return head + data.ljust(DATA_LEN, b"\0")


def gid(ip):
    return bytes(10) + b"\xff\xff" + socket.inet_aton(ip)


def request(comm_id, src, dst, port, qpn, psn, tid=1, pd=b""):
    """REQ: from `src` to who listens at `dst` and `port`; reads in flight: 4 each way."""
    d = bytearray(DATA_LEN)

    def put(fmt, at, *values):
        struct.pack_into(">" + fmt, d, at, *values)

    put("I", 0, comm_id)
    put("Q", 8, 0x0106 << 16 | port)  # the service of RDMA_PS_TCP
    put("Q", 16, 0x0200C0FFEE000001)  # GUID
    put("I", 32, qpn << 8 | 4)
    put("I", 36, 4)
    put("I", 40, 20 << 3)  # CM response timeout of the other end; RC
    put("I", 44, psn << 8 | 20 << 3 | 7)  # ours; retries
    put("HBB", 48, 0xFFFF, 3 << 4 | 7, 15 << 4)  # P_Key; MTU of 1024, RNR retries; retries of the CM
    put("HH", 52, 0xFFFF, 0xFFFF)  # LIDs
    d[56:72], d[72:88] = gid(src), gid(dst)
    put("I", 88, 2)  # flow label 0, 2.5 Gb/s
    put("BBBB", 92, 0, 64, 0, 14 << 3)  # traffic class, hop limit, SL, ack timeout
    # The header of rdma_cm: version 0, IPv4, our port, both addresses.
    d[140:176] = (
        b"\0\x40" + struct.pack(">H", 4000) + bytes(12) + socket.inet_aton(src) + bytes(12) + socket.inet_aton(dst)
    )
    d[176 : 176 + len(pd)] = pd
    return mad(REQ, bytes(d), tid)


def reply(comm_id, remote_id, qpn, psn, tid=1, pd=b""):
    """REP."""
    d = struct.pack(">IIIIII", comm_id, remote_id, 0, qpn << 8, 0, psn << 8)
    d += struct.pack(">BBBBQ", 4, 4, 0, 7 << 5, 0x0200C0FFEE000001)
    return mad(REP, d + pd, tid)


def ready(comm_id, remote_id, tid=1):
    """RTU."""
    return mad(RTU, struct.pack(">II", comm_id, remote_id), tid)


def reject(comm_id, remote_id, tid=1, reason=CONSUMER):
    """REJ, of a REQ."""
    return mad(REJ, struct.pack(">IIBBH", comm_id, remote_id, 0, 0, reason), tid)


def disconnect(comm_id, remote_id, qpn, tid=1):
    """DREQ: `qpn` is that of the other end."""
    return mad(DREQ, struct.pack(">III", comm_id, remote_id, qpn << 8), tid)


def disconnected(comm_id, remote_id, tid=1):
    """DREP."""
    return mad(DREP, struct.pack(">II", comm_id, remote_id), tid)


def ids(message):
    """Transaction, attribute, local and remote communication ID of a CM MAD."""
    tid, attribute = struct.unpack(">QH", message[8:18])
    return tid, attribute, *struct.unpack(">II", message[24:32])


def to_gsi(peer, message, **kw):
    """A datagram to QP 1 from the peer's QP 1."""
    peer.send(rp.UD | rp.SEND_ONLY, 0, rp.deth(rp.QKEY_GSI, 1), payload=message, **{"qpn": 1, **kw})


def from_gsi(peer, attribute=None, timeout=rp.TIMEOUT):
    """The next MAD from the other end, of this attribute."""
    while True:
        p = peer.recv(timeout)
        assert (p.op, p.qpn, p.deth, len(p.payload)) == (rp.UD | rp.SEND_ONLY, 1, (rp.QKEY_GSI, 1), MAD_LEN), p
        if attribute in (None, ids(p.payload)[1]):
            return p.payload
