# SPDX-License-Identifier: GPL-2.0
"""What plain TCP and UDP do over the same kind of wire: iperf3 for streams, sockperf for latency."""

import json
import math
import re

from perftest import SMALL
from records import Reading
from rvm import Failed
from usage import TooShort, Usage, per_operation

MIB = 1 << 20
LIMIT = 60
# IPv4 and UDP.
UDP_HEADERS = 28


def stream_figures(text):
    """(bytes that arrived, bytes/s) by iperf3's JSON, before which there may be a warning."""
    got = json.loads(text[max(0, text.find("{")) :])["end"]["sum_received"]
    return got["bytes"], got["bits_per_second"] / 8


def _stream(rig, driver, size, seconds, usage=None):
    """(operations, operations/s, bytes on the wire)"""
    a, b = rig.pairs[driver].a, rig.pairs[driver].b
    port = rig.port()
    udp = "-u -b 0 " if driver == "udp" else ""
    serve = rig.server(f"iperf3 -s -1 --forceflush -p {port} -B {b.ip}")
    with rig.crossing(b) as crossed, b.start(serve) as server:
        server.wait_for("listening", 20)
        with a.start(rig.client(f"iperf3 -J {udp}-l {size} -t {seconds} -p {port} -c {b.ip}")) as client:
            if usage:
                usage.watch(client, server, LIMIT)
            crossed.payload, rate = stream_figures(client.wait(LIMIT).out)
    return crossed.payload / size, rate / size, crossed.wire


def write_size(rig, driver, case):
    """A datagram is no larger than a packet."""
    return min(case.size, rig.mtu - UDP_HEADERS) if driver == "udp" else case.size


def stream(rig, driver, case):
    size = write_size(rig, driver, case)
    _, rate, _ = _stream(rig, driver, size, max(1, rig.seconds))
    bw, ops = Reading("stream_bw", size, 1, "MiB/s", rate * size / MIB), Reading("stream_rate", size, 1, "op/s", rate)
    return [bw, ops] if size <= SMALL else [bw]


def resources(rig, driver, case):
    size = write_size(rig, driver, case)
    usage = Usage(rig.wire(rig.pairs[driver].b), rig.seconds)
    # A machine that is taken away now and then may have it begin late, or be slow to look.
    for beside in (2, 8, 32):
        try:
            n, _, wire = _stream(rig, driver, size, math.ceil(usage.duration() + beside), usage)
            break
        except TooShort as e:
            failed = e
    else:
        raise failed
    cpu, _ = per_operation(usage.cpu, wire / n)
    _, calls = per_operation(usage.syscalls, wire / n)
    return [
        Reading("stream_cpu", size, 1, "us/op", cpu * 1e6),
        Reading("stream_cpu_byte", size, 1, "ns/B", cpu * 1e9 / size),
        Reading("stream_syscalls", size, 1, "call/op", calls),
    ]


# Of fewer round trips there is no 99th percentile.
ENOUGH = 200


class TooFew(Failed):
    """Round trips."""


def pingpong_figures(text):
    """(observations, median, 99th percentile) by sockperf's output; half a round trip, microseconds."""
    # It colours its output.
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    n = re.search(r"Total (\d+) observations", text)
    points = dict(re.findall(r"percentile +([\d.]+) += +([\d.]+)", text))
    if "No valid observations" in text or (n and int(n[1]) < ENOUGH):
        raise TooFew(f"{n[1] if n else 'no'} round trips are too few")
    if not n or not {"50.000", "99.000"} <= set(points):
        raise Failed(f"no percentiles in\n{text}")
    return int(n[1]), float(points["50.000"]), float(points["99.000"])


def _pingpong(rig, driver, size, seconds):
    a, b = rig.pairs[driver].a, rig.pairs[driver].b
    args = f"-i {b.ip} -p {rig.port()}{' --tcp' if driver == 'tcp' else ''}"
    with rig.crossing(b) as crossed, b.start(rig.server(f"sockperf server {args}"), env=rig.clock) as server:
        server.wait_for("Warmup stage|listen on|to terminate", 20)
        ask = rig.client(f"sockperf ping-pong {args} -m {size} -t {seconds}")
        n, *figures = pingpong_figures(a.run(ask, timeout=LIMIT, env=rig.clock).out)
        crossed.payload = n * size
    return figures


def pingpong(rig, driver, case):
    # Where another machine's work comes between, a trip may take as long as all of them otherwise.
    for seconds in (1, 5, 25):
        try:
            typical, p99 = _pingpong(rig, driver, case.size, seconds * max(1, rig.seconds))
            break
        except TooFew as e:
            failed = e
    else:
        raise failed
    return [
        Reading("pingpong_lat", case.size, 1, "us", typical),
        Reading("pingpong_lat_p99", case.size, 1, "us", p99),
    ]
