#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Goodput over a wire that loses, reorders, doubles and damages packets.

usage: loss.py [-m MIB] [-k PATTERN] [--offloads off|on|both]           (in the VM: make loss)

Every driver moves MIB (256) mebibytes and verifies each (tests/vm/bulk.c); TCP
moves as much by iperf3. It fails if a transfer of ours fails, arrives altered or
is slower than that of rxe over the same wire. Where rxe fails, that is said, and
ours must have come through; where it fails on every wire there is nothing to
compare with, and that is a failure. Figures: MiB/s of verified payload.

With offloads on netem loses, delays and doubles super-packets. rxe and siw are
not tried so: rxe sends none, so that "loss 1 %" is another wire to it.
"""

import argparse
import contextlib
import dataclasses
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
BAR = "rxe"
DRIVERS = (*KINDS, "tcp")
# Who moves something, by what the offloads are; and over which wires not: of so few super-packets one in a thousand
# may well be none.
TRIED = {"off": DRIVERS, "on": (*OURS, "tcp")}
LEFT_OUT = {"off": (), "on": ("loss 0.1 %",)}
PORT = 7777
# A transfer that takes longer has failed.
LIMIT = 1200


@dataclasses.dataclass(frozen=True)
class Wire:
    name: str
    offloads: str = "off"

    @property
    def netem(self):
        return WIRES[self.name]

    def __str__(self):
        return self.name + (", offloads on" if self.offloads == "on" else "")


def spoil(pair, wire):
    if wire.offloads == "on":
        pair.offloads_on()
    else:
        pair.offloads_off()
    for x in (pair.a, pair.b):
        x.run(f"tc qdisc del dev {x.netdev} root", check=False)
        if wire.netem:
            x.run(f"tc qdisc add dev {x.netdev} root netem limit 100000 {wire.netem}")


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


def chosen(pattern, offloads="both"):
    """{wire: drivers} that K= wants."""
    states = [x for x in TRIED if offloads in (x, "both")]
    wires = [Wire(name, x) for x in states for name in WIRES if name not in LEFT_OUT[x]]
    wanted = {wire: [d for d in TRIED[wire.offloads] if matches(pattern, f"{d} {wire}")] for wire in wires}
    return {wire: drivers for wire, drivers in wanted.items() if drivers}


def transfer(driver, pair, wire, mib):
    """MiB/s over a wire that does so already."""
    v = tcp(pair, mib) if driver == "tcp" else moved(pair, mib)
    if "loss" in wire.netem and not dropped(pair):
        raise Failed("the wire has lost nothing")
    return v


def over(wire, pairs, mib):
    """({driver: MiB/s, or None: failed}, what to complain of), of the drivers whose pairs these are."""
    got, bad = {}, []
    for d, pair in pairs.items():
        spoil(pair, wire)
        try:
            v = transfer(d, pair, wire, mib)
        except FAILURES as e:
            v = None
            why = f"{d}, {wire}: {str(e)[-600:]}"
            print(why, flush=True)
            if d in OURS:
                bad.append(why)
        got[d] = v
        print(f"{wire!s:54} {d:6} {cell(got, d)}", flush=True)
    bar = got.get(BAR)
    slow = [d for d in OURS if bar and got.get(d) is not None and got[d] < bar]
    return got, bad + [f"{d}, {wire}: {got[d]:.1f} MiB/s, {BAR} has {bar:.1f}" for d in slow]


def compared(got):
    """(what is to be said of the bar, what to complain of), after all wires."""
    tried = [by for by in got.values() if BAR in by and set(OURS) & set(by)]
    failed = [str(wire) for wire, by in got.items() if by.get(BAR, 0) is None]
    said = [f"{BAR} failed, so that nothing is compared with it: {wire}" for wire in failed]
    if not tried:
        return [*said, f"{BAR} and ours were not tried on one wire: nothing is compared"], []
    if all(by[BAR] is None for by in tried):
        return said, [f"{BAR} failed on every wire: there is nothing that ours could be compared with"]
    return said, []


def write(got, mib):
    rows = [
        {
            "driver": d,
            "test": "loss",
            "wire": wire.name,
            "offloads": wire.offloads,
            "mib": mib,
            "unit": "MiB/s",
            "median": v,
        }
        for wire, by in got.items()
        for d, v in by.items()
    ]
    (OUT / "loss.json").write_text(json.dumps(rows, indent=1) + "\n")


def cell(by, driver):
    if driver not in by:
        return "-"
    return "failed" if by[driver] is None else f"{by[driver]:.1f}"


def table(got, mib):
    yield f"{f'MiB/s, {mib} MiB verified':54}" + "".join(f"{d:>9}" for d in DRIVERS)
    for wire, by in got.items():
        yield f"{wire!s:54}" + "".join(f"{cell(by, d):>9}" for d in DRIVERS)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-m", "--mib", type=int, default=256)
    p.add_argument("-k", default="", help="words that are all in DRIVER WIRE, as they are printed; several: or")
    p.add_argument("--offloads", choices=(*TRIED, "both"), default="both", help="of the netdevs")
    o = p.parse_args()
    todo = chosen(o.k, o.offloads)
    if not todo:
        print(f"nothing has the words {o.k!r} in DRIVER WIRE: {', '.join(DRIVERS)}; {'; '.join(WIRES)}; offloads on")
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
    said, complaints = compared(got)
    bad += complaints
    print("", *table(got, o.mib), *said, *(f"FAILED: {x}" for x in bad), sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
