#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""rurdma's two transports beside siw, rxe, TCP and UDP: ratios within one run, never absolute claims.

usage: run.py [-r ROUNDS] [-k PATTERN] [--long] [--no-crc] [--poll-us N]         (in the VM: make bench)

Each driver has a veth of its own, see peers.py. A figure counts only if the veth has carried the payload. Rounds are
interleaved. /results/bench/results.json has the medians and the extremes, table.txt what is printed at the end. All
drivers have their own defaults; --no-crc and --poll-us are the exceptions, and the table says so.
"""

import argparse
import pathlib
import sys
import time

import records
from cases import chosen, label, matches
from peers import MODULES
from rig import DRIVERS, FAILURES, Rig, Strayed
from rvm import run
from table import table, target_lines
from targets import targets

OUT = pathlib.Path("/results/bench")
POLL_US = pathlib.Path("/sys/module/rurdma/parameters/poll_us")


def poll_us():
    """As it is. (The module's other parameters cannot be read: what it was loaded with counts.)"""
    return int(POLL_US.read_text())


def poller(us):
    return f"poller on (poll_us={us})" if us else "poller off"


def conditions(o):
    """What the figures hold for."""
    release = pathlib.Path("/proc/sys/kernel/osrelease").read_text().strip()
    cpus = pathlib.Path("/proc/cpuinfo").read_text().count("processor\t:")
    asked = " ".join(sys.argv[1:]) or "the short list"
    return [
        f"{time.strftime('%Y-%m-%d')}, Linux {release}, {cpus} CPUs, {o.rounds} rounds, {asked}",
        f"iwarp and roce: rurdma, {poller(poll_us())}.",
        f"iwarp: rurdma, MPA CRC {'off' if o.no_crc else 'on'}; siw: MPA CRC off (it has no knob); "
        "roce: rurdma_roce, ICRC on; rxe: ICRC on; tcp, udp: no checksum in software (veth).",
        "Latency is half a round trip, that of READ a whole one. CPU time is that of the whole machine; "
        "without _ev the RDMA programs poll, with _ev they sleep until an event.",
    ]


def reason(text):
    """A failure in one line: what happened to which command, and the last that it said."""
    lines = [x.strip() for x in text.splitlines() if x.strip(" -")] or [""]
    what = lines[0].rpartition(": ")[2]
    return what if len(lines) == 1 else f"{what[:60]}; {' '.join(lines[-1].split())[:120]}"


# What has failed so often is left out of the rounds that follow: some failures take a minute.
TRIES = 2


class Campaign:
    """All rounds at one MTU after the other."""

    def __init__(self, o):
        self.o, self.series, self.failures = o, records.Series(), {}

    def run_mtu(self, mtu):
        o = self.o
        todo = [(c, d) for c in chosen(o.long) for d in c.drivers if matches(o.k, label(d, mtu, c))]
        drivers = [d for d in DRIVERS if any(d == x for _, x in todo)]
        if not todo:
            return
        with Rig(drivers, mtu, o.seconds) as rig:
            for r in range(o.rounds):
                for case, driver in todo:
                    self.run_one(rig, r, case, driver)
                # Should the time be over before the end, this is there.
                self.write()

    def write(self):
        """The results so far; returns the lines of the table."""
        o, got = self.o, self.series.records()
        records.write(OUT / "results.json", got)
        wanted = targets(crc=not o.no_crc, poller=poll_us() > 0)
        lines = [*conditions(o), "", *table(got), "", "Targets", *target_lines(got, wanted), ""]
        lines += [f"failed {len(why)} times: {name}: {reason(str(why[-1]))}" for name, why in self.failures.items()]
        (OUT / "table.txt").write_text("\n".join(lines) + "\n")
        return lines

    def bad(self):
        """Failures of ours and of the benchmark itself. What a peer cannot do is a result."""
        return [
            name
            for name, why in self.failures.items()
            if name.split()[0] not in MODULES or any(isinstance(e, Strayed) for e in why)
        ]

    def run_one(self, rig, r, case, driver):
        name = label(driver, rig.mtu, case)
        if len(self.failures.get(name, ())) == TRIES:
            return
        start = time.monotonic()
        try:
            readings = case.run(rig, driver, case)
        except FAILURES as e:
            self.failures.setdefault(name, []).append(e)
            print(f"round {r + 1}: {name}: FAILED\n{str(e)[:300]}\n{str(e)[300:][-1200:]}", flush=True)
            return
        for x in readings:
            self.series.add(driver, rig.mtu, x)
        figures = ", ".join(f"{x.test} {x.value:.5g} {x.unit}" for x in readings)
        print(f"round {r + 1}: {name}: {figures}   [{time.monotonic() - start:.1f} s]", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-r", "--rounds", type=int)
    p.add_argument("-k", default="", help="words that are all in DRIVER MTU CASE, as they are printed; several: or")
    p.add_argument("-s", "--seconds", type=int, default=1, help="of a run, about")
    p.add_argument("--long", action="store_true", help="all sizes, operations and MTUs")
    p.add_argument("--mtu", type=int, action="append")
    p.add_argument("--no-crc", action="store_true", help="rurdma does not ask for MPA's CRC")
    p.add_argument("--poll-us", type=int, default=0, help="rurdma's pollers look so long for more; 0: off")
    o = p.parse_args()
    o.rounds = o.rounds or (3 if o.long else 2)
    OUT.mkdir(parents=True, exist_ok=True)
    run(f"modprobe rurdma poll_us={o.poll_us} {'mpa_crc=0' if o.no_crc else ''} && rdma system set netns exclusive")
    campaign = Campaign(o)
    for mtu in o.mtu or ((1500, 9000) if o.long else (1500,)):
        campaign.run_mtu(mtu)
    lines = campaign.write()
    print("\n" + "\n".join(lines))
    return 1 if campaign.bad() or not campaign.series.records() else 0


if __name__ == "__main__":
    sys.exit(main())
