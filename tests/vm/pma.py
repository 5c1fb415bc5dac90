#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Asks a port of RoCEv2 for performance data, as perfquery does, through ib_umad (see user_mad.rst of the kernel).

usage: pma.py DEV GID_INDEX GID METHOD ATTRIBUTE PORT

Prints the answer, a MAD in hex. perfquery itself knows addresses of InfiniBand only.
"""

import fcntl
import ipaddress
import os
import pathlib
import select
import struct
import sys

# struct ib_user_mad_reg_req, struct ib_user_mad_hdr.
AGENT = "=I16s7Bx"
HEADER = "=5I 4s4s2s6B16s4sH6x"
REGISTER_AGENT = 3 << 30 | struct.calcsize(AGENT) << 16 | 0x1B << 8 | 1
ENABLE_PKEY = 0x1B << 8 | 3
CLASS, QPN, QKEY = 4, 1, 0x80010000
MAD = 256
TIMEOUT = 5000  # ms


def main(dev, gid_index, gid, method, attribute, port):
    nodes = pathlib.Path("/sys/class/infiniband_mad").glob("umad*")
    node = next(x.name for x in nodes if (x / "ibdev").read_text().strip() == dev)
    fd = os.open(f"/dev/infiniband/{node}", os.O_RDWR)
    fcntl.ioctl(fd, ENABLE_PKEY)
    agent = struct.pack(AGENT, 0, bytes(16), QPN, CLASS, 1, 0, 0, 0, 0)
    agent = struct.unpack_from("=I", fcntl.ioctl(fd, REGISTER_AGENT, agent))[0]

    header = struct.pack(
        HEADER,
        agent,
        0,
        TIMEOUT,
        0,
        MAD,
        struct.pack(">I", QPN),
        struct.pack(">I", QKEY),
        bytes(2),
        0,
        0,
        1,
        int(gid_index),
        64,
        0,
        ipaddress.IPv6Address(gid).packed,
        bytes(4),
        0,
    )
    method, attribute, port = (int(x, 0) for x in (method, attribute, port))
    mad = struct.pack(">4B2HQ2HI40x2B", 1, CLASS, 1, method, 0, 0, 0x1234, attribute, 0, 0, 0, port)
    os.write(fd, header + mad.ljust(MAD, b"\0"))
    if not select.select([fd], [], [], 2 * TIMEOUT / 1000)[0]:
        sys.exit("neither an answer nor a timeout")
    got = os.read(fd, len(header) + MAD)
    status = struct.unpack_from("=II", got)[1]
    if status:
        sys.exit(f"no answer: {os.strerror(status)}")
    print(got[len(header) :].hex())


main(*sys.argv[1:])
