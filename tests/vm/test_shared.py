# SPDX-License-Identifier: GPL-2.0
"""Parent and thread domains, and what is imported, over either transport; vtshared.c has what the tests do."""

import pytest
from rvm import Pair, wait_until

VT = "vtshared"


@pytest.fixture(scope="module", params=["rurdma", "rurdma_roce"])
def node(module, request):
    """A namespace with a link of each type in turn, and a peer."""
    with Pair(kind=request.param) as p:
        for x in (p.a, p.b):
            wait_until(lambda x=x: x.links()[x.dev]["state"] == "ACTIVE")
        yield p.a


def test_parent_domain(vt):
    """Objects of a parent domain are those of its PD; with a thread domain they have no locks; EBUSY while it lives."""
    vt("parent_domain")


def test_shared_import(vt):
    """A process that is handed the file descriptor works with the context, its PD and its MR, beside its owner."""
    vt("shared_import")


def test_shared_import_killed(vt):
    """It is killed: what it had made is the context's, and goes with that."""
    vt("shared_import_killed")
