# SPDX-License-Identifier: GPL-2.0
"""What all runs of one MTU share: the pairs of links, CPUs, ports, what is known of the speed of each."""

import contextlib
import ctypes
import itertools
import os
import pathlib

from peers import KINDS, linked
from rvm import Failed
from wire import Wire

DRIVERS = (*KINDS, "tcp", "udp")
# Plain sockets need a veth and no more.
SOCKETS = ("tcp", "udp")
BCLOCK = "/run/tools/bclock.so"
MPA_CRC = pathlib.Path("/sys/module/rurdma/parameters/mpa_crc")


def cpus():
    """One for the client, one for the server; None: there are not two."""
    two = sorted(os.sched_getaffinity(0))[:2]
    return two if len(two) > 1 else None


def clock():
    """What programs that count cycles need in their environment for their figures to be right: see bclock.so.c."""
    lib = ctypes.CDLL(BCLOCK)
    lib.bclock_hz.restype = ctypes.c_double
    return {"LD_PRELOAD": BCLOCK, "BCLOCK_HZ": f"{lib.bclock_hz(ctypes.c_double(1)):.0f}"}


class Rig:
    """A pair of ends for each driver, each pair on a veth of its own."""

    # No port is used twice in a VM: some peers are slow to let go of one.
    _ports = itertools.count(18000)

    def __init__(self, drivers, mtu, seconds, pin=None, clock=None):
        """`pin`: the CPUs of clients and of servers; None: wherever the scheduler puts them. `clock`: see clock()."""
        self.drivers, self.mtu, self.seconds, self.pin, self.clock = drivers, mtu, seconds, pin, clock
        # What earlier runs have found, so that later ones last about `seconds`:
        # operations per second by (driver, operation, size), and microseconds of one.
        self.rates, self.latencies = {}, {}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with self._stack as stack:
            pairs = {d: stack.enter_context(linked(d, self.mtu)) for d in self.drivers if d not in SOCKETS}
            if set(self.drivers) & set(SOCKETS):
                pair = stack.enter_context(linked("tcp", self.mtu))
                pairs |= {d: pair for d in SOCKETS}
            self.pairs = pairs
            nodes = {x for p in pairs.values() for x in (p.a, p.b)}
            self._wires = {x: stack.enter_context(Wire(x)) for x in nodes}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc):
        self._stack.close()

    def port(self):
        return next(self._ports)

    def client(self, cmd):
        """The command on the CPU of clients."""
        return f"exec {self._on(0)}{cmd}"

    def server(self, cmd):
        return f"exec {self._on(1)}{cmd}"

    def _on(self, i):
        return f"taskset -c {self.pin[i]} " if self.pin else ""

    def ask_for_crc(self, on):
        """Whether rurdma's connections do, from now on."""
        MPA_CRC.write_text(str(int(on)))

    def wire(self, node):
        return self._wires[node]

    @contextlib.contextmanager
    def crossing(self, node):
        """Checks that what the body puts into `payload` (bytes) has crossed the veth towards that node."""
        crossed = Crossed()
        before = self.wire(node).received()
        yield crossed
        crossed.wire = self.wire(node).received() - before
        if crossed.payload <= 0:
            raise Failed("the programs have moved nothing")
        if crossed.wire < crossed.payload:
            raise Strayed(f"{crossed.wire} bytes have crossed {node.netdev}, the payload is {crossed.payload}")


class Strayed(Failed):
    """Bytes went another way than over the wire: that the benchmark is wrong, not that a driver cannot do something."""


# What a run may fail with: besides commands that fail, output that is not what it should be (a figure of 0, by
# which something is divided, too), a process that has gone.
FAILURES = (Failed, ValueError, LookupError, ArithmeticError, OSError)


class Crossed:
    """Bytes of payload, as the program says; bytes on the wire, as the veth says."""

    payload = wire = 0
