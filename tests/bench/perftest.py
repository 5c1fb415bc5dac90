# SPDX-License-Identifier: GPL-2.0
"""perftest (ib_write_bw and its relatives) over a pair of links, connected by rdma_cm."""

import contextlib
import math
import pathlib
import re
import time

from records import Reading
from rvm import Failed, sleeps, wait_until
from usage import TooShort, Usage, per_operation

MIB = 1 << 20
# What a run may take that should last a second or two, in an emulated machine.
LIMIT = 60
# What is posted at once: perftest's own depth, less where that would be more than this many bytes, or it would still
# wait for the last of them long after the time is over.
DEPTH, POSTED = 128, 8 * MIB
# perftest takes no larger -r.
MOST_RECEIVES = 16384
# What the names of records end with where iWARP does not ask for MPA's CRC.
NO_CRC = "_nocrc"


def columns(text, size):
    """The figures of the last result line for that size, without the size. (One that cannot be computed is "nan".)"""
    rows = re.findall(rf"^ *{size}((?:[ \t]+(?:-?nan|[\d.]+)){{4,}})[ \t]*$", text, re.M)
    if not rows:
        raise Failed(f"no figures for {size} bytes in\n{text}")
    return [float(x) for x in rows[-1].split()]


def computed(text, *figures):
    """These figures; one that could not be computed, or that is 0, is none."""
    if not all(math.isfinite(x) and x > 0 for x in figures):
        raise Failed(f"a figure is no number, or 0, in\n{text}")
    return figures


def bw_figures(text, size):
    """(iterations, operations/s): by the message rate or by MiB/s, whichever has more digits."""
    n, _, mib, mpps = columns(text, size)
    n, rate = computed(text, n, mpps * 1e6 if size < 4096 else mib * MIB / size)
    return int(n), rate


def lat_figures(text, size):
    """(iterations, typical, average, 99th percentile), microseconds."""
    n, _, _, typical, average, _, p99, *_ = columns(text, size)
    n, typical, average, p99 = computed(text, n, typical, average, p99)
    return int(n), typical, average, p99


def depth(size):
    return max(16, min(DEPTH, POSTED // size))


def exchange(rig, driver, program, usage=None, limit=LIMIT):
    """The client's output of one run from a to b."""
    a, b = rig.pairs[driver].a, rig.pairs[driver].b
    port = rig.port()
    line = f"{program} -R -F -p {port}"
    with b.start(rig.server(f"{line} --bind_source_ip {b.ip}"), env=rig.clock) as server:
        wait_until(lambda: listening(b, port) or not server.running(), 20, f"{server.cmd}: does not listen")
        with a.start(rig.client(f"{line} --bind_source_ip {a.ip} {b.ip}"), env=rig.clock) as client:
            if usage:
                usage.watch(client, server, limit)
            out = client.wait(limit, where=lambda: state((a, client), (b, server))).out
        server.wait(30, where=lambda: state((b, server)))
    return out


def state(*programs):
    """Of programs that hang, each with its node: what they wrote, where their threads are, their QPs and streams."""
    lines = []
    for node, program in programs:
        lines.append(f"{node.name}: {program.cmd}\n{program.out}")
        for task in sorted(pathlib.Path(f"/proc/{program.pid}/task").glob("*")):
            with contextlib.suppress(OSError):
                lines.append(f"thread {task.name}: " + " < ".join((task / "stack").read_text().split("\n")))
        lines += [node.run(c, check=False).out for c in ("rdma -d resource show qp", "rdma statistic show", "ss -tinm")]
    return "\n".join(lines)


def listener(text, port):
    """The process that waits for connections there, by what rdma(8) says of all ids. One that is bound refuses them."""
    rows = (row for row in text.splitlines() if re.search(rf"\bstate LISTEN\b.*:{port}\b", row))
    return next((int(re.search(r"\bpid (\d+)", row)[1]) for row in rows), None)


def listening(node, port):
    """rdma_listen() sets the state first, and then has the device listen: who goes on sleeping is through with that."""
    pid = listener(node.run("rdma resource show cm_id", check=False).out, port)
    if pid is None or not sleeps(pid):
        return False
    time.sleep(0.1)
    return sleeps(pid)


def sink(rig, driver, op):
    """Where the payload arrives: with READ at the one who asks."""
    pair = rig.pairs[driver]
    return pair.a if op == "read" else pair.b


# The first run of its kind is as long as if it did so much, which is little for some drivers and enough for others.
GUESS, GUESS_BYTES = 10000, 20 * MIB


# Up to this size the number of messages is of interest, not only that of bytes.
SMALL = 4096


def first_guess(size):
    return max(2 * depth(size), min(GUESS, GUESS_BYTES // size))


def bandwidth(rig, driver, case):
    """By a number of operations, not by perftest's -D: that counts what is complete when the time is over, which is
    nothing if a slow driver is still at what was posted first.
    """
    op, size, v = case.op, case.size, case.variant
    key = (driver, f"{op}{v}", size)

    def once(n):
        with rig.crossing(sink(rig, driver, op)) as crossed:
            out = exchange(rig, driver, bw_run(case, n))
            done, rate = bw_figures(out, size)
            crossed.payload = done * size
        rig.rates[key] = rate
        return rate

    known = rig.rates.get(key)
    n = max(round(known * rig.seconds), depth(size)) if known else first_guess(size)
    rate = once(n)
    if n / rate < rig.seconds / 2:
        rate = once(round(rate * rig.seconds))
    bw = Reading(f"{op}_bw{v}", size, 1, "MiB/s", rate * size / MIB)
    return [bw, Reading(f"{op}_rate{v}", size, 1, "op/s", rate)] if size <= SMALL else [bw]


def bw_run(case, n):
    """The program that streams, and what it is called with.

    Of SEND there is a receive (-r) for each message and one more, or as many as there can be, whatever the driver:
    whoever streams is not to wait for them. Over RoCE that takes an RNR NAK and its time. Over iWARP the client stops
    one short of -r until the server says what it has received, which that WRITEs into the client's memory, each time
    with a system call. There is no event of that: a client that sleeps by then does so for ever.
    """
    receives = f" -r {min(n + 1, MOST_RECEIVES)}" if case.op == "send" else ""
    return f"ib_{case.op}_bw -s {case.size} -n {n} -t {depth(case.size)}{receives}"


def resources_run(case, n):
    """The same without the figures of each message, and with or without events."""
    return f"{bw_run(case, n)} -N{' -e' if case.events else ''}"


def resources_least(case):
    """Messages, even if the driver is slow."""
    return max(500, first_guess(case.size))


def pilot(rig, driver, case):
    """Operations per second: of an earlier run if there was one; where the programs sleep, of a short one."""
    key = (driver, f"{case.op}{case.variant}", case.size)
    if key not in rig.rates:
        bandwidth(rig, driver, case)
    if not case.events:
        return rig.rates[key]
    out = exchange(rig, driver, resources_run(case, resources_least(case)), limit=3 * LIMIT)
    return bw_figures(out, case.size)[1]


def latency(rig, driver, case):
    """Half a round trip; with READ the whole one."""
    op, size = case.op, case.size
    at = rig.pairs[driver].a if op == "read" else rig.pairs[driver].b

    def once(n):
        with rig.crossing(at) as crossed:
            done, typical, average, p99 = lat_figures(exchange(rig, driver, f"ib_{op}_lat -s {size} -n {n}"), size)
            crossed.payload = done * size
        # Where the machine is taken away now and then, a few trips last as long as all others.
        rig.latencies[driver, op, size] = average
        return typical, p99

    if (driver, op, size) not in rig.latencies:
        once(100)
    trips = 1e6 * rig.seconds / rig.latencies[driver, op, size] / (1 if op == "read" else 2)
    typical, p99 = once(round(min(max(trips, 500), 50000)))
    return [
        Reading(f"{op}_lat", size, 1, "us", typical),
        Reading(f"{op}_lat_p99", size, 1, "us", p99),
    ]


# Messages of the runs with many QPs, all QPs together: as many whatever the number of QPs is. It is siw that needs so
# many: libsiw takes the key of a context's page 0x90 for none (SIW_INVAL_UOBJ_KEY), and cannot create the QP of which a
# queue begins there. The CQ, which comes before the QPs, reaches beyond if it holds 17921 completions.
LOAD = 32768


def many_qps(rig, driver, case):
    op, size, qps = case.op, case.size, case.qps
    n = LOAD // qps
    with rig.crossing(sink(rig, driver, op)) as crossed:
        args = f"-s {size} -n {n} -q {qps} -t {min(n, DEPTH)} -Q 4"
        out = exchange(rig, driver, f"ib_{op}_bw {args}", limit=3 * LIMIT)
        total, rate = bw_figures(out, size)
        crossed.payload = LOAD * size
    if total != LOAD:
        raise Failed(f"{total} operations instead of {LOAD}\n{out}")
    return [Reading(f"{op}_qps", size, qps, "op/s", rate)]


def resources(rig, driver, case):
    """CPU time and system calls of an operation; `events`: the programs sleep until a completion event.

    (perftest cannot do that with WRITE, of which the target sees nothing.)
    """
    op, size, suffix = case.op, case.size, f"{'_ev' if case.events else ''}{case.variant}"
    key = (driver, f"{op}_cpu{suffix}", size)
    rate = rig.rates.get(key) or pilot(rig, driver, case)
    at = sink(rig, driver, op)
    usage = Usage(rig.wire(at), rig.seconds)
    lasts = usage.duration() + 1
    n = max(resources_least(case) if case.events else 500, round(rate * lasts))
    for _ in range(5):
        try:
            with rig.crossing(at) as crossed:
                exchange(rig, driver, resources_run(case, n), usage, limit=3 * LIMIT)
                crossed.payload = n * size
            rig.rates[key] = n / lasts
            break
        except TooShort:
            n *= 3
    else:
        raise Failed(f"{n // 3} operations are over before they are measured")
    cpu, _ = per_operation(usage.cpu, crossed.wire / n)
    _, calls = per_operation(usage.syscalls, crossed.wire / n)
    return [
        Reading(f"{op}_cpu{suffix}", size, 1, "us/op", cpu * 1e6),
        Reading(f"{op}_cpu_byte{suffix}", size, 1, "ns/B", cpu * 1e9 / size),
        Reading(f"{op}_syscalls{suffix}", size, 1, "call/op", calls),
    ]
