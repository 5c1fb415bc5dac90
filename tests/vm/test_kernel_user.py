# SPDX-License-Identifier: GPL-2.0
"""A user in the kernel, who posts everything that one may post over RoCE (kuser/kuser.c).

What users that the kernel brings post is in tests/consumers/test_kernel_nvme.py.
"""

import pathlib
import re

import pytest
from rvm import Kmsg, Pair, run

SOURCE = pathlib.Path(__file__).with_name("kuser") / "kuser.c"
POSTED = re.findall(r'\{ "(\w+)", \w+ \}', SOURCE.read_text())


@pytest.fixture(scope="module")
def log(module):
    """What it says."""
    kmsg = Kmsg()
    with Pair(kind="rurdma_roce") as p:
        run(f"modprobe kuser device={p.settle().a.dev}")
        run("modprobe -r kuser")
        assert not p.a.in_use()
    said = [x.split("kuser: ", 1)[1] for x in kmsg.poll() if "kuser: " in x]
    kmsg.close()
    return said


@pytest.mark.parametrize("what", POSTED)
def test_posted_by_a_kernel_user(log, what):
    """Verified at the other end, with what its completions are to say."""
    assert f"ok {what}" in log, log


def test_all_of_it(log):
    assert log == [f"ok {x}" for x in POSTED]
    assert len(POSTED) == 16
