# SPDX-License-Identifier: GPL-2.0
"""Protection domains and memory regions, over either transport; vtmr.c has what they do."""

import pytest
from rvm import huge_pages

VT = "vtmr"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_pd_in_use(vt):
    """A PD with a region in it cannot be given back: EBUSY."""
    vt("pd_in_use")


def test_mr_access_flags(vt):
    """Every combination of rights and hints; remote write or atomic without local write is EINVAL."""
    vt("mr_access_flags")


def test_mr_bad_memory(vt):
    """Memory that is not there (all of it, a hole in it) is EFAULT."""
    vt("mr_bad_memory")


def test_mr_read_only_memory(vt):
    """What a process cannot write it cannot have written: EFAULT; reading is granted."""
    vt("mr_read_only_memory")


def test_mr_keys_unguessable(vt):
    """Keys say nothing about other keys, those before and those after."""
    vt("mr_keys_unguessable")


def test_mr_bounds(vt):
    """A region at odd addresses: nothing beside it is touched."""
    vt("mr_bounds")


def test_mr_iova(vt):
    """A region whose peers use other addresses than its process."""
    vt("mr_iova")


def test_mr_relaxed_ordering(vt):
    """IBV_ACCESS_RELAXED_ORDERING is accepted."""
    vt("mr_relaxed_ordering")


def test_mr_rereg(vt):
    """Rights and PD of a region change, and count at once."""
    vt("mr_rereg")


def test_memlock_mr(vt):
    """Pinned pages are counted against RLIMIT_MEMLOCK, and given back at once."""
    vt("memlock_mr")


def test_memlock_rings(vt):
    """So is the memory of queues."""
    vt("memlock_rings")


def test_mr_huge_pages(vt):
    """Regions of huge pages: private ones, shared ones, shared memory (shmget(2))."""
    with huge_pages(4):
        vt("mr_huge_pages")
