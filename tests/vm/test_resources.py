# SPDX-License-Identifier: GPL-2.0
"""What a device counts, limits and shows."""

import shlex

import pytest
from rvm import cgroup, run, wait_until
from vm_fixtures import KMEMLEAK


def inside(group, node, *args):
    """A test of vtdevice.c in the group; a namespace has another /sys, so it is entered first."""
    cmd = ["vtdevice", args[0], node.ip, *args[1:]]
    return run(f"echo $$ > {group}/cgroup.procs && exec innetns {node.name} {shlex.join(cmd)}", check=False)


@pytest.mark.parametrize("kind", ["pd", "cq", "mr"])
def test_rdma_cgroup(node, kind):
    """The rdma controller counts objects and stops at its limit."""
    with cgroup("rdma", f"{node.dev} hca_handle=max hca_object=7") as group:
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
    with cgroup("rdma", f"{node.dev} hca_handle=1 hca_object=max") as group:
        assert inside(group, node, "count_objects", "pd").rc == 0


@pytest.mark.skipif(
    KMEMLEAK.exists(), reason="the core forgets the task of a context that it refuses, and kmemleak says so"
)
def test_rdma_cgroup_without_handles(node):
    """No context without a handle. (Linux 7.2, UVERBS_METHOD_GET_CONTEXT: its error path lacks rdma_restrack_put().)"""
    with cgroup("rdma", f"{node.dev} hca_handle=0 hca_object=max") as group:
        assert inside(group, node, "count_objects", "pd").rc == 1


def test_resources_tell_the_truth(node):
    """`rdma resource show`: what a process has, and no more after it was killed."""
    with node.start(["vtdevice", "hold", node.ip]) as p:
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
