# SPDX-License-Identifier: GPL-2.0
"""Every test that the conformance table names exists."""

import re

from conftest import TOP, tracked

TABLE = TOP / "Documentation/infiniband/conformance.rst"
# ``tests/vm/test_x.py::test_y``, ``tests/vm/test_x.py``, ``proto::mpa::tests::name``
PY = re.compile(r"``(tests/[\w/]+\.py)(?:::(?:(\w+)::)?(\w+))?``")
RUST = re.compile(r"``((?:\w+::)+tests::\w+|tests/host/[\w/]+\.rs::\w+)``")


def test_named_tests_exist():
    text = TABLE.read_text()
    rust = "\n".join((TOP / f).read_text() for f in tracked("*.rs"))
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
        fn = name.rsplit("::", 1)[1]
        if not re.search(rf"\bfn {fn}\s*\(", rust):
            missing.append(name)
    assert named, "the table names no test at all"
    assert not missing, "named but not there:\n" + "\n".join(missing)
