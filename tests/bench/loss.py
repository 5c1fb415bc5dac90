#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Goodput over a wire that loses, reorders, doubles and damages packets.

usage: loss.py [-m MIB] [-k PATTERN]           (in the VM: make loss)

Every driver moves MIB (256) mebibytes and verifies each (tests/vm/bulk.c); TCP
moves as much by iperf3. It fails if a transfer fails, arrives altered or is
slower than that of rxe over the same wire. Figures: MiB/s of verified payload.
"""

import argparse
import contextlib
import json
import pathlib
import re
import sys

from peers import KINDS, linked
from rvm import Failed, run

OUT = pathlib.Path("/results/bench")
# netem at both ends, so acknowledgements suffer as well.
WIRES = {
    "whole": "",
    "loss 0.1 %": "loss 0.1%",
    "loss 1 %": "loss 1%",
    "reorder 1 %, duplicate 1 %, corrupt 0.1 %": "delay 200us reorder 1% duplicate 1% corrupt 0.1%",
}
OURS = ("iwarp", "roce")
PORT = 7777
# A transfer that takes longer has failed.
LIMIT = 1200


def spoil(pair, netem):
    pair.offloads_off()
    for x in (pair.a, pair.b):
        x.run(f"tc qdisc del dev {x.netdev} root", check=False)
        if netem:
            x.run(f"tc qdisc add dev {x.netdev} root netem limit 100000 {netem}")


def moved(pair, mib):
    a, b = pair.a, pair.b
    with b.start(f"exec bulk -p {PORT} -m {mib} -b {b.ip}") as server:
        server.wait_for("listening")
        out = a.run(f"exec bulk -p {PORT} -m {mib} {b.ip}", timeout=LIMIT).out
        theirs = server.wait().out
    digests = {re.search(r"digest (\w+)", x)[1] for x in (out, theirs)}
    if len(digests) != 1:
        raise Failed(f"the two ends have seen different bytes: {digests}")
    return float(re.search(r"([\d.]+) MiB/s", out)[1])


def tcp(pair, mib):
    a, b = pair.a, pair.b
    with b.start(f"exec iperf3 -s -1 --forceflush -B {b.ip}") as server:
        server.wait_for("listening")
        out = a.run(f"iperf3 -J -n {mib}M -c {b.ip}", timeout=LIMIT).out
    return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 8 / (1 << 20)


def dropped(pair):
    """What netem itself has thrown away, both ends."""
    text = "".join(x.run(f"tc -s qdisc show dev {x.netdev}").out for x in (pair.a, pair.b))
    return sum(int(n) for n in re.findall(r"dropped (\d+)", text))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-m", "--mib", type=int, default=256)
    p.add_argument("-k", default="", help="drivers and wires whose name has this in it")
    o = p.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    run("modprobe ib_core; rdma system set netns exclusive")
    drivers = (*KINDS, "tcp")
    rows, bad = [], []
    with contextlib.ExitStack() as stack:
        pairs = {d: stack.enter_context(linked(d)) for d in drivers}
        for wire, netem in WIRES.items():
            for d, pair in pairs.items():
                if o.k not in f"{d}, {wire}":
                    continue
                spoil(pair, netem)
                try:
                    v = tcp(pair, o.mib) if d == "tcp" else moved(pair, o.mib)
                    if "loss" in netem and not dropped(pair):
                        raise Failed("the wire has lost nothing")
                except Failed as e:
                    v = None
                    if d in OURS:
                        bad.append(f"{d}, {wire}: {str(e)[-600:]}")
                    print(f"{d}, {wire}: {str(e)[-600:]}", flush=True)
                rows.append({"driver": d, "test": "loss", "wire": wire, "mib": o.mib, "unit": "MiB/s", "median": v})
                print(f"{wire:42} {d:6} {'failed' if v is None else f'{v:9.2f} MiB/s'}", flush=True)
    (OUT / "loss.json").write_text(json.dumps(rows, indent=1) + "\n")

    got = {(r["driver"], r["wire"]): r["median"] for r in rows}
    print(f"\n{'MiB/s, ' + str(o.mib) + ' MiB verified':42}" + "".join(f"{d:>9}" for d in drivers))
    for wire in WIRES:
        cells = [got.get((d, wire)) for d in drivers]
        print(f"{wire:42}" + "".join(f"{'-' if v is None else f'{v:.1f}':>9}" for v in cells))
        for d in OURS:
            rxe, v = got.get(("rxe", wire)), got.get((d, wire))
            if v and rxe and v < rxe:
                bad.append(f"{d}, {wire}: {v:.1f} MiB/s, rxe has {rxe:.1f}")
    for line in bad:
        print("FAILED:", line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
