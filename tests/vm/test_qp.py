# SPDX-License-Identifier: GPL-2.0
"""Queue pairs and their states; vtqp.c has what they do.

Over either transport, but for what iWARP says of SQD, which closes the connection there (test_roce_ops.py has that of
RoCE), and of QPs that the kernel connects.
"""

import pytest
from vm_fixtures import IWARP

VT = "vtqp"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_qp_limits(vt):
    """32 SGEs, 512 bytes inline, max_qp_wr; more is EINVAL."""
    vt("qp_limits")


@IWARP
def test_qp_type_refused(vt):
    """iWARP has RC only."""
    vt("qp_type_refused")


def test_qp_numbers_unguessable(vt):
    """QP numbers say nothing about other QPs."""
    vt("qp_numbers_unguessable")


def test_qp_query(vt):
    """What was granted, the state, the rights."""
    vt("qp_query")


def test_qp_states_unconnected(vt):
    """iWARP: INIT, RTR, ERR, RESET without a connection; RoCE: RESET, INIT, ERR. Everything else is EINVAL."""
    vt("qp_states_unconnected")


def test_qp_states_connected(vt):
    """From RTS: RTS, ERR, RESET; not INIT, not RTR, and never back from ERR. The peer's follows, but not of RoCE."""
    vt("qp_states_connected")


def test_qp_wrong_current_state(vt):
    """IBV_QP_CUR_STATE that is not so is EINVAL."""
    vt("qp_wrong_current_state")


@IWARP
def test_qp_sqd_drains(vt):
    """SQD: what was posted is done, then the connection ends in order. No event that nobody asked for."""
    vt("qp_sqd_drains")


@IWARP
def test_qp_sqd_event(vt):
    """IBV_QP_EN_SQD_ASYNC_NOTIFY: IBV_EVENT_SQ_DRAINED."""
    vt("qp_sqd_event")


@IWARP
def test_qp_sqd_stays(vt):
    """SQD with a READ that is not answered: SQD again, but not RTS, INIT or RTR; the connection stays."""
    vt("qp_sqd_stays")


@IWARP
def test_qp_sqd_error(vt):
    """From there to ERR: what is outstanding is flushed, what was posted is delivered."""
    vt("qp_sqd_error")


@IWARP
def test_qp_sqd_reset(vt):
    """From there to RESET: nothing completes, and the QP can be connected again."""
    vt("qp_sqd_reset")


def test_qp_reset_forgets(vt):
    """RESET: nothing of before completes, the QP is as new."""
    vt("qp_reset_forgets")


def test_qp_reset_connected(vt):
    """After RESET the end of the connection (by the peer, of RoCE) does not flush what is posted then."""
    vt("qp_reset_connected")


@IWARP
def test_qp_rtr(vt):
    """RTR: to RESET, which is INIT, and what was posted is forgotten; or to RTS, by a connection."""
    vt("qp_rtr")


@IWARP
def test_qp_connected_again(vt):
    """After ERR only RESET lets a QP be connected again."""
    vt("qp_connected_again")
