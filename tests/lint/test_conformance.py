# SPDX-License-Identifier: GPL-2.0
"""Every test that the conformance table names exists, where it is said to be."""

import re

from conftest import TOP

TABLE = TOP / "Documentation/infiniband/conformance.rst"
# ``tests/vm/test_x.py::test_y``, ``tests/vm/test_x.py``, ``proto::mpa::tests::name``
PY = re.compile(r"``(tests/[\w/]+\.py)(?:::(?:(\w+)::)?(\w+))?``")
RUST = re.compile(r"``((?:\w+::)+tests::\w+|tests/host/[\w/]+\.rs::\w+)``")


CRATE = TOP / "drivers/infiniband/sw/rurdma"


def rust_test(name):
    """The file that a name means, and the function."""
    path, fn = name.rsplit("::", 1)
    if path.startswith("tests/"):
        return TOP / path, fn
    module = CRATE.joinpath(*path.split("::")[:-1])
    return next((f for f in (module.with_suffix(".rs"), module / "mod.rs") if f.exists()), module), fn


def is_test(file, fn):
    """Whether the file has that function, as a test: of the host crate's, or of KUnit's beside the code."""
    return file.is_file() and re.search(rf"#\[test\]\n(?:\s*#\[.*\]\n)*\s*fn {fn}\(", file.read_text())


def test_named_tests_exist():
    text = TABLE.read_text()
    missing = []
    named = 0
    for file, cls, test in PY.findall(text):
        named += 1
        p = TOP / file
        if not p.exists():
            missing.append(file)
        elif test and not re.search(rf"^\s*def {test}\b", p.read_text(), re.M):
            missing.append(f"{file}::{test}")
        elif cls and not re.search(rf"^class {cls}\b", p.read_text(), re.M):
            missing.append(f"{file}::{cls}")
    for name in RUST.findall(text):
        named += 1
        if not is_test(*rust_test(name)):
            missing.append(name)
    assert named, "the table names no test at all"
    assert not missing, "named but not there:\n" + "\n".join(missing)


def test_name_in_another_file_does_not_count():
    """What the check above would find: a test that is there, under the name of a file that has others."""
    here, there = "proto::serial::tests::msn_wraps", "proto::wire::crc::tests::msn_wraps"
    assert is_test(*rust_test(here))
    assert not is_test(*rust_test(there))
    assert not is_test(*rust_test("tests/host/tests/wqe.rs::golden_headers"))


CODE = re.compile(r"``((?:[\w-]+/)+[\w.-]+\.(?:rs|c))``")


def test_named_code_exists():
    """The files of the column "Where", relative to the driver's directory."""
    missing = [f for f in CODE.findall(TABLE.read_text()) if not any((d / f).is_file() for d in (CRATE, TOP))]
    assert not missing, "\n".join(missing)
