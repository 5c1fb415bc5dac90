#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""rurdma beside siw and TCP: ratios within one run, never absolute claims.

usage: run.py [-r ROUNDS] [-k PATTERN]         (in the VM: make bench)

rurdma has a namespace at each end of a veth. siw cannot work in one, so its veth
has both ends in the first namespace, and rules that make the packets cross it
all the same. Each figure counts only if the veth carried the bytes. Rounds are
interleaved; medians and spread go to /results/bench/results.json, a picture of
the ratios beside it.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

from rvm import Failed, Pair, Proc, run, wait_until

OUT = pathlib.Path("/results/bench")
# operation, bytes, iterations: about a second each in an emulated machine
CASES = [(op, size, n) for op in ("write", "send", "read") for size, n in ((64, 4000), (65536, 400))]
MIB = 1 << 20


class Near:
    """The first namespace; wears the clothes of a Node."""

    name = None

    def run(self, cmd, **kw):
        return run(cmd, **kw)

    def start(self, cmd):
        return Proc(cmd)


class SiwPair:
    """Two siw links on the ends of one veth, both in the first namespace."""

    def __init__(self, mtu):
        self.mtu = mtu
        self.a, self.b = Near(), Near()
        for i, x in enumerate((self.a, self.b), 1):
            x.netdev, x.dev, x.ip = f"siwv{i}", f"siw{i}", f"10.99.0.{i}"

    def __enter__(self):
        a, b = self.a, self.b
        run("modprobe siw")
        run(f"ip link add {a.netdev} mtu {self.mtu} type veth peer name {b.netdev} mtu {self.mtu}")
        for i, (x, y) in enumerate(((a, b), (b, a)), 1):
            table, mac = 100 + i, f"02:00:00:00:99:0{i}"
            run(
                f"ip link set {x.netdev} address {mac} && ip addr add {x.ip}/32 dev {x.netdev} && "
                f"sysctl -qw net.ipv4.conf.{x.netdev}.accept_local=1 net.ipv4.conf.{x.netdev}.rp_filter=0 && "
                f"ip link set {x.netdev} up && ip rule add pref {10 + i} iif {x.netdev} lookup local && "
                f"ip rule add pref {20 + i} to {y.ip} iif lo lookup {table}"
            )
        for i, (x, y) in enumerate(((a, b), (b, a)), 1):
            run(
                f"ip route add {y.ip}/32 dev {x.netdev} src {x.ip} table {100 + i} && "
                f"ip neigh replace {y.ip} lladdr 02:00:00:00:99:0{3 - i} dev {x.netdev} nud permanent"
            )
        # Local addresses are looked up last: else nothing would leave.
        run("sysctl -qw net.ipv4.conf.all.rp_filter=0; ip rule add pref 100 lookup local && ip rule del pref 0")
        for x in (a, b):
            run(f"rdma link add {x.dev} type siw netdev {x.netdev}")
        return self

    def __exit__(self, *exc):
        run(f"ip rule add pref 0 lookup local; ip rule del pref 100; ip link del {self.a.netdev}", check=False)


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


def picture(rows, path):
    """Bars of the ratios rurdma : siw; 1 is a line."""
    h, top = 26, max([2.0, *(r["ratio_siw"] for r in rows if r["ratio_siw"])])
    scale = 460 / top
    body = []
    for i, r in enumerate(rows):
        y = 30 + i * h
        w = (r["ratio_siw"] or 0) * scale
        body.append(f'<text x="4" y="{y + 14}">{r["op"]} {r["size"]} B</text>')
        body.append(f'<rect x="110" y="{y}" width="{w:.0f}" height="18" fill="#4a7"/>')
        body.append(f'<text x="{116 + w:.0f}" y="{y + 14}">{r["ratio_siw"] or "-"}</text>')
    x = 110 + scale
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{40 + len(rows) * h}" '
        f'font-family="sans-serif" font-size="13"><text x="4" y="18">rurdma : siw, same run, MTU 1500</text>'
        f'{"".join(body)}<line x1="{x:.0f}" x2="{x:.0f}" y1="26" y2="{34 + len(rows) * h}" stroke="#c33"/></svg>\n'
    )


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-r", "--rounds", type=int, default=3)
    p.add_argument("-k", default="")
    p.add_argument("--mtu", type=int, default=1500)
    o = p.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    run("modprobe ib_core; rdma system set netns exclusive")
    cases = [c for c in CASES if o.k in f"{c[0]}_{c[1]}"]
    got, streams, errors = {}, [], 0
    port = 18000
    with SiwPair(o.mtu) as siw, Pair(o.mtu) as rurdma:
        for r in range(o.rounds):
            for op, size, n in cases:
                for name, pair in (("siw", siw), ("rurdma", rurdma)):
                    port += 1
                    try:
                        v = perftest(pair, op, size, n, port)
                    except Failed as e:
                        errors += 1
                        print(f"round {r + 1}: {name} {op} {size}: {str(e)[:600]}", flush=True)
                        continue
                    got.setdefault((name, op, size), []).append(v)
                    print(f"round {r + 1}: {name:7} {op:6} {size:6} B  {v:9.2f} MiB/s", flush=True)
            port += 1
            streams.append(tcp(rurdma, port))
            print(f"round {r + 1}: TCP, one stream        {streams[-1]:9.2f} MiB/s", flush=True)

    stream = statistics.median(streams)
    rows = []
    for op, size, _ in cases:
        row = {"op": op, "size": size, "mtu": o.mtu, "tcp": round(stream, 2)}
        for name in ("siw", "rurdma"):
            v = got.get((name, op, size), [])
            row[name] = round(statistics.median(v), 3) if v else None
            row[f"{name}_spread"] = [min(v), max(v)] if v else None
        both = row["siw"] and row["rurdma"]
        row["ratio_siw"] = round(row["rurdma"] / row["siw"], 2) if both else None
        row["ratio_tcp"] = round(row["rurdma"] / stream, 3) if row["rurdma"] else None
        rows.append(row)
    doc = {"rounds": o.rounds, "unit": "MiB/s", "rows": rows}
    (OUT / "results.json").write_text(json.dumps(doc, indent=1) + "\n")
    picture(rows, OUT / "ratios.svg")

    print(f"\n{'':14}{'siw':>10}{'rurdma':>10}{'TCP':>10}{'rurdma:siw':>12}{'rurdma:TCP':>12}   (MiB/s, medians)")
    for r in rows:
        print(
            f"{r['op']:6}{r['size']:6} B{r['siw'] or '-':>10}{r['rurdma'] or '-':>10}{r['tcp']:>10}"
            f"{r['ratio_siw'] or '-':>12}{r['ratio_tcp'] or '-':>12}"
        )
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
