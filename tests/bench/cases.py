# SPDX-License-Identifier: GPL-2.0
"""What `make bench` measures: a short list, and the long one of LONG=1."""

import dataclasses
import typing

import idle
import objects
import perftest
import sockets
from peers import KINDS
from rig import SOCKETS

SIZES = (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
# What the short list has of them.
SMALL, LARGE = 64, 65536
# Of a message in the runs with many QPs.
QP_SIZE = 4096
OPS = ("write", "send", "read")


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
    drivers: tuple = tuple(KINDS)
    short: bool = True

    def __str__(self):
        qps = f" {self.qps} QPs" if self.qps > 1 else ""
        return f"{self.name}{' ' if self.size else ''}{self.size or ''}{qps}"


def _all():
    yield Case("idle", idle.wakeups)
    for size in SIZES:
        short = size in (SMALL, LARGE)
        yield Case("stream", sockets.stream, size, drivers=("tcp",), short=short)
        for op in OPS:
            yield Case(f"{op}_bw", perftest.bandwidth, size, op, short=short)
    # Of what does not fit into one packet, UDP has full packets.
    for size in (SMALL, LARGE):
        yield Case("stream", sockets.stream, size, drivers=("udp",))
    for size in (SMALL, QP_SIZE):
        short = size == SMALL
        yield Case("pingpong", sockets.pingpong, size, drivers=SOCKETS, short=short)
        for op in OPS:
            yield Case(f"{op}_lat", perftest.latency, size, op, short=short)
    for size in (SMALL, LARGE):
        yield Case("stream_cpu", sockets.resources, size, drivers=SOCKETS if size == LARGE else ("tcp",))
        for op in OPS:
            for events in (False, True) if op != "write" else (False,):
                name = f"{op}_cpu{'_ev' if events else ''}"
                yield Case(name, perftest.resources, size, op, events=events, short=op == "send")
    for qps in (1, 16, 256, 1024):
        yield Case("write_qps", perftest.many_qps, QP_SIZE, "write", qps, short=qps in (1, 1024))
    yield Case("connect", objects.connections, qps=256)
    for size in (4096, 1 << 20):
        yield Case("mr_reg", objects.registration, size)


def label(driver, mtu, case):
    """What K= is compared with."""
    return f"{driver} {mtu} {case}"


def matches(pattern, text):
    """Each word of the pattern, or of one of several joined by "or", has to be in there."""
    return any(all(word in text for word in x.split()) for x in pattern.split(" or "))


def chosen(long):
    return [c for c in _all() if long or c.short]
