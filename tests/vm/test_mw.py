# SPDX-License-Identifier: GPL-2.0
"""Memory windows, over either transport; vtmw.c has what the tests do."""

import pytest
from rvm import wait_until

VT = "vtmw"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_mw_alloc(vt):
    """Types 1 and 2B; keys of their own; a PD with windows is EBUSY."""
    vt("mw_alloc")


def test_mw_type_1(vt):
    """A peer reads and writes by way of a window, and nothing beside it, nor by the region's key."""
    vt("mw_type_1")


def test_mw_type_2(vt):
    """The same for one that a work request binds."""
    vt("mw_type_2")


def test_mw_not_bound(vt):
    """A window that is not bound is no key."""
    vt("mw_not_bound")


def test_mw_type_1_again(vt):
    """A new binding of type 1 ends the one before."""
    vt("mw_type_1_again")


def test_mw_type_1_unbind(vt):
    """A binding of length 0 ends the one before, and is none."""
    vt("mw_type_1_unbind")


def test_mw_rights(vt):
    """To read, to write, neither: as the binding says."""
    vt("mw_rights")


def test_mw_association(vt):
    """Type 1 is open to every QP of the PD, type 2 to the one that bound it."""
    vt("mw_association")


def test_mw_after_the_qp(vt):
    """The QP of a window is destroyed: its region is busy until another QP of the PD takes it back."""
    vt("mw_after_the_qp")


def test_mw_invalidate_local(vt):
    """LOCAL_INV ends a binding; then there may be another one."""
    vt("mw_invalidate_local")


def test_mw_invalidate_refused(vt):
    """LOCAL_INV of type 1, of an old key, of what is not bound, of a region: MW_BIND_ERR."""
    vt("mw_invalidate_refused")


def test_mw_invalidate_remote(vt):
    """The peer's SEND with invalidate; the receive says which key it was."""
    vt("mw_invalidate_remote")


def test_mw_invalidate_remote_refused(vt):
    """Of type 1, of what is not bound, of another QP's or PD's: the connection ends, the window does not."""
    vt("mw_invalidate_remote_refused")


def test_mw_dealloc(vt):
    """A window that is deallocated is not bound any more."""
    vt("mw_dealloc")


def test_mw_busy(vt):
    """A region with a window is neither deregistered nor changed: EBUSY."""
    vt("mw_busy")


def test_mw_zero_based(vt):
    """Type 2: the peer's addresses may count from the window's beginning."""
    vt("mw_zero_based")


def test_mw_bind_errors(vt):
    """Rights, bounds, keys, states that allow no binding: MW_BIND_ERR, and nothing is bound."""
    vt("mw_bind_errors")


def test_mw_post_errors(vt):
    """EINVAL for the wrong call, EPERM for another PD."""
    vt("mw_post_errors")


def test_mw_exit(vt):
    """A process ends with windows bound: nothing of it is left."""
    vt("mw_exit")


def test_mw_killed(node):
    """The same by SIGKILL, and with the link deleted under it."""
    before = node.in_use()
    for how in ("kill", "link"):
        with node.start([VT, "mw_exit", node.ip, "stay"]) as p:
            p.wait_for("bound")
            if how == "link":
                kind = "rurdma_roce" if "InfiniBand" in node.run(f"ibv_devinfo -d {node.dev}").out else "rurdma"
                node.link_del(node.dev)
                node.link_add(node.dev, node.netdev, kind)
            p.kill()
            p.wait(check=False)
        wait_until(lambda: node.in_use() == before, 10, lambda: f"left over: {node.in_use()}, before: {before}")
    wait_until(lambda: node.links()[node.dev]["state"] == "ACTIVE")


def test_mw_closing_waits(vt):
    """With writes on their way: when a window is closed, nobody writes by way of it any more."""
    vt("mw_closing_waits")


def test_mw_cq_lost(vt):
    """The CQ overflows by bindings: CQ_ERR, QP_FATAL, and ERROR."""
    vt("mw_cq_lost")
