# SPDX-License-Identifier: GPL-2.0
"""Fixtures of every tier that runs in the VM, as root.

The usual test takes `pair`: two namespaces joined by a veth, an iWARP link in
each. Tests that break things take `fresh_pair`. A test that repeats something
many times takes `rounds` and is marked `soak`: a few rounds in "make test", many
in "make soak" and "make hostile".
"""

import json
import os
import pathlib
import time

import pytest
from rvm import Kmsg, Node, Pair, module_loaded, run, wait_until

# What both transports do alike is tried on the second one in the long runs.
KINDS = ["rurdma", pytest.param("rurdma_roce", marks=pytest.mark.long)]
# Of tests that take `either`: what only iWARP has, and what is tried on both at once, for it is quick and differs.
IWARP = pytest.mark.parametrize("either", ["rurdma"], indirect=True)
BOTH = pytest.mark.parametrize("either", ["rurdma", "rurdma_roce"], indirect=True)

if not os.environ.get("RURDMA_VM") and pathlib.Path("/proc/1/comm").read_text().strip() != "init":
    raise pytest.UsageError("these tests change the machine's network: they run in the VM only (make vm-test)")


def pytest_configure(config):
    config.addinivalue_line("markers", "soak: repeats `rounds` times; all that make soak and make hostile run")
    config.addinivalue_line("markers", "alone: measures, and wants the machine to itself")
    config.addinivalue_line("markers", "long: what make test leaves out without LONG=1")


@pytest.fixture(scope="session")
def rounds():
    """How often a test of endurance does its thing."""
    return int(os.environ.get("RURDMA_ROUNDS", "5"))


@pytest.fixture(scope="session", autouse=True)
def rdma_exclusive():
    """Exclusive mode can be set only before the first namespace exists.

    ib_core has it, and goes with the last module that needs it: rdma_ucm stays.
    """
    run("modprobe rdma_ucm")
    run("rdma system set netns exclusive")


@pytest.fixture(scope="session")
def module():
    """The module, loaded."""
    if not module_loaded():
        run("modprobe rurdma")


@pytest.fixture(autouse=True)
def kernel_log():
    """Fails the test that makes the kernel complain."""
    kmsg = Kmsg()
    yield kmsg
    bad = kmsg.reports()
    kmsg.close()
    if bad:
        pytest.fail("the kernel complained:\n" + "\n".join(bad[:40]), pytrace=False)


KMEMLEAK = pathlib.Path("/sys/kernel/debug/kmemleak")


def pytest_sessionfinish(session):
    """With kmemleak in the kernel: when all is gone, nothing may be left."""
    if not KMEMLEAK.exists():
        return
    run("ip -all netns del", check=False)
    for dev in json.loads(run("rdma -j link show", check=False).out or "[]"):
        run(f"rdma link del {dev['ifname']}", check=False)
    gone = run("modprobe -r rurdma", check=False) if module_loaded() else None
    # An object counts as leaked from its second scan and its fifth second on.
    for _ in range(2):
        time.sleep(6)
        KMEMLEAK.write_text("scan")
    leaks = KMEMLEAK.read_text()
    text = leaks[:8000] if leaks else ""
    if gone is not None and gone.rc:
        text += f"\nthe module cannot be unloaded at the end:\n{gone.out}"
    if text:
        print(f"\nkmemleak, after the links were deleted and the module unloaded:\n{text}")
        session.exitstatus = 1


@pytest.fixture(scope="module")
def pair(module):
    """Two namespaces with a veth and an iWARP link each, shared by a file's tests."""
    with Pair() as p:
        yield p


@pytest.fixture
def fresh_pair(module):
    """The same, for one test only."""
    with Pair() as p:
        yield p


@pytest.fixture
def netns(module):
    """One namespace with a dummy-free start: only `lo`, up."""
    with Node() as n:
        yield n


@pytest.fixture(scope="module")
def node(module):
    """A namespace with an iWARP link, and a peer; shared by a file's tests."""
    with Pair() as p:
        yield p.a


@pytest.fixture(scope="module", params=KINDS)
def either(module, request):
    """Two namespaces, with links of one type, then of the other; shared by a file's tests."""
    with Pair(kind=request.param) as p:
        yield p.settle()


@pytest.fixture
def vt(request, node):
    """Runs a test of the file's program VT, with both ends in one process; afterwards nothing of it is left."""

    def call(name, *args, **kw):
        return node.run([request.module.VT, name, node.ip, *args], **kw)

    before = node.in_use()
    yield call
    wait_until(lambda: node.in_use() == before, 10, lambda: f"left over: {node.in_use()}, before: {before}")
