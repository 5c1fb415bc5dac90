# SPDX-License-Identifier: GPL-2.0
"""The user/kernel contract does not change by accident."""

import difflib

import pytest
from abi import SNAPSHOT, describe
from conftest import sh


def test_snapshot():
    old, new = SNAPSHOT.read_text().splitlines(), describe().splitlines()
    diff = "\n".join(difflib.unified_diff(old, new, "accepted", "present", lineterm="", n=1))
    assert not diff, (
        "rurdma-abi.h no longer says what was accepted. If old providers and new modules still meet "
        "(or nothing is released yet): make abi-snapshot\n" + diff
    )


@pytest.mark.parametrize("std", ["c99", "gnu11", "c++17"])
def test_header_stands_alone(std, tmp_path):
    """User space of any dialect can include it, without warnings or hidden padding."""
    cpp = std.startswith("c++")
    src = tmp_path / ("x.cc" if cpp else "x.c")
    src.write_text("#include <rdma/rurdma-abi.h>\nint main(void) { return 0; }\n")
    sh(
        *("g++" if cpp else "gcc", f"-std={std}", "-Wall", "-Wextra", "-Wpadded", "-Werror", "-I", "include/uapi"),
        *("-c", str(src), "-o", str(tmp_path / "x.o")),
    )


def test_same_layout_for_32_bit(tmp_path):
    """No struct may differ between 32-bit and 64-bit processes."""
    a, b = describe("-m64"), describe("-m32")
    assert a == b, "\n".join(difflib.unified_diff(a.splitlines(), b.splitlines(), "64", "32", lineterm="", n=0))
