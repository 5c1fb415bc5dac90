#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Between the directory of inputs that libFuzzer wants and the text file that is kept.

usage: corpus.py unpack FILE DIRECTORY | pack DIRECTORY FILE
"""

import sys
from pathlib import Path


def unpack(file, directory):
    if not file.exists():
        return
    for n, line in enumerate(file.read_text().splitlines()):
        (directory / f"{n:05}").write_bytes(bytes.fromhex(line))


def pack(directory, file):
    # Shortest first, so that additions to one corpus do not reorder the rest.
    inputs = {p.read_bytes() for p in directory.iterdir()}
    lines = [i.hex() for i in sorted(inputs, key=lambda i: (len(i), i)) if i]
    file.write_text("".join(f"{line}\n" for line in lines))


def main():
    what, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    {"unpack": unpack, "pack": pack}[what](source, target)


main()
