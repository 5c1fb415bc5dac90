# SPDX-License-Identifier: GPL-2.0
"""What goes past the kernel, over either transport; vtbypass.c has what the test does."""

import ctypes
import errno

import pytest
from rvm import poll_us

VT = "vtbypass"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def hands_calls_back():
    """Whether the kernel can hand system calls back: that it does not is switched off here, which changes nothing."""
    PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF = 59, 0
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0) == 0
    assert done or ctypes.get_errno() == errno.EINVAL
    return done


@pytest.mark.parametrize("queue", ["rq", "srq"])
def test_no_system_call(vt, queue):
    """A thousand receives are posted, a CQ is armed for each, for any and for solicited ones, and polled: no call."""
    if not hands_calls_back():
        pytest.skip("this kernel hands no system call back (no PR_SET_SYSCALL_USER_DISPATCH on this architecture)")
    # A send is a kick, and that is a call.
    with poll_us(0):
        vt(queue)
