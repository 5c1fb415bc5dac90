# SPDX-License-Identifier: GPL-2.0
"""The records of a run as text."""

from rig import DRIVERS

# Whom each of ours is compared with: who speaks the same to the wire.
RIVALS = (("iwarp", "siw"), ("roce", "rxe"), ("iwarp", "tcp"), ("roce", "tcp"))
# What TCP and UDP have in the place of an operation.
PLAIN = {"lat": "pingpong", "cpu": "stream", "bw": "stream", "rate": "stream", "syscalls": "stream"}


def plain_test(test):
    """The socket test that stands beside an RDMA test, if there is one."""
    op, _, what = test.partition("_")
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


def _cells(by, row):
    """{driver: record} of a row; the sockets' records are those of the tests that stand beside."""
    test, mtu, size, qps = row
    plain = plain_test(test) or test
    return {d: by.get((d, plain if d in ("tcp", "udp") else test, mtu, size, qps)) for d in DRIVERS}


def _ratio(cells, ours, theirs):
    a, b = cells[ours], cells[theirs]
    return a["median"] / b["median"] if a and b and b["median"] else None


def table(records):
    """Lines: a row for each test, MTU and size, all drivers and the ratios of rivals."""
    by = {(r["driver"], r["test"], r["mtu"], r["size"], r["qps"]): r for r in records}
    rows = list(dict.fromkeys(k[1:] for k in by))
    # What belongs together stands together, in the order in which it was measured.
    tests = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: (tests.index(row[0]), row[1:]))
    shown = {plain_test(t) for t, *_ in rows}
    yield f"{'':44}" + "".join(f"{d:>14}" for d in DRIVERS) + "".join(f"{f'{a}:{b}':>11}" for a, b in RIVALS)
    for mtu in dict.fromkeys(r["mtu"] for r in records):
        for row in (r for r in rows if r[1] == mtu):
            # What stands beside an RDMA test needs no row of its own.
            if row[0] in shown and any(plain_test(t) == row[0] and x == list(row[1:]) for t, *x in rows):
                continue
            cells = _cells(by, row)
            unit = next(r["unit"] for r in cells.values() if r)
            name = f"{row[0]}, {unit}"
            what = f"{mtu:5} {name:25} {size_name(row[2])}{f' {row[3]} QPs' if row[3] > 1 else ''}"
            ratios = [_ratio(cells, a, b) for a, b in RIVALS]
            yield (
                f"{what:44}"
                + "".join(f"{with_spread(cells[d]):>14}" for d in DRIVERS)
                + "".join(f"{ratio(x):>11}" for x in ratios)
            )


def target_lines(records, targets):
    """Lines: what is to be reached, what has been, at each MTU."""
    median = {tuple(r[k] for k in ("driver", "test", "mtu", "size", "qps")): r["median"] for r in records}
    targets = list(targets)
    for mtu in dict.fromkeys(r["mtu"] for r in records):
        for t in targets:
            got = t.ratio(median, mtu)
            if got is not None:
                mark = "reached" if t.reached(got) else "missed"
                yield f"{mtu:5} {t.driver:6} {t.what:52} {t.bound():>8} {ratio(got):>8}  {mark}"
