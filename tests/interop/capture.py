# SPDX-License-Identifier: GPL-2.0
"""Captures of a veth, and what tshark makes of them."""

import collections
import itertools
import os
import pathlib
import subprocess
import time

from rvm import Failed, run

_serial = itertools.count(1)
OPCODES = {
    0: "Write",
    1: "Read Request",
    2: "Read Response",
    3: "Send",
    4: "Send with Invalidate",
    5: "Send with SE",
    6: "Send with SE and Invalidate",
    7: "Terminate",
}
# Dissectors that take any payload for theirs.
GUESSES = "--disable-protocol rpcordma --disable-protocol smb_direct"
FIELDS = (
    "iwarp_rdma.opcode",
    "iwarp_mpa.key.req",
    "iwarp_mpa.key.rep",
    "iwarp_mpa.rej_flag",
    "_ws.malformed",
    "_ws.expert.message",
    "frame.number",
)


class Decoded:
    """opcodes: how many of each; mpa: which messages; malformed: frames that tshark complains of."""

    def __init__(self, text):
        self.opcodes, self.mpa, self.malformed, self.fpdus = collections.Counter(), set(), [], 0
        for line in text.splitlines():
            op, req, rep, rej, bad, expert, number = (line.split("\t") + [""] * 7)[:7]
            for x in filter(None, op.split(",")):
                self.opcodes[OPCODES.get(int(x, 0), x)] += 1
                self.fpdus += 1
            if req:
                self.mpa.add("request")
            if rep:
                self.mpa.add("reject" if "1" in rej or "True" in rej else "reply")
            if bad or "alformed" in expert:
                self.malformed.append((number, bad, expert))


class Capture:
    """Of a netdev (of a namespace), from here on. Offloads should be off on both ends."""

    def __init__(self, netdev, netns=None, what="tcp"):
        self.netdev, self.netns, self.what = netdev, netns, what
        self.file = pathlib.Path(f"/tmp/capture-{os.getpid()}-{next(_serial)}.pcap")

    def __enter__(self):
        argv = ["ip", "netns", "exec", self.netns] if self.netns else []
        argv += [
            "tcpdump",
            "-i",
            self.netdev,
            # Otherwise what came last is still in the kernel's buffer when tcpdump ends, and lost.
            "--immediate-mode",
            "-U",
            "-s",
            "0",
            "-B",
            "16384",
            "-Z",
            "root",
            "-w",
            str(self.file),
            *self.what.split(),
        ]
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        end = time.monotonic() + 20
        while not (self.file.exists() and self.file.stat().st_size >= 24):
            if time.monotonic() > end or self.proc.poll() is not None:
                raise Failed("tcpdump does not begin")
            time.sleep(0.05)
        return self

    def stop(self):
        if self.proc.poll() is None:
            time.sleep(0.5)
            self.proc.terminate()
        self.proc.wait(20)

    def __exit__(self, *exc):
        self.stop()
        self.proc.stderr.close()
        self.file.unlink(missing_ok=True)

    def decode(self, limit=300):
        return Decoded(self.fields(FIELDS, limit=limit))

    def fields(self, fields, which="iwarp_mpa", limit=300):
        """A line for each frame: the fields by tabs, several values of one by commas."""
        self.stop()
        fields = " ".join(f"-e {f}" for f in fields)
        form = f"-T fields -E separator=/t -E occurrence=a {fields}"
        return run(f"tshark -n -r {self.file} {GUESSES} -Y {which} {form} 2>/dev/null", timeout=limit).out
