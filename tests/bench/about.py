# SPDX-License-Identifier: GPL-2.0
"""What the figures of a run hold for: date, kernel, machine, commands, knobs. run.json has it, beside results.json."""

import json
import os
import pathlib
import re
import subprocess
import time

POLL_US = pathlib.Path("/sys/module/rurdma/parameters/poll_us")
PACKAGES = ("rdma-core", "perftest", "iperf3", "sockperf")


def machine(cpuinfo, kernel):
    """By the text of /proc/cpuinfo and the kernel's release."""
    found = re.search(r"^model name\s*: *(.*)", cpuinfo, re.M)
    name = found[1] if found else "a CPU without a name"
    if kernel.endswith("-uml"):
        return f"User Mode Linux ({name})"
    return f"VM, emulated ({name})" if "TCG" in name else name


def is_uml(info):
    return info["kernel"].endswith("-uml")


def packages():
    asked = ["dpkg-query", "-W", "-f", "${Package} ${Version}, ", *PACKAGES]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.rstrip(" ,")


def gather(o, pin):
    """`o`: the options of run.py."""
    kernel = pathlib.Path("/proc/sys/kernel/osrelease").read_text().strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": kernel,
        "machine": machine(pathlib.Path("/proc/cpuinfo").read_text(), kernel),
        "cpus": os.cpu_count(),
        "programs": packages(),
        "revision": o.revision,
        "command": o.command,
        "quick": o.quick,
        "only": o.k,
        "rounds": o.rounds,
        # As it is, not as it was asked for.
        "poll_us": int(POLL_US.read_text()),
        "pin": pin,
        # What each of the two iWARP drivers has been seen to ask for: True, False, or None where nobody looked.
        "asks_for_crc": {"siw": None, "iwarp": None},
        "aborted": "",
        # Runs that failed, and why.
        "failures": {},
    }


def _siw_crc(info):
    asks = info["asks_for_crc"]["siw"]
    if asks is None:
        return "MPA CRC off as far as its source says (not seen)"
    return f"MPA CRC {'on' if asks else 'off'}, as its requests say (it has no knob)"


def crc(info, driver, asked=True):
    """Of the records of a driver; `asked`: whether iWARP asks for MPA's."""
    if driver in ("roce", "rxe"):
        return "on"
    if driver == "iwarp":
        return "on" if asked else "off"
    return ("on" if info["asks_for_crc"]["siw"] else "off") if driver == "siw" else "none"


def lines(info):
    """What stands above a table."""
    if info["aborted"]:
        yield f"ABORTED, these figures are worth nothing: {info['aborted']}"
    if info["quick"]:
        yield "QUICK: few rounds of what the targets need; no result to be quoted."
    yield (
        f"{info['date']}, Linux {info['kernel']}, {info['machine']}, {info['cpus']} CPUs, {info['rounds']} rounds, "
        f"rurdma {info['revision']}"
    )
    yield f"Command: {info['command']}"
    if info["only"]:
        yield "Only a part was measured (K=)."
    yield f"Programs: {info['programs']}"
    us = info["poll_us"]
    yield f"iwarp and roce: rurdma, {f'poller on (poll_us={us})' if us else 'poller off (poll_us=0)'}."
    yield (
        "iwarp: MPA CRC on (mpa_crc=1, the default), in rows with _nocrc off (mpa_crc=0); "
        f"siw: {_siw_crc(info)}, in rows with _nocrc the same as without; "
        "roce, rxe: ICRC on (RoCEv2 has no other way); tcp, udp: no checksum in software (veth)."
    )
    pin = info["pin"]
    where = f"clients on CPU {pin[0]}, servers on CPU {pin[1]}" if pin else "wherever the scheduler puts the programs"
    yield f"CPUs: {where}."
    yield (
        "Latency is half a round trip, that of READ a whole one. CPU time is that of the whole machine; "
        "without _ev the RDMA programs poll, with _ev they sleep until an event."
    )


def write(path, info):
    path.write_text(json.dumps(info, indent=1) + "\n")


def read(path):
    return json.loads(path.read_text())
