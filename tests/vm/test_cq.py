# SPDX-License-Identifier: GPL-2.0
"""Completion queues and their events, over either transport; vtcq.c has what they do."""

import itertools
import os
import pathlib
import re

import pytest
from rvm import run
from vm_fixtures import BOTH

VT = "vtcq"


@pytest.fixture(scope="module")
def node(either):
    return either.a


def test_cq_sizes(vt):
    """From 1 to max_cqe; 0 and more than that are EINVAL."""
    vt("cq_sizes")


def test_cq_bad_vector(vt):
    """A completion vector that does not exist is EINVAL."""
    vt("cq_bad_vector")


TRACING = pathlib.Path("/sys/kernel/tracing")


@pytest.fixture
def event_cpus():
    """Tells on which CPU each completion event of a process was raised since the last time."""
    if not (TRACING / "kprobe_events").exists():
        pytest.skip("this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)")
    run("modprobe ib_uverbs")
    run(f"echo 'p:vt_comp ib_uverbs_comp_handler' >>{TRACING}/kprobe_events")
    enable = TRACING / "events/kprobes/vt_comp/enable"
    enable.write_text("1")

    def read():
        lines = (TRACING / "trace").read_text().splitlines()
        (TRACING / "trace").write_text("")
        return [int(m[1]) for line in lines if (m := re.search(r"\[(\d+)\].* vt_comp:", line))]

    read()
    yield read
    enable.write_text("0")
    run(f"echo '-:vt_comp' >>{TRACING}/kprobe_events")


def test_cq_vector(vt, event_cpus):
    """The event of a CQ with vector v is raised on CPU v, wherever the completion comes from."""
    cpus = os.cpu_count()
    assert cpus > 1
    for cpu, vector in itertools.product(range(cpus), repeat=2):
        vt("cq_vector_events", str(cpu), str(vector), "50")
        assert event_cpus() == [vector] * 50, f"work on CPU {cpu}, vector {vector}"


def test_cq_vector_offline(vt, event_cpus):
    """With that CPU offline it is raised all the same."""
    last = os.cpu_count() - 1
    online = pathlib.Path(f"/sys/devices/system/cpu/cpu{last}/online")
    online.write_text("0")
    try:
        vt("cq_vector_events", "0", str(last), "20")
        got = event_cpus()
        assert len(got) == 20
        assert last not in got
    finally:
        online.write_text("1")
    vt("cq_vector_events", "0", str(last), "20")
    assert event_cpus() == [last] * 20


def test_cq_vector_destroy(vt):
    """CQs are destroyed while their events are on the way to another CPU."""
    vt("cq_vector_destroy")


def test_cq_in_use(vt):
    """A CQ with a QP cannot be destroyed: EBUSY."""
    vt("cq_in_use")


def test_cq_event_any(vt):
    """Armed, one event for the next completion; not armed, none."""
    vt("cq_event_any")


def test_cq_event_solicited(vt):
    """Armed for solicited ones: only for those, and for errors."""
    vt("cq_event_solicited")


def test_cq_overflow(vt):
    """A completion too many is an asynchronous event, and overwrites nothing."""
    vt("cq_overflow")


def test_cq_dead(vt):
    """After that nothing completes to it any more, its QP is in error with QP_FATAL, and both can be destroyed."""
    vt("cq_dead")


@BOTH
def test_cq_dead_recv(vt):
    """The same for receives; the peer gets a Terminate, or a NAK: remote operation error."""
    vt("cq_dead_recv")


def test_cq_timestamp(vt):
    """Completion time stamps of the extended API lie between before and after."""
    vt("cq_timestamp")


def test_cq_timestamp_clock(vt):
    """hca_core_clock and the raw clock say what they mean; the wall clock's are as far apart."""
    vt("cq_timestamp_clock")
