# SPDX-License-Identifier: GPL-2.0
"""Shared by the lint tests, which run inside the root file system."""

import os
import pathlib
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
# The benchmark's modules, which are tried here as well, and what they take of the VM's tests.
sys.path += [str(TOP / "tests/bench"), str(TOP / "tests/vm")]


@pytest.fixture(scope="session")
def top():
    return TOP


@pytest.fixture(scope="session")
def ksrc():
    return pathlib.Path(os.environ["KSRC"])


@pytest.fixture(scope="session")
def kbuild():
    return pathlib.Path(os.environ["KBUILD"])


def sh(*args, **kw):
    """Runs a command; its output is the assertion message if it fails."""
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TOP, check=False, **kw)
    if p.returncode:
        pytest.fail(f"{' '.join(map(str, args[:4]))} …\n{p.stdout[-8000:]}", pytrace=False)
    return p.stdout


def tracked(*patterns):
    """Files of the checkout (committed or new, not ignored) that match."""
    out = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "--", *patterns],
        stdout=subprocess.PIPE,
        text=True,
        cwd=TOP,
        check=True,
    ).stdout
    return sorted(f for f in out.splitlines() if (TOP / f).is_file())
