# SPDX-License-Identifier: GPL-2.0
"""Datagrams as RPC systems use them. See vtud.c."""

import pytest
from rvm import Pair, huge_pages, run, wait_until


@pytest.fixture(scope="module")
def pair(module):
    with Pair(kind="rurdma_roce") as p:
        yield p


def test_rpc(pair):
    """Receive queues of 4096, filled by lists; requests and responses in shared memory of huge pages, verified.

    Those of up to 60 bytes are inline. All receives are used, what comes then is lost, and all are used again.
    """
    a, b = pair.a, pair.b
    with huge_pages(8):
        run(["vtud", "rpc", a.ip, a.name, a.dev, b.name, b.dev])
    wait_until(lambda: not a.in_use() and not b.in_use(), 10, lambda: f"left over: {a.in_use()} {b.in_use()}")
