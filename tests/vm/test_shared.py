# SPDX-License-Identifier: GPL-2.0
"""Parent and thread domains, and what is imported, over either transport; vtshared.c has what the tests do."""

import pytest
from vm_fixtures import BOTH

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


@BOTH
def test_shared_import_traffic(vt):
    """It connects a QP of the PD, either way round, and SENDs, WRITEs and READs by the MR that it imported."""
    vt("shared_import_traffic")


@BOTH
def test_shared_import_killed_traffic(vt):
    """It is killed while a peer writes to the MR: the connection ends, the MR is its owner's."""
    vt("shared_import_killed_traffic")
