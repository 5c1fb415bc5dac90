# SPDX-License-Identifier: GPL-2.0
"""Datagrams as RPC systems use them, and those that nobody takes. See vtud.c."""

import pytest
from rvm import Pair, huge_pages, run, wait_until


@pytest.fixture(scope="module")
def pair(module):
    with Pair(kind="rurdma_roce") as p:
        yield p.settle()


def not_ready(pair):
    return [x.counter("receiver_not_ready") for x in (pair.a, pair.b)]


def test_rpc(pair):
    """Receive queues of 4096, filled by lists; requests and responses in shared memory of huge pages, verified.

    Those of up to 60 bytes are inline. All receives are used, what comes then is lost, and all are used again.
    """
    a, b = pair.a, pair.b
    was = not_ready(pair)
    with huge_pages(8):
        run(["vtud", "rpc", a.ip, a.name, a.dev, b.name, b.dev])
    # vtud's LIST.
    assert not_ready(pair) == [was[0] + 32, was[1]]
    wait_until(lambda: not a.in_use() and not b.in_use(), 10, lambda: f"left over: {a.in_use()} {b.in_use()}")


@pytest.mark.parametrize("n", [1, 12])
def test_no_receive(pair, n):
    """Each datagram that finds no receive is counted, and only those; the next one that finds one is there."""
    a, b = pair.a, pair.b
    was = not_ready(pair)
    run(["vtud", "no_receive", a.ip, a.name, a.dev, b.name, b.dev, str(n)])
    assert not_ready(pair) == [was[0] + n, was[1]]
    wait_until(lambda: not a.in_use() and not b.in_use(), 10, lambda: f"left over: {a.in_use()} {b.in_use()}")
