#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The invariant CRC of each RoCEv2 packet of a capture, against scapy's own.

usage: icrc.py CAPTURE

Prints "N packets" and a line for each whose ICRC is another one; exit code 1 if
there is any, or nothing to look at.
"""

import sys

from scapy.contrib.roce import BTH
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader


def main():
    n, bad = 0, 0
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
    print(f"{n} packets, {bad} with another ICRC")
    return 1 if bad or not n else 0


if __name__ == "__main__":
    sys.exit(main())
