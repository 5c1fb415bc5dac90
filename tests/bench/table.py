# SPDX-License-Identifier: GPL-2.0
"""The records of a run as text."""

from perftest import NO_CRC
from rig import DRIVERS, SOCKETS

# Whom each of ours is compared with: who speaks the same to the wire.
RIVALS = (("iwarp", "siw"), ("roce", "rxe"), ("iwarp", "tcp"), ("roce", "tcp"))
# What TCP and UDP have in the place of an operation.
PLAIN = {"lat": "pingpong", "cpu": "stream", "bw": "stream", "rate": "stream", "syscalls": "stream"}


def plain_test(test):
    """The socket test that stands beside an RDMA test, if there is one."""
    op, _, what = test.removesuffix(NO_CRC).partition("_")
    what = what.removesuffix("_ev")
    kind = PLAIN.get(what.split("_")[0])
    return f"{kind}_{what}" if op in ("write", "send", "read") and kind else None


def size_name(size):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B" if size else ""


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"


def ratio(value):
    """Two places, or two digits where that would be next to nothing."""
    if value is None:
        return "-"
    return f"{value:.2g}" if 0 < abs(value) < 0.1 else f"{value:.2f}"


def with_spread(r):
    """Median and, in percent of it, the larger of the ways up and down to the extremes."""
    if r is None:
        return "-"
    spread = max(r["max"] - r["median"], r["median"] - r["min"])
    percent = f"±{100 * spread / abs(r['median']):.0f}%" if r["median"] and r["rounds"] > 1 else ""
    return f"{number(r['median'])} {percent:>5}"


def _test_of(driver, test):
    """Whose record stands in a row of that name: the socket test beside it; without CRC, what siw has anyway."""
    if driver in SOCKETS:
        return plain_test(test) or test
    return test.removesuffix(NO_CRC) if driver == "siw" else test


def cells(by, row):
    """{driver: record} of a row."""
    test, *rest = row
    return {d: by.get((d, _test_of(d, test), *rest)) for d in DRIVERS}


def rival_ratio(of_row, ours, theirs):
    a, b = of_row[ours], of_row[theirs]
    return a["median"] / b["median"] if a and b and b["median"] else None


def key(record):
    return tuple(record[k] for k in ("driver", "test", "mtu", "size", "qps"))


def rows(records):
    """(test, MTU, size, QPs, unit, {driver: record}), a row for each, MTU by MTU."""
    by = {key(r): r for r in records}
    found = list(dict.fromkeys(k[1:] for k in by))
    # What belongs together stands together, in the order in which it was measured.
    tests = list(dict.fromkeys(row[0] for row in found))
    found.sort(key=lambda row: (tests.index(row[0]), row[1:]))
    beside = {(plain_test(t), *rest) for t, *rest in found}
    for mtu in dict.fromkeys(r["mtu"] for r in records):
        for row in (r for r in found if r[1] == mtu):
            # What stands beside an RDMA test needs no row of its own.
            if row not in beside:
                of_row = cells(by, row)
                yield *row, next(r["unit"] for r in of_row.values() if r), of_row


def table(records):
    """Lines: a row for each test, MTU and size, all drivers and the ratios of rivals."""
    yield f"{'':44}" + "".join(f"{d:>14}" for d in DRIVERS) + "".join(f"{f'{a}:{b}':>11}" for a, b in RIVALS)
    for test, mtu, size, qps, unit, of_row in rows(records):
        name = f"{test}, {unit}"
        what = f"{mtu:5} {name:25} {size_name(size)}{f' {qps} QPs' if qps > 1 else ''}"
        ratios = [rival_ratio(of_row, a, b) for a, b in RIVALS]
        yield (
            f"{what:44}"
            + "".join(f"{with_spread(of_row[d]):>14}" for d in DRIVERS)
            + "".join(f"{ratio(x):>11}" for x in ratios)
        )


def judged(records, targets):
    """(target, ratio or None, verdict) of each."""
    median = {key(r): r["median"] for r in records}
    for t in targets:
        yield t, t.ratio(median), t.verdict(median)


def tally(verdicts):
    """How many were reached, missed, not measured."""
    n = {word: sum(v.startswith(word) for v in verdicts) for word in ("reached", "missed", "NOT MEASURED")}
    return ", ".join(f"{n} {word}" for word, n in n.items())


def target_lines(records, targets, unmeasured=True):
    """Lines: what is to be reached, what has been. `unmeasured`: one for each of those, too, not only their number."""
    got = list(judged(records, targets))
    for t, value, verdict in got:
        if value is not None or unmeasured:
            yield f"{t.mtu:5} {t.driver:6} {t.what:58} {t.bound():>8} {ratio(value):>8}  {verdict}"
    yield f"Targets: {tally([v for *_, v in got])}"
