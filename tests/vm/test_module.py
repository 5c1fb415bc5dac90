# SPDX-License-Identifier: GPL-2.0
"""The module as a file: what it says of itself, that it comes and goes."""

import os
import pathlib
import re

import pytest
from rvm import module_loaded, run


def modinfo(field):
    return run(f"modinfo -F {field} rurdma").out.split("\n")


def test_modinfo():
    assert "GPL" in modinfo("license")
    assert modinfo("description")[0]
    assert modinfo("author")[0]
    assert modinfo("vermagic")[0].split()[0] == os.uname().release


@pytest.mark.parametrize("kind", ["rurdma", "rurdma_roce"])
def test_alias(kind):
    """`rdma link add … type KIND` loads the module by this."""
    assert f"rdma-link-{kind}" in modinfo("alias")
    assert run(f"modprobe -R rdma-link-{kind}").out.strip() == "rurdma"


def test_parameters_are_documented():
    """Each is in both documents, and none that is not there."""
    names = {line.partition(":")[0] for line in modinfo("parm") if line}
    assert names
    top = pathlib.Path(__file__).resolve().parents[2]
    readme = (top / "README.md").read_text().partition("### Parameters of the module")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", readme, re.M)) == names
    rst = (top / "Documentation/infiniband/rurdma.rst").read_text()
    rst = rst.partition("\nModule parameters\n")[2].partition("\nCounters\n")[0]
    assert set(re.findall(r"^``(\w+)`` \(default", rst, re.M)) == names


def test_no_panic_but_of_arithmetic():
    """What a slice, an unwrap() or an assert could end in is not compiled in.

    Sums that the compiler cannot bound are checked where the kernel is configured so
    (CONFIG_RUST_OVERFLOW_CHECKS); the host tests and the fuzz targets run with these checks.
    """
    if "+deb" not in os.uname().release:
        pytest.skip("this kernel has KUnit's tests or debug assertions, which panic")
    left = [x for x in run(f"nm -u {modinfo('filename')[0]}").out.split() if "panicking" in x]
    assert not [x for x in left if not x.endswith("_overflow")], left


def test_loads_and_unloads(kernel_log):
    if module_loaded():
        run("modprobe -r rurdma")
    for _ in range(3):
        run("modprobe rurdma")
        assert module_loaded()
        run("modprobe -r rurdma")
        assert not module_loaded()
    assert not [x for x in kernel_log.poll() if "rurdma" in x and "error" in x.lower()]
