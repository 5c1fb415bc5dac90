# SPDX-License-Identifier: GPL-2.0
"""What `make bench` measures: all of it, or with QUICK=1 what the targets are judged by."""

import dataclasses
import typing

import idle
import objects
import perftest
import sockets
from peers import KINDS
from rig import SOCKETS

MTUS = (1500, 9000)
SIZES = (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
# Those of the targets.
SMALL, LARGE = 64, 65536
# Those that are measured with large packets, and without iWARP's CRC.
FEW_SIZES = (SMALL, 4096, LARGE, 1048576)
# Of a message in the runs with many QPs.
QP_SIZE = 4096
OPS = ("write", "send", "read")
# Who is to be compared with large packets, too.
LARGE_PACKETS = ("roce", "rxe")


@dataclasses.dataclass(frozen=True)
class Case:
    """`run(rig, driver, case)` gives readings."""

    name: str
    run: typing.Callable
    size: int = 0
    op: str = ""
    qps: int = 1
    # Whether the programs sleep until there is a completion.
    events: bool = False
    # Whether iWARP asks for MPA's CRC, which is what it does unless told otherwise.
    crc: bool = True
    drivers: tuple = tuple(KINDS)
    mtus: tuple = MTUS
    # Whether a target needs it: then the quick list has it.
    quick: bool = False

    def __str__(self):
        qps = f" {self.qps} QPs" if self.qps > 1 else ""
        return f"{self.name}{' ' if self.size else ''}{self.size or ''}{qps}"

    @property
    def variant(self):
        """What the names of its records end with."""
        return "" if self.crc else perftest.NO_CRC

    def wanted(self, driver, mtu, quick):
        if not quick:
            return mtu in self.mtus
        # One target is for large packets.
        large = driver in LARGE_PACKETS and self.run is perftest.bandwidth and self.size == LARGE
        return self.quick and (mtu == MTUS[0] or large)


def _few(size):
    return MTUS if size in FEW_SIZES else MTUS[:1]


def _without_crc(case):
    """The same of iWARP without its CRC: what siw and TCP, who have none, are to be compared with."""
    return dataclasses.replace(case, name=f"{case.name}{perftest.NO_CRC}", crc=False, drivers=("iwarp",))


def _all():
    here = MTUS[:1]
    yield Case("idle", idle.wakeups, mtus=here, quick=True)
    for size in SIZES:
        quick, mtus = size in (SMALL, LARGE), _few(size)
        yield Case("stream", sockets.stream, size, drivers=("tcp",), mtus=mtus, quick=quick)
        for op in OPS:
            case = Case(f"{op}_bw", perftest.bandwidth, size, op, mtus=mtus, quick=quick)
            yield case
            if size in FEW_SIZES:
                yield dataclasses.replace(_without_crc(case), quick=size == LARGE)
    # Of what does not fit into one packet, UDP has full packets.
    for size in (SMALL, LARGE):
        yield Case("stream", sockets.stream, size, drivers=("udp",))
    for size in (SMALL, QP_SIZE):
        quick, mtus = size == SMALL, MTUS if size == SMALL else here
        yield Case("pingpong", sockets.pingpong, size, drivers=SOCKETS, mtus=mtus, quick=quick)
        for op in OPS:
            yield Case(f"{op}_lat", perftest.latency, size, op, mtus=mtus, quick=quick)
    for size in (SMALL, LARGE):
        mtus = here if size == SMALL else MTUS
        drivers = SOCKETS if size == LARGE else ("tcp",)
        yield Case("stream_cpu", sockets.resources, size, drivers=drivers, mtus=mtus, quick=True)
        for op in OPS:
            for events in (False, True) if op != "write" else (False,):
                name = f"{op}_cpu{'_ev' if events else ''}"
                mtus = MTUS if (size, op) == (LARGE, "send") else here
                # How many system calls an operation takes, and how much CPU time a byte.
                quick = op == "send" or (op == "write" and size == SMALL)
                case = Case(name, perftest.resources, size, op, events=events, mtus=mtus, quick=quick)
                yield case
                if (size, op) == (LARGE, "send"):
                    yield dataclasses.replace(_without_crc(case), mtus=here)
    for qps in (1, 16, 256, 1024):
        ends = qps in (1, 1024)
        mtus = MTUS if ends else here
        yield Case("write_qps", perftest.many_qps, QP_SIZE, "write", qps, mtus=mtus, quick=ends)
    yield Case("connect", objects.connections, qps=256, mtus=here)
    for size in (4096, 1 << 20):
        yield Case("mr_reg", objects.registration, size, mtus=here)


def label(driver, mtu, case):
    """What K= is compared with."""
    return f"{driver} {mtu} {case}"


def matches(pattern, text):
    """Each word of the pattern, or of one of several joined by "or", has to be in there."""
    return any(all(word in text for word in x.split()) for x in pattern.split(" or "))


def chosen(quick, pattern=""):
    """[(mtu, case, driver)] in the order of a round."""
    return [
        (mtu, case, driver)
        for mtu in MTUS
        for case in _all()
        for driver in case.drivers
        if case.wanted(driver, mtu, quick) and matches(pattern, label(driver, mtu, case))
    ]
