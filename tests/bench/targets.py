# SPDX-License-Identifier: GPL-2.0
"""What rurdma is meant to reach, each as a ratio of figures of one run.

All are judged whatever was measured: one of which a figure is missing is not reached and not missed, but not measured,
and says which figure that is.
"""

import dataclasses

from perftest import NO_CRC

RDMA_PEERS = ("siw", "rxe")
SMALL, LARGE = 64, 65536
# No system call for a message, but that the programs look at the clock now and then.
NO_CALL = 0.001


@dataclasses.dataclass(frozen=True)
class Figure:
    """Of which record."""

    driver: str
    test: str
    qps: int = 1

    def __str__(self):
        return f"{self.driver} {self.test}{f' {self.qps} QPs' if self.qps > 1 else ''}"


@dataclasses.dataclass(frozen=True)
class Target:
    """The ratio of our figure to that of a rival, of several the best one; without one, the figure itself."""

    what: str
    ours: Figure
    size: int
    than: tuple = ()  # of Figure
    at_least: float | None = None
    at_most: float | None = None
    mtu: int = 1500

    @property
    def driver(self):
        return self.ours.driver

    def _value(self, median, figure):
        return median.get((figure.driver, figure.test, self.mtu, self.size, figure.qps))

    def missing(self, median):
        """Figures without which this cannot be judged; nothing can be compared with a rival's 0.

        `median`: {(driver, test, mtu, size, qps): value}
        """
        none = [self.ours] if self._value(median, self.ours) is None else []
        return none + [f for f in self.than if not self._value(median, f)]

    def ratio(self, median):
        """None where a figure is missing."""
        if self.missing(median):
            return None
        ours, theirs = self._value(median, self.ours), [self._value(median, f) for f in self.than]
        if not theirs:
            return ours
        return ours / (max(theirs) if self.at_most is None else min(theirs))

    def reached(self, ratio):
        return ratio >= self.at_least if self.at_most is None else ratio <= self.at_most

    def bound(self):
        return f"≥ {self.at_least:g}" if self.at_most is None else f"≤ {self.at_most:.2g}"

    def verdict(self, median):
        """One of reached, missed and by how much, not measured and for what reason."""
        missing = self.missing(median)
        if missing:
            return f"NOT MEASURED: no {', no '.join(map(str, missing))}"
        got = self.ratio(median)
        if self.reached(got):
            return "reached"
        if self.at_most is None:
            return f"missed by {100 * (1 - got / self.at_least):.0f} %"
        # Of what is to be next to nothing a percentage says nothing.
        near = self.at_most > NO_CALL
        return f"missed by {100 * (got / self.at_most - 1):.0f} %" if near else "missed"


# How the programs learn of completions.
_CPU = (("", "polling"), ("_ev", "events"))


def _of(driver, *tests):
    return tuple(Figure(driver, test) for test in tests)


def _peers(test):
    return tuple(Figure(d, test) for d in RDMA_PEERS)


def _iwarp(siw_crc):
    # siw decides about its CRC, and has the same of ours beside it.
    like, its = ("", "CRC on as siw's") if siw_crc else (NO_CRC, "CRC off as siw's")
    for op in ("write", "send"):
        bw, tcp = f"{op}_bw", _of("tcp", "stream_bw")
        off, on = Figure("iwarp", f"{bw}{NO_CRC}"), Figure("iwarp", bw)
        yield Target(f"{op} 64 KiB, CRC off : TCP (1.2 is the dream)", off, LARGE, tcp, 0.9)
        yield Target(f"{op} 64 KiB, CRC on : TCP", on, LARGE, tcp, 0.5)
        yield Target(f"{op} 64 KiB, {its} : siw", Figure("iwarp", f"{bw}{like}"), LARGE, _of("siw", bw), 6)
    for crc, how in (("", "on"), (NO_CRC, "off")):
        read, write = Figure("iwarp", f"read_bw{crc}"), _of("iwarp", f"write_bw{crc}")
        yield Target(f"read 64 KiB, CRC {how} : own write", read, LARGE, write, 0.8)
    yield Target(f"read 64 KiB, {its} : siw", Figure("iwarp", f"read_bw{like}"), LARGE, _of("siw", "read_bw"), 8)
    for suffix, how in _CPU:
        ours, than = Figure("iwarp", f"send_cpu_byte{suffix}{NO_CRC}"), _of("tcp", "stream_cpu_byte")
        yield Target(f"CPU time per byte, send 64 KiB, {how}, CRC off : TCP", ours, LARGE, than, at_most=1.2)


def _roce(uml):
    for mtu, least in ((1500, 6 if uml else 3), (9000, 2)):
        for op in ("write", "send", "read"):
            bw = f"{op}_bw"
            yield Target(f"{op} 64 KiB : rxe", Figure("roce", bw), LARGE, _of("rxe", bw), least, mtu=mtu)


def _either(d):
    for op in ("write", "send"):
        rate = f"{op}_rate"
        what = f"{op} 64 B, messages/s, one QP : better of siw and rxe"
        yield Target(what, Figure(d, rate), SMALL, _peers(rate), 4)
    for test, name in (("send_lat", "typical"), ("send_lat_p99", "p99")):
        ours, tcp = Figure(d, test), _of("tcp", test.replace("send", "pingpong"))
        what = f"send 64 B, {name} latency"
        yield Target(f"{what} : better of siw and rxe", ours, SMALL, _peers(test), at_most=0.7)
        yield Target(f"{what} : TCP", ours, SMALL, tcp, at_most=1 / 3)
    for peer in RDMA_PEERS:
        than = _of(peer, "read_lat")
        yield Target(f"read 64 B latency : {peer}", Figure(d, "read_lat"), SMALL, than, at_most=0.6)
    yield Target("1024 QPs : 1 QP, writes/s", Figure(d, "write_qps", 1024), 4096, _of(d, "write_qps"), 0.9)
    for op in ("write", "send"):
        what = f"system calls of a streamed {op}, 64 B"
        yield Target(what, Figure(d, f"{op}_syscalls"), SMALL, at_most=NO_CALL)
    for suffix, how in _CPU:
        test, than = f"send_cpu_byte{suffix}", _of("tcp", "stream_cpu_byte")
        yield Target(f"CPU time per byte, send 64 KiB, {how} : TCP", Figure(d, test), LARGE, than, at_most=1.2)
    yield Target("idle device, wakeups per second", Figure(d, "idle_wakeups"), 0, at_most=0)


def targets(uml=False, siw_crc=False):
    """`uml`: in User Mode Linux, where crc32 is not emulated. `siw_crc`: whether siw asks for MPA's CRC."""
    yield from _iwarp(siw_crc)
    yield from _roce(uml)
    for d in ("iwarp", "roce"):
        yield from _either(d)
