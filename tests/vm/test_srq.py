# SPDX-License-Identifier: GPL-2.0
"""Shared receive queues, over either transport; vtsrq.c has what they do."""

import re

import pytest
from rvm import wait_until
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
