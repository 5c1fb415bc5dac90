# SPDX-License-Identifier: GPL-2.0
"""Work requests: SEND, WRITE, READ, over either transport; vtwork.c has what they do.

That the bytes go over a wire is for test_traffic.py.
"""

import re

import pytest
from rvm import wait_until

VT = "vtwork"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_send_recv(vt):
    """SEND of 1 byte to 1 MiB; nothing behind the message is touched."""
    vt("send_recv")


def test_server_sends_first(vt):
    """The responder may be the first to send."""
    vt("server_sends_first")


def test_write_read(vt):
    """RDMA WRITE and READ of 1 byte to 1 MiB at odd addresses."""
    vt("write_read")


def test_send_32_sges(vt):
    """SEND gathers from 32 places and scatters to 32 others; 33 are EINVAL."""
    vt("send_32_sges")


def test_write_32_sges(vt):
    """WRITE gathers from 32 places."""
    vt("write_32_sges")


def test_read_32_sges(vt):
    """READ scatters to 32 places."""
    vt("read_32_sges")


def test_zero_length(vt):
    """SEND, WRITE and READ of nothing, with and without an SGE."""
    vt("zero_length")


def test_inline_data(vt):
    """0 to 512 bytes inline, of memory that is not registered and changes at once."""
    vt("inline_data")


def test_inline_too_long(vt):
    """More is EINVAL, and the QP lives on."""
    vt("inline_too_long")


def test_unsignalled(vt):
    """What is not signalled does not complete, and its room in the queue comes back."""
    vt("unsignalled")


def test_signal_all(vt):
    """sq_sig_all: everything is."""
    vt("signal_all")


def test_fence(vt):
    """A fenced SEND waits for the READ before it."""
    vt("fence")


def test_in_order(vt):
    """Completions come in the order of the posting."""
    vt("in_order")


def test_more_reads_than_depth(vt):
    """128 READs with a depth of 1."""
    vt("more_reads_than_depth")


def test_post_list(vt):
    """A list is posted up to the request that is wrong, which is named."""
    vt("post_list")


def test_queues_full(vt):
    """ENOMEM when a queue is full; what completes makes room."""
    vt("queues_full")


def test_message_too_long(vt):
    """More than 1 GiB is refused."""
    vt("message_too_long")


def test_foreign_operations_refused(vt):
    """What the transport does not have, immediate data of a SEND over iWARP among it, and what does not exist."""
    vt("foreign_operations_refused")


def test_wr_interface(vt):
    """ibv_wr_*: SEND, SEND_INV, WRITE, READ in batches, with SGEs, lists of them, inline data and lists of that."""
    vt("wr_interface")


@pytest.mark.parametrize("how", ["by_ioctl", "by_write"])
def test_provider_without_kick(node, how):
    """One that posts by the command POST_SEND: the same work is done. See vtclassic.c."""
    before = node.in_use()
    assert re.search(r"^kicks 0, ioctls \d+, writes \d+$", node.run(["vtclassic", how, node.ip]).out, re.M)
    wait_until(lambda: node.in_use() == before, 10)


@pytest.mark.soak
@pytest.mark.parametrize("how", ["send", "write", "read"])
def test_long_message(vt, rounds, how):
    """One SEND, WRITE or READ of 128 MiB; of 1 GiB in the long runs."""
    vt("message_of", 1024 if rounds > 20 else 128, how, timeout=300)
