# SPDX-License-Identifier: GPL-2.0
"""Verbs, one test for each feature and each error; vtverbs.c has what they do.

Both ends are in one process, the connection is one of the host with itself. That
the bytes go over a wire is for test_traffic.py.
"""

import contextlib
import itertools
import os
import pathlib
import re
import shlex

import pytest
from rvm import Pair, run, wait_until


@pytest.fixture(scope="module")
def node(module):
    with Pair() as p:
        yield p.a


@pytest.fixture
def vt(node):
    """Runs a test of vtverbs.c; afterwards nothing of it is left."""

    def call(name, *args, **kw):
        return node.run(["vtverbs", name, node.ip, *args], **kw)

    yield call
    wait_until(lambda: not node.in_use(), 10, lambda: f"left over: {node.in_use()}")


# --- protection domains and memory regions ---


def test_pd_in_use(vt):
    """A PD with a region in it cannot be given back: EBUSY."""
    vt("pd_in_use")


def test_mr_access_flags(vt):
    """Every combination of rights; remote write or atomic without local write is EINVAL."""
    vt("mr_access_flags")


def test_mr_bad_memory(vt):
    """Memory that is not there (all of it, a hole in it) is EFAULT."""
    vt("mr_bad_memory")


def test_mr_read_only_memory(vt):
    """What a process cannot write it cannot have written: EFAULT; reading is granted."""
    vt("mr_read_only_memory")


def test_mr_keys_unguessable(vt):
    """Keys say nothing about other keys, those before and those after."""
    vt("mr_keys_unguessable")


def test_mr_bounds(vt):
    """A region at odd addresses: nothing beside it is touched."""
    vt("mr_bounds")


def test_mr_iova(vt):
    """A region whose peers use other addresses than its process."""
    vt("mr_iova")


def test_mr_relaxed_ordering(vt):
    """IBV_ACCESS_RELAXED_ORDERING is accepted."""
    vt("mr_relaxed_ordering")


def test_mr_rereg(vt):
    """Rights and PD of a region change, and count at once."""
    vt("mr_rereg")


def test_memlock_mr(vt):
    """Pinned pages are counted against RLIMIT_MEMLOCK, and given back at once."""
    vt("memlock_mr")


def test_memlock_rings(vt):
    """So is the memory of queues."""
    vt("memlock_rings")


def test_memlock_srq_resize(vt):
    """So is the ring of an SRQ that is resized; too much is ENOMEM, and leaves what there was."""
    vt("memlock_srq_resize")


def test_mr_huge_pages(vt):
    """A region of huge pages."""
    pool = pathlib.Path("/proc/sys/vm/nr_hugepages")
    pool.write_text("4")
    try:
        vt("mr_huge_pages")
    finally:
        pool.write_text("0")


@contextlib.contextmanager
def rdma_cgroup(limits):
    """A cgroup with a limit of the rdma controller, for a shell to move into."""
    top = pathlib.Path("/sys/fs/cgroup")
    group = top / "vt"
    (top / "cgroup.subtree_control").write_text("+rdma")
    group.mkdir()
    try:
        (group / "rdma.max").write_text(limits)
        yield group
    finally:
        group.rmdir()


def inside(group, node, *args):
    """A test of vtverbs.c in the group; a namespace has another /sys, so it is entered first."""
    cmd = ["vtverbs", args[0], node.ip, *args[1:]]
    return run(f"echo $$ > {group}/cgroup.procs && exec ip netns exec {node.name} {shlex.join(cmd)}", check=False)


@pytest.mark.parametrize("kind", ["pd", "cq", "mr"])
def test_rdma_cgroup(node, kind):
    """The rdma controller counts objects and stops at its limit."""
    with rdma_cgroup(f"{node.dev} hca_handle=max hca_object=7") as group:
        got = inside(group, node, "count_objects", kind)
        assert got.rc == 0, got.out
        n, error = got.out.split()
        assert error == "EAGAIN"
        # Those of the CM, and the PD of a region, count too.
        assert 1 <= int(n) <= 7
        # All is given back.
        wait_until(lambda: "hca_object=0" in (group / "rdma.current").read_text())


def test_rdma_cgroup_handles(node):
    """A context is a handle."""
    with rdma_cgroup(f"{node.dev} hca_handle=1 hca_object=max") as group:
        assert inside(group, node, "pd_in_use").rc == 0
    with rdma_cgroup(f"{node.dev} hca_handle=0 hca_object=max") as group:
        assert inside(group, node, "pd_in_use").rc == 1


# --- completion queues ---


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


def test_cq_timestamp(vt):
    """Completion time stamps of the extended API lie between before and after."""
    vt("cq_timestamp")


# --- queue pairs ---


def test_qp_limits(vt):
    """32 SGEs, 512 bytes inline, max_qp_wr; more is EINVAL."""
    vt("qp_limits")


def test_qp_type_refused(vt):
    """iWARP has RC only."""
    vt("qp_type_refused")


def test_qp_numbers_unguessable(vt):
    """QP numbers say nothing about other QPs."""
    vt("qp_numbers_unguessable")


def test_qp_query(vt):
    """What was granted, the state, the rights."""
    vt("qp_query")


def test_qp_states_unconnected(vt):
    """INIT, RTR, ERR, RESET without a connection; everything else is EINVAL."""
    vt("qp_states_unconnected")


def test_qp_states_connected(vt):
    """From RTS: RTS, ERR, RESET; not INIT, not RTR, and never back from ERR."""
    vt("qp_states_connected")


def test_qp_wrong_current_state(vt):
    """IBV_QP_CUR_STATE that is not so is EINVAL."""
    vt("qp_wrong_current_state")


def test_qp_sqd_drains(vt):
    """SQD: what was posted is done, then the connection ends in order."""
    vt("qp_sqd_drains")


def test_qp_reset_forgets(vt):
    """RESET: nothing of before completes, the QP is as new."""
    vt("qp_reset_forgets")


# --- operations ---


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
    """Immediate data and atomics without the capability."""
    vt("foreign_operations_refused")


def test_long_message(vt, rounds):
    """One SEND of 128 MiB; of 1 GiB in the long runs."""
    vt("message_of", 1024 if rounds > 20 else 128, timeout=300)


# --- shared receive queues ---


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


def test_srq_resize_under_traffic(node, rounds):
    """Resizes without a pause while the other namespace sends: nothing is lost, doubled or swapped."""
    a, b, n = node, node.peer, "200000" if rounds > 20 else "20000"
    with a.start(["vtverbs", "srq_resize_traffic", a.ip, n]) as server:
        port = server.wait_for(r"port (\d+)")[1]
        client = b.run(["vtverbs", "srq_resize_traffic", a.ip, n, port], check=False)
        assert client.rc == 0, f"{client.out}\nserver:\n{server.out}"
        resizes = int(re.search(r"(\d+) resizes", server.wait().out)[1])
    assert resizes > 50
    wait_until(lambda: not a.in_use() and not b.in_use(), 10, lambda: f"left over: {a.in_use()} {b.in_use()}")


def test_srq_last_wqe_event(vt):
    """A QP in error says so, and leaves the SRQ's requests to others."""
    vt("srq_last_wqe_event")


# --- errors ---


def test_write_wrong_key(vt):
    """Remote access error at both ends; no byte is written."""
    vt("write_wrong_key")


def test_read_wrong_key(vt):
    """Remote access error at both ends; no byte is read."""
    vt("read_wrong_key")


def test_write_out_of_bounds(vt):
    """Before, behind, across an end, around the end of the address space."""
    vt("write_out_of_bounds")


def test_read_out_of_bounds(vt):
    """The same."""
    vt("read_out_of_bounds")


def test_write_without_right(vt):
    """A region without remote write."""
    vt("write_without_right")


def test_read_without_right(vt):
    """A region without remote read."""
    vt("read_without_right")


def test_write_other_pd(vt):
    """A region of another PD than the QP's."""
    vt("write_other_pd")


def test_read_other_pd(vt):
    """The same."""
    vt("read_other_pd")


def test_write_dead_key(vt):
    """A region that was deregistered."""
    vt("write_dead_key")


def test_read_dead_key(vt):
    """The same."""
    vt("read_dead_key")


def test_send_inv_refused(vt):
    """SEND with invalidate of what may not be invalidated ends the connection."""
    vt("send_inv_refused")


def test_no_receive_posted(vt):
    """A SEND that finds no receive ends the connection."""
    vt("no_receive_posted")


def test_receive_too_small(vt):
    """Local length error, flush of the others, nothing behind the receive is touched."""
    vt("receive_too_small")


def test_send_local_protection(vt):
    """Wrong key, bounds or PD of an SGE, also of an unsignalled request."""
    vt("send_local_protection")


def test_recv_local_protection(vt):
    """Wrong key, bounds or right of a receive."""
    vt("recv_local_protection")


def test_read_sink_protection(vt):
    """A READ into memory without local write."""
    vt("read_sink_protection")


def test_flush_on_error(vt):
    """ERR under load: each request completes exactly once, in order."""
    vt("flush_on_error")


def test_flush_on_peer_disconnect(vt):
    """The same when the peer ends the connection."""
    vt("flush_on_peer_disconnect")


def test_flush_on_own_disconnect(vt):
    """The same when we end it."""
    vt("flush_on_own_disconnect")


def test_destroy_busy(vt):
    """Regions and QPs are destroyed under traffic."""
    vt("destroy_busy")


def test_exit_under_traffic(vt):
    """A process ends with everything open and busy."""
    for _ in range(3):
        vt("exit_busy")


def test_resources_tell_the_truth(node):
    """`rdma resource show`: what a process has, and no more after it was killed."""
    with node.start(["vtverbs", "hold", node.ip]) as p:
        p.wait_for("ready")
        qpns = [int(x) for x in p.out.split("qpn")[1].split()]
        qps = node.resources("qp")
        assert sorted(q["lqpn"] for q in qps) == sorted(qpns)
        assert {q["state"] for q in qps} == {"RTS"}
        assert {q["type"] for q in qps} == {"RC"}
        assert {q["pid"] for q in qps} == {p.pid}
        # librdmacm has one of its own.
        assert len(node.resources("pd")) == 4
        assert len(node.resources("ctx")) == 1
        assert len(node.resources("cq")) == 4
        assert sorted(m["mrlen"] for m in node.resources("mr")) == [4096, 12345]
        ids = node.resources("cm_id")
        # The one that opened the device, the listener, both ends.
        assert len(ids) == 4
        connected = [i for i in ids if i["state"] == "CONNECT"]
        assert sorted(i["lqpn"] for i in connected) == sorted(qpns)
        assert {i["src-addr"].split(":")[0] for i in ids} == {node.ip}
    wait_until(lambda: not node.in_use())


def test_device_attributes(node):
    """`ibv_devinfo -v` says what the device can do."""
    out = run(f"ibv_devinfo -v -d {node.dev}", netns=node.name).out
    for line in ("transport:\t\t\tiWARP", "max_sge:\t\t\t32", "state:\t\t\tPORT_ACTIVE", "max_srq_sge:\t\t\t32"):
        assert line in out
    guid = next(x.split()[1] for x in out.splitlines() if "node_guid" in x)
    assert int(guid.replace(":", ""), 16)
