# SPDX-License-Identifier: GPL-2.0
"""Shared receive queues, over either transport; vtsrq.c has what they do, vtsrqu.c that of UC and UD."""

import re

import pytest
from rvm import Pair, run, wait_until
from vm_fixtures import BOTH

VT = "vtsrq"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_srq_of_two_qps(vt):
    """Two QPs take from one SRQ; EBUSY while they do."""
    vt("srq_of_two_qps")


def test_srq_limits(vt):
    """max_srq_wr and max_srq_sge; more, and nothing, is EINVAL."""
    vt("srq_limits")


def test_srq_query_modify(vt):
    """The limit is set and told; one beyond the queue is EINVAL."""
    vt("srq_query_modify")


def test_srq_limit_event(vt):
    """One event when fewer are left than the limit."""
    vt("srq_limit_event")


def test_srq_full(vt):
    """ENOMEM."""
    vt("srq_full")


def test_srq_resize_grow(vt):
    """More requests fit afterwards; memory follows, up and down."""
    vt("srq_resize_grow")


def test_srq_resize_shrink(vt):
    """Fewer fit."""
    vt("srq_resize_shrink")


def test_srq_resize_outstanding(vt):
    """What is outstanding keeps its order, ids and memory through any resize."""
    vt("srq_resize_outstanding")


def test_srq_resize_errors(vt):
    """EINVAL: more outstanding, a limit above it, 0, above max_srq_wr. Nothing changes then."""
    vt("srq_resize_errors")


def test_srq_resize_bad_request(vt):
    """Requests that no provider of ours writes: an error, and nothing changes or stays behind."""
    vt("srq_resize_bad_request")


@pytest.mark.soak
def test_srq_resize_under_traffic(node, rounds):
    """Resizes without a pause while the other namespace sends: nothing is lost, doubled or swapped."""
    a, b, n = node, node.peer, "200000" if rounds > 20 else "20000"
    before = a.in_use(), b.in_use()
    with a.start([VT, "srq_resize_traffic", a.ip, n]) as server:
        port = server.wait_for(r"port (\d+)")[1]
        client = b.run([VT, "srq_resize_traffic", a.ip, n, port], timeout=600, check=False)
        assert client.rc == 0, f"{client.out}\nserver:\n{server.out}"
        resizes = int(re.search(r"(\d+) resizes", server.wait().out)[1])
    assert resizes > 50
    wait_until(lambda: (a.in_use(), b.in_use()) == before, 10, lambda: f"left over: {a.in_use()} {b.in_use()}")


@BOTH
def test_srq_last_wqe_event(vt):
    """A QP in error says so, and leaves the SRQ's requests to others; of RoCE not before its own end disconnects."""
    vt("srq_last_wqe_event")


def test_memlock_srq_resize(vt):
    """So is the ring of an SRQ that is resized; too much is ENOMEM, and leaves what there was."""
    vt("memlock_srq_resize")


# --- of UC and UD, which only RoCE has; vtsrqu.c ---


@pytest.fixture(scope="module")
def roce(module):
    with Pair(kind="rurdma_roce") as p:
        yield p.settle()


@pytest.fixture(params=["uc", "ud"])
def unreliable(roce, request):
    """Runs a test with QPs of one type, each end on a device of its own; afterwards nothing of it is left."""
    a, b = roce.a, roce.b

    def call(name, *args, **kw):
        return run(["vtsrqu", name, a.ip, a.name, a.dev, b.name, b.dev, request.param, *args], **kw)

    yield call
    wait_until(lambda: not a.in_use() and not b.in_use(), 10, lambda: f"left over: {a.in_use()} {b.in_use()}")


def test_unreliable_of_two_qps(unreliable):
    """Messages of two QPs take the receives in their order; EBUSY; those of a QP that goes are the other one's."""
    unreliable("of_two_qps")


def test_unreliable_of_all_types(unreliable):
    """RC, UC and UD take from one SRQ."""
    unreliable("of_all_types")


def test_unreliable_burst(unreliable):
    """Two QPs at once: each receive is used once, each QP's messages come in order."""
    unreliable("burst")


def test_unreliable_limit_event(unreliable):
    """One event when fewer are left than the limit."""
    unreliable("limit_event")


def test_unreliable_resize_outstanding(unreliable):
    """What is outstanding keeps its order, ids and memory through any resize."""
    unreliable("resize_outstanding")


@pytest.mark.soak
def test_unreliable_resize_under_traffic(unreliable, rounds):
    """Resizes without a pause while messages come: nothing is lost, doubled or swapped."""
    got = unreliable("resize_traffic", "100000" if rounds > 20 else "3000", timeout=600)
    assert int(re.search(r"(\d+) resizes", got.out)[1]) > 20


@pytest.mark.parametrize("n", [1, 9])
def test_unreliable_empty(unreliable, roce, n):
    """Without a receive each message is lost, and counted; the QPs go on."""
    was = roce.a.counter("receiver_not_ready")
    unreliable("empty", str(n))
    assert roce.a.counter("receiver_not_ready") == was + n


def test_unreliable_last_wqe_event(unreliable):
    """A QP in error says so, and leaves the SRQ's requests to others."""
    unreliable("last_wqe_event")
