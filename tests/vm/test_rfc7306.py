# SPDX-License-Identifier: GPL-2.0
"""Immediate data over iWARP, and that beside atomics (RFC 7306); vtrfc7306.c has what they do.

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


def test_wr_interface(vt):
    """ibv_wr_rdma_write_imm() and the atomics of ibv_wr_*."""
    vt("wr_interface")


def test_both_ways(vt):
    """Both ends write with immediate data, add and read at the same time."""
    vt("both_ways", timeout=120)
