#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A page of Documentation of what a run has measured: what it holds for, the targets, all figures.

usage: report.py DIRECTORY          reads results.json and run.json there, writes measurements.rst beside them

It runs outside the VM (make bench-report).
"""

import pathlib
import sys

import about
import records
from rig import DRIVERS
from table import RIVALS, judged, ratio, rival_ratio, rows, size_name, tally, with_spread
from targets import targets

HEAD = """\
.. SPDX-License-Identifier: GPL-2.0

================
rurdma: measured
================

This page is made by ``make bench-report`` out of one run of ``make bench``; how that measures, and what the tests are,
is in testing.rst, "To measure". Figures are medians of all rounds, with the larger of the ways from there to the
extremes. Only ratios mean anything: all drivers had the same machine, in turn, in the same minutes.
"""


def title(text):
    return f"\n{text}\n{'=' * len(text)}\n"


def simple_table(head, body):
    """Of reStructuredText; a first cell must not be empty."""
    table = [[" ".join(str(x).split()) for x in row] for row in (head, *body)]
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    border = "  ".join("=" * w for w in widths)
    lines = ["  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([border, lines[0], border, *lines[1:], border]) + "\n"


def shown(text):
    """A lone hyphen would begin a list."""
    return "" if text == "-" else text


def target_table(got, info):
    seen = list(judged(got, targets(about.is_uml(info), bool(info["asks_for_crc"]["siw"]))))
    body = [(t.driver, t.what, t.mtu, t.bound(), shown(ratio(value)), verdict) for t, value, verdict in seen]
    return simple_table(("link", "measure", "MTU", "target", "result", ""), body), tally([v for *_, v in seen])


def figures(got, mtu):
    body = []
    for test, its_mtu, size, qps, unit, of_row in rows(got):
        if its_mtu == mtu:
            what = f"{test} {size_name(size)}{f' {qps} QPs' if qps > 1 else ''}"
            ratios = [shown(ratio(rival_ratio(of_row, a, b))) for a, b in RIVALS]
            body.append((what, unit, *(shown(with_spread(of_row[d])) for d in DRIVERS), *ratios))
    return simple_table(("test", "unit", *DRIVERS, *(f"{a}:{b}" for a, b in RIVALS)), body)


def page(got, info):
    yield HEAD
    yield title("What it holds for")
    yield "\n".join(f"* {x}" for x in about.lines(info)) + "\n"
    yield title("Targets")
    table, sums = target_table(got, info)
    yield f"{sums}.\n\n{table}"
    for mtu in dict.fromkeys(r["mtu"] for r in got):
        yield title(f"MTU {mtu}")
        yield figures(got, mtu)
    if info["failures"]:
        yield title("What failed")
        yield "\n".join(f"* {name}: ``{why.replace('`', '')}``" for name, why in info["failures"].items()) + "\n"


def main():
    where = pathlib.Path(sys.argv[1])
    got, info = records.read(where / "results.json"), about.read(where / "run.json")
    doubts = (("was aborted", info["aborted"]), ("was a quick one", info["quick"]), ("was of K=", info["only"]))
    for what, true in doubts:
        if true:
            print(f"the run {what}: its page says so, and is not for publication")
    short = sorted({r["rounds"] for r in got if r["rounds"] < info["rounds"]})
    if short:
        print(f"some figures have only {', '.join(map(str, short))} rounds of {info['rounds']}")
    (where / "measurements.rst").write_text("\n".join(page(got, info)))
    print(f"{len(got)} records: measurements.rst; as Documentation/infiniband/measurements.rst it can be committed")


if __name__ == "__main__":
    main()
