# SPDX-License-Identifier: GPL-2.0
"""Atomics over iWARP (RFC 7306); vtatomic.c has what they do.

Those of RoCEv2 are in test_roce_ops.py; what a peer may do wrong is for tests/interop/test_rfc7306_peer.py.
"""

VT = "vtatomic"


def test_atomic_is_advertised(vt):
    """IBV_ATOMIC_GLOB."""
    vt("atomic_is_advertised")


def test_fetch_add(vt):
    """Values around the ends of 64 bits; nothing beside the word is touched at either end."""
    vt("fetch_add")


def test_cmp_swap(vt):
    """All 64 bits are compared, all are swapped."""
    vt("cmp_swap")


def test_atomic_sink_at_odd_address(vt):
    """The result at any address, across a page."""
    vt("atomic_sink_at_odd_address")


def test_more_atomics_than_depth(vt):
    """300 at once, with depths from 1 to 100: done one after the other."""
    vt("more_atomics_than_depth", timeout=120)


def test_atomics_between_reads(vt):
    """READs and atomics of one word, in flight together: each finds what those before it left."""
    vt("atomics_between_reads")


def test_atomic_fence(vt):
    """A fenced SEND waits for the atomic before it."""
    vt("atomic_fence")


def test_atomics_of_many(vt):
    """Four connections and a CPU add to one word."""
    vt("atomics_of_many", timeout=120)


def test_cmp_swap_as_lock(vt):
    """Two connections, one lock."""
    vt("cmp_swap_as_lock")


def test_atomic_without_right(vt):
    """A region without remote atomics: remote access error, nothing is touched."""
    vt("atomic_without_right")


def test_right_to_atomics_only(vt):
    """A region with nothing but remote atomics can be neither read nor written."""
    vt("right_to_atomics_only")


def test_atomic_wrong_key(vt):
    """Remote access error."""
    vt("atomic_wrong_key")


def test_atomic_dead_key(vt):
    """Of a region that was deregistered."""
    vt("atomic_dead_key")


def test_atomic_other_pd(vt):
    """Of a region of another PD than the QP's."""
    vt("atomic_other_pd")


def test_atomic_out_of_bounds(vt):
    """Before, behind, at the end of the address space."""
    vt("atomic_out_of_bounds")


def test_atomic_unaligned(vt):
    """Remote operation error, and nothing is touched."""
    vt("atomic_unaligned")


def test_atomics_before_a_refused_one(vt):
    """They are done, and told."""
    vt("atomics_before_a_refused_one")


def test_atomic_bad_sink(vt):
    """Local memory that may not be written, or is no 8 bytes: the peer is asked for nothing."""
    vt("atomic_bad_sink")


def test_atomic_bad_request(vt):
    """EINVAL for two SGEs, none, and inline; the QP lives on."""
    vt("atomic_bad_request")
