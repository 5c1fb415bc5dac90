# SPDX-License-Identifier: GPL-2.0
"""Parent and thread domains, and what is imported, over either transport; vtshared.c has what the tests do."""

import pytest

VT = "vtshared"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_parent_domain(vt):
    """Objects of a parent domain are those of its PD; with a thread domain they have no locks; EBUSY while it lives."""
    vt("parent_domain")


def test_shared_import(vt):
    """A process that is handed the file descriptor works with the context, its PD and its MR, beside its owner."""
    vt("shared_import")


def test_shared_import_killed(vt):
    """It is killed: what it had made is the context's, and goes with that."""
    vt("shared_import_killed")
