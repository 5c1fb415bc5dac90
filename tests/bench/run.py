#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""rurdma's two transports beside siw, rxe, TCP and UDP: ratios within one run, never absolute claims.

usage: run.py [-r ROUNDS] [-k PATTERN] [--quick] [--poll-us N] [--no-pin]         (in the VM: make bench)

Each driver has a veth of its own, see peers.py. A figure counts only if the veth has carried the payload; if it has
not, the benchmark is at an end. Rounds are interleaved: all drivers take their turn before any has the second, and
iWARP does so with its CRC and without. /results/bench/results.json has the medians and the extremes, run.json what they
hold for, table.txt what is printed at the end. All drivers have their own defaults; --poll-us is the exception.
"""

import argparse
import pathlib
import sys
import time

import about
import records
from cases import chosen, label
from mpa import asks_for_crc
from peers import MODULES
from rig import DRIVERS, FAILURES, Rig, Strayed, clock, cpus
from rvm import run
from table import table, target_lines
from targets import targets

OUT = pathlib.Path("/results/bench")
ROUNDS, QUICK_ROUNDS = 5, 2


def reason(text):
    """A failure in one line: what happened to which command, and the last that it said, or of one that ended with a
    complaint the first: what follows is what comes of that.
    """
    lines = [x.strip() for x in text.splitlines() if x.strip(" -")] or [""]
    what = lines[0].rpartition(": ")[2]
    said = lines[1:3] if what.startswith("exit code") else lines[1:][-1:]
    return "; ".join((what[:60], *(" ".join(x.split())[:120] for x in said))) if said else what


# What has failed so often is left out of the rounds that follow: some failures take a minute.
TRIES = 2


class Aborted(Exception):
    """The benchmark itself is wrong: what it would go on to measure is worth nothing."""


class Campaign:
    """All rounds at one MTU after the other."""

    def __init__(self, o, info=None, clock=None):
        self.o, self.info, self.clock, self.series, self.failures = o, info, clock, records.Series(), {}

    def run_mtu(self, mtu):
        o = self.o
        todo = [(case, driver) for m, case, driver in chosen(o.quick, o.k) if m == mtu]
        drivers = [d for d in DRIVERS if any(d == x for _, x in todo)]
        if not todo:
            return
        with Rig(drivers, mtu, o.seconds, self.info["pin"], self.clock) as rig:
            for driver in ("siw", "iwarp"):
                if driver in drivers:
                    self.see_crc(rig, driver)
            for r in range(o.rounds):
                for case, driver in todo:
                    self.run_one(rig, r, case, driver)
                # Should the time be over before the end, this is there.
                self.write()

    def see_crc(self, rig, driver):
        """What the driver asks its peers for; ours has to follow its knob."""
        try:
            if driver == "iwarp":
                rig.ask_for_crc(False)
                if asks_for_crc(rig, driver):
                    raise Aborted("rurdma asks for MPA's CRC with mpa_crc=0")
                rig.ask_for_crc(True)
            asks = asks_for_crc(rig, driver)
        except FAILURES as e:
            print(f"{driver}: whether it asks for MPA's CRC could not be seen: {reason(str(e))}", flush=True)
            return
        if driver == "iwarp" and not asks:
            raise Aborted("rurdma does not ask for MPA's CRC with mpa_crc=1")
        self.info["asks_for_crc"][driver] = asks
        print(f"{driver} asks for MPA's CRC: {'yes' if asks else 'no'}", flush=True)

    def write(self):
        """The results so far; returns the lines of the table."""
        got, info = self.series.records(), self.info
        info["failures"] = {n: f"{len(why)} times, {reason(str(why[-1]))}" for n, why in self.failures.items()}
        records.write(OUT / "results.json", got)
        about.write(OUT / "run.json", info)
        wanted = targets(about.is_uml(info), bool(info["asks_for_crc"]["siw"]))
        lines = [*about.lines(info), "", *table(got), ""]
        lines += ["Targets", *target_lines(got, wanted, unmeasured=not info["only"]), ""]
        lines += [f"failed: {name}: {why}" for name, why in info["failures"].items()]
        (OUT / "table.txt").write_text("\n".join(lines) + "\n")
        return lines

    def bad(self):
        """Failures of ours. What a peer cannot do is a result."""
        return [name for name in self.failures if name.split()[0] not in MODULES]

    def run_one(self, rig, r, case, driver):
        name = label(driver, rig.mtu, case)
        if len(self.failures.get(name, ())) == TRIES:
            return
        start = time.monotonic()
        try:
            rig.ask_for_crc(case.crc)
            readings = case.run(rig, driver, case)
        except Strayed as e:
            raise Aborted(f"{name}: the payload does not go over the wire: {e}") from e
        except FAILURES as e:
            self.failures.setdefault(name, []).append(e)
            print(f"round {r + 1}: {name}: FAILED\n{str(e)[:300]}\n{str(e)[300:][-1200:]}", flush=True)
            return
        for x in readings:
            self.series.add(driver, rig.mtu, x, about.crc(self.info, driver, case.crc))
        figures = ", ".join(f"{x.test} {x.value:.5g} {x.unit}" for x in readings)
        print(f"round {r + 1}: {name}: {figures}   [{time.monotonic() - start:.1f} s]", flush=True)


def options():
    p = argparse.ArgumentParser()
    p.add_argument("-r", "--rounds", type=int, help=f"{ROUNDS}, of the quick list {QUICK_ROUNDS}")
    p.add_argument("-k", default="", help="words that are all in DRIVER MTU CASE, as they are printed; several: or")
    p.add_argument("-s", "--seconds", type=int, default=1, help="of a run, about")
    p.add_argument("--quick", action="store_true", help="few rounds of what the targets need")
    p.add_argument("--mtu", type=int, action="append")
    p.add_argument("--poll-us", type=int, help="rurdma's pollers look so long for more; 0: off")
    p.add_argument("--no-pin", action="store_true", help="the scheduler chooses the programs' CPUs")
    p.add_argument("--command", default=" ".join(sys.argv), help="what the table says that this was begun by")
    p.add_argument("--revision", default="unknown", help="what the table says that was measured")
    o = p.parse_args()
    o.rounds = o.rounds or (QUICK_ROUNDS if o.quick else ROUNDS)
    return o


def main():
    o = options()
    OUT.mkdir(parents=True, exist_ok=True)
    param = "" if o.poll_us is None else f"poll_us={o.poll_us}"
    run(f"modprobe rurdma {param} && rdma system set netns exclusive")
    campaign = Campaign(o, about.gather(o, None if o.no_pin else cpus()), clock())
    todo = chosen(o.quick, o.k)
    if not todo:
        print(f"no run has the words {o.k!r} in DRIVER MTU CASE")
        return 1
    print(f"{'QUICK: ' if o.quick else ''}{len(todo)} runs a round, {o.rounds} rounds", flush=True)
    try:
        for mtu in o.mtu or dict.fromkeys(m for m, *_ in todo):
            campaign.run_mtu(mtu)
    except Aborted as e:
        campaign.info["aborted"] = str(e)
    lines = campaign.write()
    print("\n" + "\n".join(lines))
    if campaign.info["aborted"]:
        print(f"\nABORTED: {campaign.info['aborted']}")
        return 1
    return 1 if campaign.bad() or not campaign.series.records() else 0


if __name__ == "__main__":
    sys.exit(main())
