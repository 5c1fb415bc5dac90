#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Describes rurdma-abi.h: the layout of each struct, the value of each name.

Run as a program it rewrites the accepted snapshot.
"""

import pathlib
import re
import subprocess
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
HEADER = "include/uapi/rdma/rurdma-abi.h"
SNAPSHOT = TOP / "tests/lint/rurdma-abi.snapshot"


def _run(*args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True, cwd=TOP, **kw).stdout


def describe(arch="-m64"):
    """Text form of the contract; compiles only, so that -m32 needs no libraries."""
    # clang alone has all targets built in.
    target = "--target=i386-linux-gnu" if arch == "-m32" else "--target=x86_64-linux-gnu"
    cc = ["clang", target, "-I", "include/uapi", "-I/usr/include/x86_64-linux-gnu", "-w"]
    text = (TOP / HEADER).read_text()
    macros = re.findall(r"^#define\s+(\w+)\s+\S", text, re.M)
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    enums = [
        name
        for body in re.findall(r"\benum\s+\w*\s*\{(.*?)\}", code, re.S)
        for name in re.findall(r"^\s*(\w+)\s*(?:=|,|$)", body, re.M)
    ]
    structs = re.findall(r"^(struct|union)\s+(\w+)\s*\{", code, re.M)
    with tempfile.TemporaryDirectory() as tmp:
        src = pathlib.Path(tmp, "x.c")
        src.write_text(
            f"#include <rdma/{pathlib.Path(HEADER).name}>\n"
            + "".join(f"{kind} {name} use_{name};\n" for kind, name in structs)
        )
        layouts = _run(*cc, "-Xclang", "-fdump-record-layouts-complete", "-fsyntax-only", str(src))
        values = []
        for name in sorted({*macros, *enums}):
            src.write_text(
                f"#include <rdma/{pathlib.Path(HEADER).name}>\nunsigned long long v = (unsigned long long)({name});\n"
            )
            p = subprocess.run([*cc, "-S", "-o", "-", str(src)], cwd=TOP, text=True, capture_output=True, check=False)
            m = re.search(r"^v:\n((?:\s+\.(?:long|quad)\s+\S+.*\n)+)", p.stdout, re.M)
            if not m:
                z = re.search(r"^v:\n\s+\.zero\s+8|^\s+\.comm\s+v,|\bv,8", p.stdout, re.M)
                if p.returncode == 0 and z:
                    values.append(f"{name} = 0x0")
                continue
            num = 0
            for k, (size, n) in enumerate(re.findall(r"\.(long|quad)\s+(-?\w+)", m.group(1))):
                num |= (int(n, 0) & (2**64 - 1 if size == "quad" else 2**32 - 1)) << (32 * k)
            values.append(f"{name} = {num:#x}")
    lines = []
    for block in re.split(r"\*\*\* Dumping AST Record Layout\n", layouts):
        first = block.strip().splitlines()[:1]
        m = first and re.match(r"\s*0 \| (?:struct|union) (rurdma_\w+)", first[0])
        if not m:
            continue
        for line in map(str.rstrip, block.rstrip().splitlines()):
            if line and not line.lstrip().startswith("|  nv"):
                lines.append(
                    re.sub(r"\(unnamed at [^)]*\)", "(unnamed)", re.sub(r"\(anonymous at [^)]*\)", "(anonymous)", line))
                )
        lines.append("")
    return "\n".join([*lines, *values]) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(describe())
