# SPDX-License-Identifier: GPL-2.0
"""Memory windows, over either transport; vtmw.c has what the tests do, vtmwuc.c that of UC."""

import re

import pytest
from rvm import Pair, run, wait_until

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


# --- of UC, which only RoCE has: what a peer may not write is dropped; vtmwuc.c ---


@pytest.fixture(scope="module")
def roce(module):
    with Pair(kind="rurdma_roce") as p:
        yield p.settle()


@pytest.fixture
def uc(roce):
    """Runs a test, each end on a device of its own. All that is dropped is counted; afterwards nothing is left."""
    a, b = roce.a, roce.b

    def call(name):
        was = a.counter("access_errors")
        out = run(["vtmwuc", name, a.ip, a.name, a.dev, b.name, b.dev]).out
        return int(re.search(r"(\d+) dropped", out)[1]), a.counter("access_errors") - was

    yield call
    wait_until(lambda: not a.in_use() and not b.in_use(), 10, lambda: f"left over: {a.in_use()} {b.in_use()}")


@pytest.mark.parametrize("what", ["type_1", "type_2"])
def test_mw_uc(uc, what):
    """A peer writes by way of a window; beside it, before and after, nothing is written and the QP goes on."""
    dropped, counted = uc(what)
    assert dropped == counted == 10


def test_mw_uc_rights(uc):
    """To read, which UC cannot, or nothing: no right to write."""
    dropped, counted = uc("rights")
    assert dropped == counted == 4


def test_mw_uc_type_1_again(uc):
    """A new binding ends the one before, one of length 0 is none."""
    dropped, counted = uc("type_1_again")
    assert dropped == counted == 5


def test_mw_uc_type_2_invalidated(uc):
    """LOCAL_INV ends a binding; then there may be another one, and the old key is no key of it."""
    dropped, counted = uc("type_2_invalidated")
    assert dropped == counted == 4


def test_mw_uc_association(uc):
    """Type 1 is open to every QP of the PD, type 2 to the one that bound it."""
    dropped, counted = uc("association")
    assert dropped == counted == 1


def test_mw_uc_zero_based(uc):
    """Type 2: the peer's addresses may count from the window's beginning."""
    dropped, counted = uc("zero_based")
    assert dropped == counted == 2


def test_mw_uc_immediate_data(uc):
    """They are dropped with what they belong to, and the receive is for the next one."""
    dropped, counted = uc("immediate_data")
    assert dropped == counted == 4


def test_mw_uc_bind_errors(uc):
    """MW_BIND_ERR, and SQE: the peer writes by other windows all the same, and it can be bound after that."""
    dropped, counted = uc("bind_errors")
    assert dropped == counted == 2


def test_mw_uc_closing_waits(uc):
    """With writes on their way: when a window is closed, nobody writes by way of it any more."""
    uc("closing_waits")
