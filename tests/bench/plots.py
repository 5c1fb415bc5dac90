#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Pictures of what a run has measured: medians, and lines from the least to the most.

usage: plots.py DIRECTORY           reads results.json there and puts PNGs beside it

It runs outside the VM (scripts/plots has matplotlib) and needs nothing of the rest.
"""

import json
import pathlib
import sys

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "iwarp": "#0072b2",
    "roce": "#009e73",
    "siw": "#e69f00",
    "rxe": "#cc79a7",
    "tcp": "#555555",
    "udp": "#aaaaaa",
}
OPS = ("write", "send", "read")


def spread(rows):
    """Medians, and how far it is down and up to the extremes."""
    m = [r["median"] for r in rows]
    return m, [[r["median"] - r["min"] for r in rows], [r["max"] - r["median"] for r in rows]]


def lines(ax, records, tests, x, style="-", remark=""):
    """A line for each driver that has one of the tests, over the field `x`."""
    for driver, colour in COLOURS.items():
        rows = sorted((r for r in records if r["driver"] == driver and r["test"] in tests), key=lambda r: r[x])
        if rows:
            y, error = spread(rows)
            look = {"color": colour, "linestyle": style, "marker": "o", "capsize": 2}
            ax.errorbar([r[x] for r in rows], y, error, label=f"{driver}{remark}", **look)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.grid(alpha=0.3)


def bars(ax, records, wanted):
    """Groups of bars; `wanted`: (name of the group, tests that belong to it, size)."""
    for i, (driver, colour) in enumerate(COLOURS.items()):
        at, rows = [], []
        for g, (_, tests, size) in enumerate(wanted):
            for r in records:
                if r["driver"] == driver and r["test"] in tests and r["size"] == size:
                    at.append(g + (i - 2.5) * 0.14)
                    rows.append(r)
        if rows:
            y, error = spread(rows)
            ax.bar(at, y, 0.13, yerr=error, color=colour, label=driver, capsize=2)
    ax.set_xticks(range(len(wanted)), [name for name, *_ in wanted])
    ax.grid(axis="y", alpha=0.3)


def bandwidth(records):
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.2), sharey=True)
    for ax, op in zip(axes, OPS, strict=True):
        lines(ax, records, (f"{op}_bw", "stream_bw"), "size")
        lines(ax, records, (f"{op}_bw_nocrc",), "size", "--", ", CRC off")
        ax.set_title(op)
        ax.set_xlabel("bytes of a message")
    axes[0].set_ylabel("MiB/s")
    return fig, axes


def latency(records):
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    for ax, (suffix, name) in zip(axes, (("", "typical"), ("_p99", "99 %")), strict=True):
        groups = [(op, (f"{op}_lat{suffix}",), 64) for op in OPS]
        bars(ax, records, [*groups, ("sockperf", (f"pingpong_lat{suffix}",), 64)])
        ax.set_title(f"64 B, {name}")
        ax.set_yscale("log")
    axes[0].set_ylabel("µs (half a round trip; read: a whole one)")
    return fig, axes


def many_qps(records):
    fig, ax = plt.subplots(figsize=(6, 4.2))
    lines(ax, records, ("write_qps",), "qps")
    ax.set_xlabel("QPs")
    ax.set_ylabel("writes of 4 KiB per second, all QPs together")
    return fig, [ax]


def cost(records):
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    kinds = (
        ("cpu_byte", 65536, "CPU time, ns per byte, 64 KiB send"),
        ("cpu", 64, "CPU time, µs per 64 B send"),
        ("syscalls", 64, "system calls per 64 B send"),
    )
    for ax, (test, size, title) in zip(axes, kinds, strict=True):
        groups = ((f"{how}", (f"send_{test}{suffix}", f"stream_{test}")) for how, suffix in HOW)
        bars(ax, records, [(name, tests, size) for name, tests in groups])
        ax.set_title(title)
    return fig, axes


HOW = (("polling", ""), ("events", "_ev"))
# What a picture is of: it is drawn if there is any of it.
PICTURES = {
    "bandwidth": (bandwidth, "_bw"),
    "latency": (latency, "_lat"),
    "qps": (many_qps, "_qps"),
    "cost": (cost, "send_cpu"),
}


def main():
    where = pathlib.Path(sys.argv[1])
    records = json.loads((where / "results.json").read_text())
    for mtu in sorted({r["mtu"] for r in records}):
        of_mtu = [r for r in records if r["mtu"] == mtu]
        for name, (draw, test) in PICTURES.items():
            if not any(r["test"].endswith(test) for r in of_mtu):
                continue
            fig, axes = draw(of_mtu)
            handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
            fig.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(COLOURS) + 1, frameon=False)
            fig.suptitle(f"MTU {mtu}")
            fig.tight_layout(rect=(0, 0.06, 1, 1))
            fig.savefig(where / f"{name}-{mtu}.png", dpi=100)
            plt.close(fig)
            print(f"{name}-{mtu}.png")


if __name__ == "__main__":
    main()
