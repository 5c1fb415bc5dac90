# SPDX-License-Identifier: GPL-2.0
"""What connections, QPs and memory regions cost, by programs of our own: bconn.c and bmr.c."""

import re

from records import Reading
from rvm import Failed

# What is exchanged at least for a connection.
HANDSHAKE = 40


def figure(text, unit):
    found = re.search(rf"^(-?[\d.]+) {re.escape(unit)}$", text, re.M)
    if not found:
        raise Failed(f"no {unit} in\n{text}")
    return float(found[1])


def connections(rig, driver, case):
    a, b = rig.pairs[driver].a, rig.pairs[driver].b
    args = f"-p {rig.port()} -n {case.qps}"
    with rig.crossing(b) as crossed, b.start(rig.server(f"bconn {args} -b {b.ip}")) as server:
        server.wait_for("listening", 20)
        out = a.run(rig.client(f"bconn {args} {b.ip}"), timeout=120).out
        server.wait(60)
        crossed.payload = HANDSHAKE * case.qps
    return [
        Reading("connect", 0, 1, "1/s", figure(out, "connections/s")),
        Reading("qp_memory", 0, case.qps, "KiB", figure(out, "KiB/QP")),
    ]


def registration(rig, driver, case):
    a = rig.pairs[driver].a
    out = a.run(rig.client(f"bmr {a.dev} {case.size}"), timeout=60).out
    size, reg, dereg = out.split()
    if int(size) != case.size:
        raise Failed(out)
    return [
        Reading("mr_reg", case.size, 1, "us", float(reg)),
        Reading("mr_dereg", case.size, 1, "us", float(dereg)),
    ]
