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
    "frame.protocols",
    "tcp.stream",
    "tcp.srcport",
    "tcp.reassembled_in",
    # Of these, any: what the other end has already, or cannot take.
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.keep_alive",
    "tcp.analysis.zero_window_probe",
)


class Decoded:
    """opcodes: how many of each; mpa: which messages; malformed: frames that tshark complains of.

    Of the frames with payload in streams of RDMA in which tshark sees no MPA: parts, those of an FPDU that it
    shows in another frame; again, those that came before; cut, those behind which nothing of their
    direction was read, because the stream ended in an FPDU; unread, all others.
    """

    def __init__(self, text):
        self.opcodes, self.mpa, self.malformed = collections.Counter(), set(), []
        self.parts, self.again, self.cut, self.unread = [], [], [], []
        streams, last, silent = set(), {}, []
        for line in text.splitlines():
            op, req, rep, rej, bad, expert, number, layers, stream, port, whole, *repeated = (
                line.split("\t") + [""] * len(FIELDS)
            )[: len(FIELDS)]
            frame = int(number)
            if "iwarp_mpa" in layers.split(":"):
                streams.add(stream)
                last[stream, port] = frame
            elif whole:
                self.parts.append(frame)
            elif any(repeated):
                self.again.append(frame)
            else:
                silent.append((frame, stream, port))
            for x in filter(None, op.split(",")):
                self.opcodes[OPCODES.get(int(x, 0), x)] += 1
            if req:
                self.mpa.add("request")
            if rep:
                self.mpa.add("reject" if "1" in rej or "True" in rej else "reply")
            if bad or "alformed" in expert:
                self.malformed.append((number, bad, expert))
        for frame, stream, port in silent:
            if stream in streams:
                (self.unread if frame < last.get((stream, port), 0) else self.cut).append(frame)


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

    def decode(self, limit=600):
        # In two passes: in one, a frame does not know yet that another one completes it.
        return Decoded(self.fields(FIELDS, limit, "-2", "tcp.len > 0"))

    def fields(self, fields, limit=300, how="", which="iwarp_mpa"):
        """A line for each frame: the fields by tabs, several values of one by commas."""
        self.stop()
        fields = " ".join(f"-e {f}" for f in fields)
        form = f"-T fields -E separator=/t -E occurrence=a {fields}"
        return run(f"tshark -n {how} -r {self.file} {GUESSES} -Y '{which}' {form} 2>/dev/null", timeout=limit).out
