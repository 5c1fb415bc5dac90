#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""rurdma's two transports beside siw, rxe and TCP: ratios within one run, never absolute claims.

usage: run.py [-r ROUNDS] [-k PATTERN]         (in the VM: make bench)

Each driver has a veth of its own, see peers.py. A figure counts only if the
veth carried the bytes. Rounds are interleaved; medians and spread go to
/results/bench/results.json, a picture of the ratios beside it. The drivers'
own defaults: siw has MPA's CRC off, rurdma on; RoCEv2 has its ICRC always.
"""

import argparse
import contextlib
import json
import pathlib
import re
import statistics
import sys

from peers import KINDS, linked
from rvm import Failed, run, wait_until

OUT = pathlib.Path("/results/bench")
# operation, bytes, iterations: about a second each in an emulated machine
CASES = [(op, size, n) for op in ("write", "send", "read") for size, n in ((64, 4000), (65536, 400))]
MIB = 1 << 20
# Whom each of ours is compared with: who speaks the same to the wire.
RIVAL = {"iwarp": "siw", "roce": "rxe"}


def received(node):
    text = node.run(f"cat /sys/class/net/{node.netdev}/statistics/rx_bytes").out
    return int(text.strip().splitlines()[-1])


def listening(node, port):
    return f":{port} " in node.run("rdma resource show cm_id", check=False).out.replace("\n", " \n")


def perftest(pair, op, size, n, port):
    """MiB/s of one run from a to b."""
    a, b = pair.a, pair.b
    args = f"ib_{op}_bw -R -F -s {size} -n {n} -p {port}"
    # The bytes of a READ flow towards the one who asks.
    sink = a if op == "read" else b
    before = received(sink)
    with b.start(f"{args} --bind_source_ip {b.ip}") as server:
        try:
            wait_until(lambda: listening(b, port), 20)
        except Failed:
            if not server.running():
                raise
        out = a.run(f"{args} --bind_source_ip {a.ip} {b.ip}", timeout=120).out
        server.wait(30)
    crossed = received(sink) - before
    if crossed < size * n:
        raise Failed(f"only {crossed} of {size * n} bytes crossed {sink.netdev}")
    rows = re.findall(rf"^ *{size} +\d+ +[\d.]+ +([\d.]+)", out, re.M)
    if not rows:
        raise Failed(f"no figure in\n{out}")
    return float(rows[-1])


def tcp(pair, port):
    a, b = pair.a, pair.b
    with b.start(f"iperf3 -s -1 -p {port} -B {b.ip}") as server:
        server.wait_for("listening", 20)
        out = a.run(f"iperf3 -J -t 2 -p {port} -c {b.ip}", timeout=60).out
    return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 8 / MIB


def picture(bars, mtu, path):
    """Bars of the ratios to the rival; 1 is a line."""
    h, top = 26, max([2.0, *(v for _, v in bars)])
    scale = 440 / top
    body = []
    for i, (name, v) in enumerate(bars):
        y, w = 30 + i * h, v * scale
        body.append(f'<text x="4" y="{y + 14}">{name}</text>')
        body.append(f'<rect x="150" y="{y}" width="{w:.0f}" height="18" fill="#4a7"/>')
        body.append(f'<text x="{156 + w:.0f}" y="{y + 14}">{v:.2f}</text>')
    x = 150 + scale
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="660" height="{40 + len(bars) * h}" '
        f'font-family="sans-serif" font-size="13"><text x="4" y="18">iwarp : siw and roce : rxe, same run, '
        f'MTU {mtu}</text>{"".join(body)}<line x1="{x:.0f}" x2="{x:.0f}" y1="26" y2="{34 + len(bars) * h}" '
        f'stroke="#c33"/></svg>\n'
    )


def record(driver, test, mtu, size, values):
    return {
        "driver": driver,
        "test": test,
        "mtu": mtu,
        "size": size,
        "qps": 1,
        "unit": "MiB/s",
        "median": round(statistics.median(values), 3),
        "min": min(values),
        "max": max(values),
        "rounds": len(values),
    }


def measure(o, cases):
    """{(driver, test, size): MiB/s of each round}, and how many runs failed."""
    got, errors, port = {}, 0, 18000
    with contextlib.ExitStack() as stack:
        pairs = {d: stack.enter_context(linked(d, o.mtu)) for d in (*KINDS, "tcp")}
        for r in range(o.rounds):
            runs = [(d, f"{op}_bw", size, (op, size, n)) for op, size, n in cases for d in KINDS]
            for driver, test, size, case in [*runs, ("tcp", "stream", 0, None)]:
                port += 1
                try:
                    v = perftest(pairs[driver], *case, port) if case else tcp(pairs[driver], port)
                except Failed as e:
                    errors += 1
                    print(f"round {r + 1}: {driver} {test} {size}: {str(e)[:600]}", flush=True)
                    continue
                got.setdefault((driver, test, size), []).append(v)
                print(f"round {r + 1}: {driver:6} {test:9} {size:6} B  {v:9.2f} MiB/s", flush=True)
    return got, errors


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-r", "--rounds", type=int, default=3)
    p.add_argument("-k", default="")
    p.add_argument("--mtu", type=int, default=1500)
    o = p.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    run("modprobe ib_core; rdma system set netns exclusive")
    cases = [c for c in CASES if o.k in f"{c[0]}_{c[1]}"]
    got, errors = measure(o, cases)
    rows = [record(d, test, o.mtu, size, v) for (d, test, size), v in got.items()]
    (OUT / "results.json").write_text(json.dumps(rows, indent=1) + "\n")

    median = {(r["driver"], r["test"], r["size"]): r["median"] for r in rows}
    stream = median.get(("tcp", "stream", 0))
    print(f"\nMiB/s, medians of {o.rounds} rounds, MTU {o.mtu}; TCP, one stream: {stream}")
    print(f"{'':16}" + "".join(f"{d:>9}" for d in KINDS) + "  iwarp:siw  roce:rxe  iwarp:TCP  roce:TCP")
    bars = []
    for op, size, _ in cases:
        v = {d: median.get((d, f"{op}_bw", size)) for d in KINDS}
        ratios = [v[d] / v[r] if v[d] and v[r] else None for d, r in RIVAL.items()]
        bars += [(f"{d} {op} {size} B", x) for d, x in zip(RIVAL, ratios, strict=True) if x]
        ratios += [v[d] / stream if v[d] and stream else None for d in RIVAL]
        print(
            f"{op:6}{size:8} B"
            + "".join(f"{x or '-':>9}" for x in v.values())
            + "".join(f"{'-' if x is None else f'{x:.2f}':>11}" for x in ratios)
        )
    picture(bars, o.mtu, OUT / "ratios.svg")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
