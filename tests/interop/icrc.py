#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The invariant CRC of each RoCEv2 packet of a capture, against scapy's own.

usage: icrc.py CAPTURE [OPCODE]...

Prints "N packets" and a line for each whose ICRC is another one; exit code 1 if
there is any, or nothing to look at. Before that, for each packet with one of the
opcodes:

    packet SENDER OPCODE PSN P_KEY VERSION PAD RESERVED WHAT-STANDS-BEHIND-THE-BTH
"""

import sys

from scapy.contrib.roce import BTH
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader


def main():
    n, bad = 0, 0
    shown = {int(x, 0) for x in sys.argv[2:]}
    for i, (data, _) in enumerate(RawPcapReader(sys.argv[1]), 1):
        bth = Ether(data)
        if UDP not in bth or bth[UDP].dport != 4791:
            continue
        bth = bth[BTH]
        n += 1
        want = bth.compute_icrc(b"")
        got = bth.icrc.to_bytes(4, "big")
        if got != want:
            bad += 1
            print(f"frame {i}, opcode {bth.opcode:#x}, PSN {bth.psn}: {got.hex()}, not {want.hex()}")
        if bth.opcode in shown:
            sender, reserved = bth.underlayer.underlayer.src, bth.resv6 | bth.resv7
            bits = f"{bth.pkey:#x} {bth.version} {bth.padcount} {reserved}"
            print(f"packet {sender} {bth.opcode:#x} {bth.psn} {bits} {bytes(bth.payload).hex() or '-'}")
    print(f"{n} packets, {bad} with another ICRC")
    return 1 if bad or not n else 0


if __name__ == "__main__":
    sys.exit(main())
