# SPDX-License-Identifier: GPL-2.0
"""RC operations of RoCE that are answered: atomics, ATOMIC WRITE, FLUSH; SQD, ERROR, and SQE of UC and UD.

See vtops.c, vtsqd.c, vtend.c, vtsqe.c.
"""

import pathlib
import uuid

import pytest
from rvm import Pair, run, wait_until

ND = pathlib.Path("/sys/bus/nd")


def vtops(p, name, *args, timeout=None, program="vtops"):
    """A test of the program: p.a answers, p.b asks."""
    a, b = p.a, p.b
    run([program, name, a.ip, a.name, a.dev, b.name, b.dev, *map(str, args)], timeout=timeout)
    wait_until(lambda: not a.in_use() and not b.in_use(), 10, lambda: f"left over: {a.in_use()} {b.in_use()}")


@pytest.fixture(scope="module")
def pair(module):
    with Pair(kind="rurdma_roce") as p:
        yield p


def test_what_the_device_says(pair):
    """atomic_cap, and the capabilities that the provider goes by."""
    vtops(pair, "device")


def test_fetch_add(pair):
    """The value of before, the sum in memory, nothing beside it."""
    vtops(pair, "fetch_add")


def test_cmp_swp(pair):
    """Swapped if it was there, and only then."""
    vtops(pair, "cmp_swp")


def test_atomic_write(pair):
    """By ibv_wr_atomic_write and ibv_post_send, inline and from memory."""
    vtops(pair, "atomic_writes")


def test_flush(pair):
    """A range and a region; what was written is there."""
    vtops(pair, "flushes")


def test_sqd(pair):
    """What was begun is done, then SQ_DRAINED for who asked; what is posted meanwhile waits for RTS."""
    vtops(pair, "waits", program="vtsqd")


def test_sqd_changes(pair):
    """Retries and depths that are changed in SQD are those from then on."""
    vtops(pair, "changes", program="vtsqd")


def test_last_wqe_is_the_last(pair):
    """LAST_WQE_REACHED comes when the receive that the QP had in its hands has completed, not before."""
    vtops(pair, "last_wqe", program="vtend")


def test_executed_is_acknowledged(pair):
    """Whose consumer puts its QP into ERROR at the first message that it has: the peer is told of all that it has."""
    vtops(pair, "acknowledged", program="vtend")


def test_error_is_left_by_reset(pair):
    """No other state, SQD neither: that is for iWARP, where librdmacm takes it."""
    vtops(pair, "error_is_left_by_reset", program="vtend")


@pytest.mark.parametrize("kind", ["uc", "ud"])
def test_sqe(pair, kind):
    """A send that cannot be executed: those behind it are flushed, receives go on, the consumer puts it back to RTS."""
    vtops(pair, kind, program="vtsqe")


def test_sqe_without_cq(pair):
    """The CQ overflows while the send queue is flushed: CQ_ERR, QP_FATAL, and ERROR."""
    vtops(pair, "lost", program="vtsqe")


def test_rights(pair):
    """Each operation without each right, of the QP and of the region."""
    vtops(pair, "rights")


def test_misaligned(pair):
    """An invalid request."""
    vtops(pair, "misaligned")


def test_bad_keys(pair):
    """Of nobody, of another PD, gone; an address outside of the region."""
    vtops(pair, "bad_keys")


def test_local_errors(pair):
    """A result that may not be written; a QP that may not ask."""
    vtops(pair, "local")


def test_no_responder_resources(pair):
    """Refused, and not executed."""
    vtops(pair, "no_resources")


def test_other_services(pair):
    """UC has none of them."""
    vtops(pair, "other_services")


def test_fence(pair):
    """What is fenced has the result of the atomic before it."""
    vtops(pair, "fence")


def test_local_operations_in_order(pair):
    """LOCAL_INV and BIND_MW, which are not sent, wait for what is posted before them to be sent."""
    vtops(pair, "local_in_order")


def test_order(pair):
    """WRITE, FLUSH, ATOMIC WRITE without a wait: who sees the last sees the first."""
    vtops(pair, "order")


def test_depths(pair):
    """More is posted than may be outstanding."""
    vtops(pair, "depths")


def test_sums(pair):
    """Two QPs and the CPU add to one counter 10000 times each."""
    vtops(pair, "sums", 10000, timeout=330)


@pytest.mark.parametrize("name", ["order", *(pytest.param(x, marks=pytest.mark.long) for x in ("depths", "fence"))])
def test_lossy(module, name):
    """The same over a wire that loses, doubles and reorders."""
    with Pair(kind="rurdma_roce") as p:
        p.offloads_off()
        p.impair("delay 1ms loss 2% duplicate 2% reorder 10% 50%")
        vtops(p, name, timeout=120)


def test_lossy_sums(module):
    """Nothing is added twice."""
    with Pair(kind="rurdma_roce") as p:
        p.offloads_off()
        p.impair("delay 1ms loss 1% duplicate 2% reorder 10% 50%")
        vtops(p, "sums", 1000, timeout=330)


def test_not_persistent(pair):
    """Memory that is not persistent cannot be registered to be made so."""
    vtops(pair, "not_persistent")


@pytest.fixture(scope="module")
def pmem():
    """A device whose memory is persistent: of memory that the kernel was told to set aside (memmap=)."""
    for m in ("nd_e820", "nd_pmem", "dax_pmem", "device_dax"):
        run(f"modprobe {m}", check=False)
    dev = pathlib.Path("/dev/dax0.0")
    if not (ND / "devices/namespace0.0").exists():
        pytest.skip("this kernel has no driver for the persistent memory that scripts/vm sets aside")
    if not dev.exists():
        (ND / "drivers/nd_pmem/unbind").write_text("namespace0.0")
        seed = ND / "devices/dax0.0"
        (seed / "mode").write_text("pmem\n")
        (seed / "uuid").write_text(str(uuid.uuid4()))
        (seed / "namespace").write_text("namespace0.0")
        (ND / "drivers/dax_pmem/bind").write_text("dax0.0")
        wait_until(dev.exists, 10)
    return dev


def test_persistent(pair, pmem):
    """FLUSH of both types of memory that is persistent."""
    vtops(pair, "persistent", pmem)
