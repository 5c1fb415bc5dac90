# SPDX-License-Identifier: GPL-2.0
"""The resize of completion queues, over either transport; vtcqresize.c has what the tests do."""

import re

import pytest
from rvm import wait_until

VT = "vtcqresize"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_cq_resize_grow(vt):
    """More completions fit afterwards; memory follows, up and down."""
    vt("cq_resize_grow")


def test_cq_resize_shrink(vt):
    """Fewer fit."""
    vt("cq_resize_shrink")


def test_cq_resize_outstanding(vt):
    """What was not polled keeps its order through any resize, and is never lost: EINVAL instead."""
    vt("cq_resize_outstanding")


def test_cq_resize_errors(vt):
    """EINVAL: more completions than that, 0, above max_cqe. Nothing changes then."""
    vt("cq_resize_errors")


def test_cq_resize_armed(vt):
    """What was armed is armed still, for the same; what was not is not."""
    vt("cq_resize_armed")


def test_cq_resize_overflow(vt):
    """A CQ that is lost is not brought back: EINVAL."""
    vt("cq_resize_overflow")


def test_cq_resize_extended(vt):
    """The extended interface goes on in the new ring, time stamps too."""
    vt("cq_resize_extended")


def test_cq_resize_bad_request(vt):
    """Requests that no provider of ours writes: an error, and nothing changes or stays behind."""
    vt("cq_resize_bad_request")


def test_cq_resize_old_provider(vt):
    """Without the capability it is EOPNOTSUPP, as it was."""
    vt("cq_resize_old_provider")


def test_memlock_cq_resize(vt):
    """The new ring is locked memory; too much is ENOMEM, and leaves what there was."""
    vt("memlock_cq_resize")


@pytest.mark.soak
def test_cq_resize_under_traffic(node, rounds):
    """Resizes without a pause while messages come that a sleeper waits for: no completion and no event is lost."""
    a, b, n = node, node.peer, "200000" if rounds > 20 else "10000"
    before = a.in_use(), b.in_use()
    with a.start([VT, "cq_resize_traffic", a.ip, n]) as server:
        port = server.wait_for(r"port (\d+)")[1]
        client = b.run([VT, "cq_resize_traffic", a.ip, n, port], timeout=600, check=False)
        assert client.rc == 0, f"{client.out}\nserver:\n{server.out}"
        resizes = int(re.search(r"(\d+) resizes", server.wait().out)[1])
    assert resizes > 50
    wait_until(lambda: (a.in_use(), b.in_use()) == before, 10, lambda: f"left over: {a.in_use()} {b.in_use()}")
