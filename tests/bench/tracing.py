# SPDX-License-Identifier: GPL-2.0
"""What the kernel's tracepoints have seen, in a ring buffer of the benchmark's own.

(Histogram triggers would count by themselves; the kernel of VM=uml has none, because that architecture cannot.)
"""

import contextlib
import pathlib
import re

from rvm import Failed

TRACING = pathlib.Path("/sys/kernel/tracing")
# Where events are counted and not read, what they overwrite is counted, too.
LITTLE, MUCH = 64, 4096
# Of the counters of one CPU's buffer those that are of events, each event in one of them.
COUNTED = ("entries", "overrun", "commit overrun", "dropped events", "read events")


def counters(text):
    """{name: value} by the text of a CPU's statistics."""
    return {name: int(n) for name, n in re.findall(r"^([a-z ]+): (\d+)$", text, re.M)}


class Trace:
    def __init__(self, instance):
        self._instance = instance

    def _stats(self):
        return [counters(f.read_text()) for f in self._instance.glob("per_cpu/cpu*/stats")]

    def count(self):
        """How many events there have been."""
        return sum(cpu[x] for cpu in self._stats() for x in COUNTED)

    def text(self):
        """All of them, a line each."""
        text = (self._instance / "trace").read_text()
        if any(cpu["overrun"] for cpu in self._stats()):
            raise Failed("there were more events than the buffer holds")
        return text


@contextlib.contextmanager
def tracing(*events, threads=(), kib=MUCH):
    """Yields a Trace of these events, of those threads or of all."""
    instance = TRACING / "instances/bench"
    instance.mkdir()
    try:
        (instance / "buffer_size_kb").write_text(str(kib))
        if threads:
            (instance / "set_event_pid").write_text(" ".join(map(str, threads)))
        for event in events:
            (instance / "events" / event / "enable").write_text("1")
        yield Trace(instance)
    finally:
        instance.rmdir()
