# SPDX-License-Identifier: GPL-2.0
"""A user in the kernel, who posts everything that one may post over either transport (kuser/).

What users that the kernel brings post is in tests/consumers/test_kernel_nvme.py.
"""

import pathlib
import re

import pytest
from rvm import Kmsg, Pair, run


def names_in(name):
    return re.findall(r'\{ "(\w+)", \w+ \}', (pathlib.Path(__file__).with_name("kuser") / name).read_text())


# What both have, then what one has by itself: in this order.
POSTED = {kind: names_in("kuser.c") + names_in(own) for kind, own in (("rurdma", "iwarp.h"), ("rurdma_roce", "roce.h"))}


@pytest.fixture(scope="module", params=POSTED)
def said(module, request):
    """Which transport, and what it says."""
    kmsg = Kmsg()
    with Pair(kind=request.param) as p:
        run(f"modprobe kuser device={p.settle().a.dev}")
        run("modprobe -r kuser")
        assert not p.a.in_use()
    log = [x.split("kuser: ", 1)[1] for x in kmsg.poll() if "kuser: " in x]
    kmsg.close()
    return request.param, log


@pytest.mark.parametrize(("said", "what"), [(k, w) for k in POSTED for w in POSTED[k]], indirect=["said"])
def test_posted_by_a_kernel_user(said, what):
    """Verified at the other end, with what its completions are to say."""
    assert f"ok {what}" in said[1], said


def test_all_of_it(said):
    kind, log = said
    assert log == [f"ok {x}" for x in POSTED[kind]]
    assert len(POSTED[kind]) == {"rurdma": 13, "rurdma_roce": 17}[kind]
