# SPDX-License-Identifier: GPL-2.0
"""What goes past the kernel, over either transport; vtbypass.c has what the test does."""

import pytest

VT = "vtbypass"


@pytest.fixture(scope="module")
def node(either):
    return either.a


@pytest.mark.parametrize("queue", ["rq", "srq"])
def test_no_system_call(vt, queue):
    """A thousand receives are posted, a CQ is armed for each, for any and for solicited ones, and polled: no call."""
    vt(queue)
