# SPDX-License-Identifier: GPL-2.0
"""Errors at both ends, flush, and ends in the middle of work, over either transport; vterrors.c has what they do.

Over iWARP the end of one QP is that of the other. Over RoCE a responder's refusal is in a NAK, the status of the
requester's completion says which, and what fails before it is sent is no business of the peer.
"""

import pytest
from vm_fixtures import BOTH

VT = "vterrors"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_write_wrong_key(vt):
    """Remote access error at both ends; no byte is written."""
    vt("write_wrong_key")


def test_read_wrong_key(vt):
    """Remote access error at both ends; no byte is read."""
    vt("read_wrong_key")


def test_write_out_of_bounds(vt):
    """Before, behind, across an end, around the end of the address space."""
    vt("write_out_of_bounds")


def test_read_out_of_bounds(vt):
    """The same."""
    vt("read_out_of_bounds")


def test_write_without_right(vt):
    """A region without remote write."""
    vt("write_without_right")


def test_read_without_right(vt):
    """A region without remote read."""
    vt("read_without_right")


def test_write_other_pd(vt):
    """A region of another PD than the QP's."""
    vt("write_other_pd")


def test_read_other_pd(vt):
    """The same."""
    vt("read_other_pd")


def test_write_dead_key(vt):
    """A region that was deregistered."""
    vt("write_dead_key")


def test_read_dead_key(vt):
    """The same."""
    vt("read_dead_key")


def test_send_inv_refused(vt):
    """SEND with invalidate of what may not be invalidated ends the connection; RoCE: remote access error."""
    vt("send_inv_refused")


@BOTH
def test_no_receive_posted(vt):
    """A SEND that finds no receive ends the connection; RoCE: RNR retries exceeded, or it waits for one."""
    vt("no_receive_posted")


def test_receive_too_small(vt):
    """Local length error, flush of the others, nothing behind the receive is touched; RoCE: invalid request."""
    vt("receive_too_small")


def test_send_local_protection(vt):
    """Wrong key, bounds or PD of an SGE, also of an unsignalled request; RoCE's peer does not hear of it."""
    vt("send_local_protection")


def test_list_fails_in_turn(vt):
    """What stands before a request that fails is done, what stands behind it is flushed."""
    vt("list_fails_in_turn")


def test_recv_local_protection(vt):
    """Wrong key, bounds or right of a receive; RoCE: remote operation error."""
    vt("recv_local_protection")


def test_read_sink_protection(vt):
    """A READ into memory without local write; RoCE's peer does not hear of it."""
    vt("read_sink_protection")


def test_flush_on_error(vt):
    """ERR under load: each request completes exactly once, in order."""
    vt("flush_on_error")


def test_flush_on_peer_disconnect(vt):
    """The same when the peer ends the connection, and we, over RoCE, when we hear of it."""
    vt("flush_on_peer_disconnect")


def test_flush_on_own_disconnect(vt):
    """The same when we end it."""
    vt("flush_on_own_disconnect")


def test_destroy_busy(vt):
    """Regions and QPs are destroyed under traffic."""
    vt("destroy_busy")


def test_exit_under_traffic(vt):
    """A process ends with everything open and busy."""
    for _ in range(3):
        vt("exit_busy")
