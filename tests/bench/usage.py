# SPDX-License-Identifier: GPL-2.0
"""CPU time and system calls of a run, in windows in the middle of it.

CPU time is that of the whole machine, both ends and all softirqs: what is not idle in /proc/stat. Nothing else runs in
the VM. System calls are those of the two programs, counted by the tracepoint raw_syscalls:sys_enter, in a window after
that of the CPU time so that counting is not counted. Starting and ending of the programs are in neither.
"""

import dataclasses
import os
import pathlib
import time

from rvm import Failed
from tracing import LITTLE, tracing

TICK = 1 / os.sysconf("SC_CLK_TCK")
# So many bytes on the wire are no handshake any more: the run has begun.
BEGUN = 64 << 10
# From the first bytes on the wire until the windows: TCP has opened its window, caches are warm.
SETTLE = 0.2


def idle_seconds(text):
    """Idle CPU time (all CPUs) by the text of /proc/stat; waiting for a disk is idle, too."""
    fields = text.split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) * TICK


def threads(procs):
    return {int(t.name) for p in procs for t in pathlib.Path(f"/proc/{p.pid}/task").glob("[0-9]*")}


@dataclasses.dataclass
class Window:
    """`busy` CPU seconds, or `calls`, while so many bytes crossed the wire."""

    wire: int
    busy: float = 0
    calls: int = 0


class Usage:
    """What two programs use while bytes cross a wire."""

    def __init__(self, wire, seconds):
        self._wire, self._seconds = wire, seconds
        self.cpu = self.syscalls = None

    def duration(self):
        """How long the run has to last at least."""
        return SETTLE + 2 * self._seconds

    def watch(self, client, server, limit):
        """Blocks while the run goes on. `limit`: seconds that it may take to begin; a peer may connect, and hang."""
        start, end = self._wire.received(), time.monotonic() + limit
        while self._wire.received() < start + BEGUN:
            if not client.running():
                raise Failed(f"{client.cmd}: ended before anything was seen of it\n{client.out}")
            if time.monotonic() > end:
                raise Failed(f"{client.cmd}: hangs before anything is seen of it\n{client.out}")
            time.sleep(0.02)
        time.sleep(SETTLE)
        self.cpu = self._cpu_window()
        self.syscalls = self._syscall_window((client, server))
        if not client.running():
            raise TooShort(f"{client.cmd}: ended in the middle of the measurement")

    def _cpu_window(self):
        stat = pathlib.Path("/proc/stat")
        wire, idle, start = self._wire.received(), idle_seconds(stat.read_text()), time.monotonic()
        time.sleep(self._seconds)
        end, idle, wire = time.monotonic(), idle_seconds(stat.read_text()) - idle, self._wire.received() - wire
        return Window(wire, busy=max(0.0, (end - start) * os.cpu_count() - idle))

    def _syscall_window(self, procs):
        with tracing("raw_syscalls/sys_enter", threads=threads(procs), kib=LITTLE) as trace:
            wire, calls = self._wire.received(), trace.count()
            time.sleep(self._seconds)
            calls, wire = trace.count() - calls, self._wire.received() - wire
        return Window(wire, calls=calls)


class TooShort(Failed):
    """The run was over before it was measured."""


def per_operation(window, wire_per_operation):
    """(CPU seconds, system calls) of one operation."""
    operations = window.wire / wire_per_operation
    if operations < 1:
        raise Failed("nothing crossed the wire while it was watched")
    return window.busy / operations, window.calls / operations
