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

from cases import matches
from peers import KINDS, linked
from rig import FAILURES
from rvm import Failed, run
from sockets import MIB, stream_figures

OUT = pathlib.Path("/results/bench")
# netem at both ends, so acknowledgements suffer as well.
WIRES = {
    "whole": "",
    "loss 0.1 %": "loss 0.1%",
    "loss 1 %": "loss 1%",
    "reorder 1 %, duplicate 1 %, corrupt 0.1 %": "delay 200us reorder 1% duplicate 1% corrupt 0.1%",
}
OURS = ("iwarp", "roce")
DRIVERS = (*KINDS, "tcp")
PORT = 7777
# A transfer that takes longer has failed.
LIMIT = 1200


def spoil(pair, netem):
    pair.offloads_off()
    for x in (pair.a, pair.b):
        x.run(f"tc qdisc del dev {x.netdev} root", check=False)
        if netem:
            x.run(f"tc qdisc add dev {x.netdev} root netem limit 100000 {netem}")


def said(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise Failed(f"no {pattern!r} in\n{text}")
    return found[1]


def moved(pair, mib):
    a, b = pair.a, pair.b
    with b.start(f"exec bulk -p {PORT} -m {mib} -b {b.ip}") as server:
        server.wait_for("listening")
        out = a.run(f"exec bulk -p {PORT} -m {mib} {b.ip}", timeout=LIMIT).out
        theirs = server.wait().out
    digests = {said(r"digest (\w+)", x) for x in (out, theirs)}
    if len(digests) != 1:
        raise Failed(f"the two ends have seen different bytes: {digests}")
    return float(said(r"([\d.]+) MiB/s", out))


def tcp(pair, mib):
    a, b = pair.a, pair.b
    with b.start(f"exec iperf3 -s -1 --forceflush -B {b.ip}") as server:
        server.wait_for("listening")
        out = a.run(f"iperf3 -J -n {mib}M -c {b.ip}", timeout=LIMIT).out
    return stream_figures(out)[1] / MIB


def dropped(pair):
    """What netem itself has thrown away, both ends."""
    text = "".join(x.run(f"tc -s qdisc show dev {x.netdev}").out for x in (pair.a, pair.b))
    return sum(int(n) for n in re.findall(r"dropped (\d+)", text))


def chosen(pattern):
    """{wire: drivers} that K= wants."""
    wanted = {wire: [d for d in DRIVERS if matches(pattern, f"{d} {wire}")] for wire in WIRES}
    return {wire: drivers for wire, drivers in wanted.items() if drivers}


def transfer(driver, pair, netem, mib):
    """MiB/s over a wire that does so already."""
    v = tcp(pair, mib) if driver == "tcp" else moved(pair, mib)
    if "loss" in netem and not dropped(pair):
        raise Failed("the wire has lost nothing")
    return v


def over(wire, pairs, mib):
    """({driver: MiB/s, or None: failed}, what to complain of), of the drivers whose pairs these are."""
    got, bad = {}, []
    for d, pair in pairs.items():
        spoil(pair, WIRES[wire])
        try:
            v = transfer(d, pair, WIRES[wire], mib)
        except FAILURES as e:
            v = None
            why = f"{d}, {wire}: {str(e)[-600:]}"
            print(why, flush=True)
            if d in OURS:
                bad.append(why)
        got[d] = v
        print(f"{wire:42} {d:6} {'failed' if v is None else f'{v:9.2f} MiB/s'}", flush=True)
    rxe = got.get("rxe")
    slow = [d for d in OURS if rxe and got.get(d) is not None and got[d] < rxe]
    return got, bad + [f"{d}, {wire}: {got[d]:.1f} MiB/s, rxe has {rxe:.1f}" for d in slow]


def write(got, mib):
    rows = [
        {"driver": d, "test": "loss", "wire": wire, "mib": mib, "unit": "MiB/s", "median": v}
        for wire, by in got.items()
        for d, v in by.items()
    ]
    (OUT / "loss.json").write_text(json.dumps(rows, indent=1) + "\n")


def table(got, mib):
    yield f"{f'MiB/s, {mib} MiB verified':42}" + "".join(f"{d:>9}" for d in DRIVERS)
    for wire, by in got.items():
        cells = [by.get(d) for d in DRIVERS]
        yield f"{wire:42}" + "".join(f"{'-' if v is None else f'{v:.1f}':>9}" for v in cells)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-m", "--mib", type=int, default=256)
    p.add_argument("-k", default="", help="words that are all in DRIVER WIRE, as they are printed; several: or")
    o = p.parse_args()
    todo = chosen(o.k)
    if not todo:
        print(f"nothing has the words {o.k!r} in DRIVER WIRE: {', '.join(DRIVERS)}; {'; '.join(WIRES)}")
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    run("modprobe ib_core; rdma system set netns exclusive")
    got, bad = {}, []
    with contextlib.ExitStack() as stack:
        wanted = {d for drivers in todo.values() for d in drivers}
        pairs = {d: stack.enter_context(linked(d)) for d in DRIVERS if d in wanted}
        for wire, drivers in todo.items():
            got[wire], complaints = over(wire, {d: pairs[d] for d in drivers}, o.mib)
            bad += complaints
            # Should the time be over before the end, this is there.
            write(got, o.mib)
    print("", *table(got, o.mib), *(f"FAILED: {x}" for x in bad), sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
