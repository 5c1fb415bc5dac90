# SPDX-License-Identifier: GPL-2.0
"""ibv_rereg_mr(3), over either transport; vtrereg.c has what the tests do."""

import re

import pytest

VT = "vtrereg"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_rereg_flags(vt):
    """Every combination of translation, PD and rights: what is new counts, what was before does not."""
    vt("rereg_flags")


def test_rereg_receive(vt):
    """A receive for the old memory completes with an error, and writes nothing."""
    vt("rereg_receive")


def test_rereg_more_rights(vt):
    """The right to write, to memory that was registered for reading."""
    vt("rereg_more_rights")


def test_rereg_errors(vt):
    """IBV_REREG_MR_ERR_INPUT and _CMD; the region is what it was, down to the pinned pages."""
    vt("rereg_errors")


def test_memlock_rereg(vt):
    """Old and new memory are counted while both are pinned, and no longer."""
    vt("memlock_rereg")


def test_rereg_waits(vt):
    """With writes on their way: when it returns, nobody writes to the old memory any more."""
    vt("rereg_waits")


def test_rereg_under_traffic(vt):
    """Peers whose memory and rights stay are not disturbed."""
    out = vt("rereg_under_traffic").out
    reads, changes = (int(x) for x in re.findall(r"\d+", out))
    assert reads > 100 and changes > 20, out
