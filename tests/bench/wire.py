# SPDX-License-Identifier: GPL-2.0
"""What a veth has carried."""

import contextlib
import os


@contextlib.contextmanager
def inside(netns):
    """This process in a network namespace; None: where it is."""
    if netns is None:
        yield
        return
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        os.setns(there, os.CLONE_NEWNET)
        yield
    finally:
        os.setns(home, os.CLONE_NEWNET)
        os.close(there)
        os.close(home)


def rx_bytes(text, netdev):
    """Of one netdev in the text of /proc/net/dev."""
    for line in text.splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == netdev:
            return int(counters.split()[0])
    raise LookupError(f"no {netdev} in\n{text}")


class Wire:
    """The counter of bytes that a node's end of the veth has received.

    It is read without starting a program, which would be part of what is measured. The file belongs to the namespace
    in which it was opened.
    """

    def __init__(self, node):
        self._netdev = node.netdev
        with inside(node.name):
            self._fd = os.open("/proc/self/net/dev", os.O_RDONLY)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        os.close(self._fd)

    def received(self):
        return rx_bytes(os.pread(self._fd, 1 << 16, 0).decode(), self._netdev)
