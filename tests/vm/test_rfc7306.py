# SPDX-License-Identifier: GPL-2.0
"""Immediate data and atomics over iWARP (RFC 7306); vtrfc7306.c has what they do.

What the wire looks like, and what a peer may do wrong, is for
tests/interop/test_rfc7306_peer.py.
"""

VT = "vtrfc7306"


def test_write_imm(vt):
    """0 bytes to 1 MiB: a receive is taken, told the length and the data, and its buffer left alone."""
    vt("write_imm")


def test_write_imm_inline(vt):
    """Of data that is not registered and changes at once."""
    vt("write_imm_inline")


def test_write_imm_in_order(vt):
    """Among SENDs and plain WRITEs: receives are taken in order, each length is that of its own WRITE."""
    vt("write_imm_in_order")


def test_write_imm_comes_last(vt):
    """All that was written is there when it is told."""
    vt("write_imm_comes_last", timeout=120)


def test_write_imm_srq(vt):
    """From a shared receive queue."""
    vt("write_imm_srq")


def test_write_imm_solicited(vt):
    """An event only for immediate data with the solicited bit."""
    vt("write_imm_solicited")


def test_write_imm_no_receive(vt):
    """Without a receive the connection ends."""
    vt("write_imm_no_receive")


def test_write_imm_refused(vt):
    """A WRITE that is refused: its immediate data is not told."""
    vt("write_imm_refused")


def test_send_imm_refused(vt):
    """Immediate data of a SEND does not exist on iWARP: EOPNOTSUPP, and the QP lives on."""
    vt("send_imm_refused")


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


def test_wr_interface(vt):
    """ibv_wr_rdma_write_imm() and the atomics of ibv_wr_*."""
    vt("wr_interface")


def test_both_ways(vt):
    """Both ends write with immediate data, add and read at the same time."""
    vt("both_ways", timeout=120)
