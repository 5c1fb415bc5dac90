# SPDX-License-Identifier: GPL-2.0
"""A kernel consumer: NVMe over RDMA, host and target in one kernel, over a link of each type.

What nvme-rdma and nvmet-rdma exercise is what no user space program can: fast registration
(REG_MR), the peer's invalidation of it (SEND_INV), over iWARP a READ that invalidates its own sink
(READ_WITH_INV), the key of all memory, drains, completion queues polled from softirq (host), from a
workqueue (target) and directly (poll queues), an SRQ of the kernel's.
"""

import contextlib
import pathlib
import re

import pytest
from rvm import Proc, cgroup, module_loaded, run, wait_until
from vm_fixtures import KINDS

CONFIGFS = pathlib.Path("/sys/kernel/config")
TRACING = pathlib.Path("/sys/kernel/tracing")
NQN = "rurdma-test"
# Same-host connections are taken by the listener of the netdev's own address.
NETDEV, DEV, ADDR = "nvme-a", "rwnvme", "10.77.0.1"
MIB = 1 << 20


@pytest.fixture(scope="module")
def modules():
    run("modprobe -a loop configfs nvmet nvmet-rdma nvme-rdma", timeout=180)
    if not (CONFIGFS / "nvmet").exists():
        run(f"mount -t configfs none {CONFIGFS}")
    yield
    # Users first; a module that something still holds would say so here.
    run("modprobe -r nvmet-rdma nvme-rdma nvmet")


@pytest.fixture(params=KINDS)
def link(module, modules, request):
    run(
        f"ip link add {NETDEV} type veth peer name nvme-b && ip addr add {ADDR}/24 dev {NETDEV} && "
        f"ip link set {NETDEV} up && ip link set nvme-b up && rdma link add {DEV} type {request.param} netdev {NETDEV}"
    )
    try:
        yield DEV
    finally:
        run(f"rdma link del {DEV}", check=False)
        run(f"ip link del {NETDEV}", check=False)


@contextlib.contextmanager
def target(disk):
    """The target: one subsystem, one namespace (`disk`), one port."""
    top = CONFIGFS / "nvmet"
    subsys, port = top / "subsystems" / NQN, top / "ports" / "1"
    ns = subsys / "namespaces" / "1"
    for d in (subsys, ns, port):
        d.mkdir()
    (subsys / "attr_allow_any_host").write_text("1")
    (ns / "device_path").write_text(disk)
    (ns / "enable").write_text("1")
    for key, value in (("adrfam", "ipv4"), ("trtype", "rdma"), ("traddr", ADDR), ("trsvcid", "4420")):
        (port / f"addr_{key}").write_text(value)
    exported = port / "subsystems" / NQN
    exported.symlink_to(subsys)
    try:
        yield
    finally:
        exported.unlink()
        (ns / "enable").write_text("0")
        for d in (port, ns, subsys):
            d.rmdir()


@pytest.fixture
def exported(link, tmp_path):
    """A loop device of 64 MiB, exported over the link."""
    image = tmp_path / "disk"
    with image.open("wb") as f:
        f.truncate(64 * MIB)
    disk = run(f"losetup -f --show {image}").out.strip()
    try:
        with target(disk):
            yield disk
    finally:
        run(f"nvme disconnect -n {NQN}", check=False)
        run(f"losetup -d {disk}", check=False)


def remote_disk():
    """The block device of the connected controller."""
    for ctrl in pathlib.Path("/sys/class/nvme").glob("nvme*"):
        if (ctrl / "subsysnqn").read_text().strip() == NQN:
            for ns in ctrl.glob("nvme*n1"):
                name = "nvme" + ns.name.removeprefix("nvme").split("c")[0].split("n")[0] + "n1"
                if pathlib.Path(f"/dev/{name}").exists():
                    return f"/dev/{name}"
    return None


def connect(*args):
    run(["nvme", "connect", "-t", "rdma", "-a", ADDR, "-s", "4420", "-n", NQN, *args])
    return wait_until(remote_disk, message="no block device came of the connection")


class Probes:
    """Counts the calls of kernel functions, with kprobes; none in a kernel without (the debug kernel)."""

    def __init__(self, *names):
        self.events = TRACING / "kprobe_events"
        self.names = names if self.events.exists() else ()
        self.group = TRACING / "events" / "kprobes"

    def __enter__(self):
        for name in self.names:
            run(f"echo 'p:rt_{name} {name}' >>{self.events}")
            (self.group / f"rt_{name}" / "enable").write_text("1")
        return self

    def counts(self):
        hits = dict.fromkeys(self.names, 0)
        if not hits:
            return hits
        for line in (TRACING / "kprobe_profile").read_text().splitlines():
            name, n = line.split()[:2]
            if name.removeprefix("rt_") in hits:
                hits[name.removeprefix("rt_")] = int(n)
        return hits

    def __exit__(self, *exc):
        for name in self.names:
            (self.group / f"rt_{name}" / "enable").write_text("0")
            run(f"echo '-:rt_{name}' >>{self.events}", check=False)


def in_use():
    """Objects that exist on the link; completion queues stay in the core's pool."""
    return re.sub(r" cq \d+", "", run(f"rdma resource show {DEV}").out)


def transfers(disk, exported, tmp_path, megabytes):
    """What was written is what is read, on every kind of queue."""
    # Every size from a block to more than one registration holds, in any order.
    run(
        f"fio --name=v --filename={disk} --rw=randrw --rwmixread=40 --bsrange=512-512k --size=24m "
        f"--io_size={megabytes}m --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1 "
        f"--do_verify=1 --randseed=7 --minimal --output={tmp_path}/fio"
    )
    # The same through the poll queue: completions by IB_POLL_DIRECT.
    run(
        f"fio --name=p --filename={disk} --rw=randwrite --bs=64k --size=4m --direct=1 --ioengine=io_uring "
        f"--hipri=1 --iodepth=4 --verify=crc32c --verify_fatal=1 --do_verify=1 --minimal --output={tmp_path}/fio"
    )
    # And it is the target's disk that has it, not a cache of ours.
    run(f"head -c {8 * MIB} /dev/urandom >{tmp_path}/data")
    run(f"dd if={tmp_path}/data of={disk} bs=1M oflag=direct status=none")
    run(f"cmp -n {8 * MIB} {tmp_path}/data {exported}")
    run(f"dd if={disk} bs=96k count=80 iflag=direct status=none | cmp -n {7 * MIB} - {tmp_path}/data")


def test_nvme_data(exported, kernel_log, tmp_path):
    """What was written is what is read, on every kind of queue, and disconnecting leaves nothing.

    What the host writes the target READs. Over iWARP rdma_rw registers the sink of each of these READs and
    lets the READ itself end the registration (READ_WITH_INV): the next REG_MR of that memory, which is refused
    while it is registered, would end the queue.
    """
    idle = in_use()
    with Probes("ib_map_mr_sg", "ib_drain_qp", "ib_dereg_mr_user") as probes:
        disk = connect("-i", "2", "-P", "1")
        transfers(disk, exported, tmp_path, 10)
        run(f"nvme disconnect -n {NQN}")
        counts = probes.counts()
    if counts:
        assert counts["ib_map_mr_sg"] > 50, counts
        assert counts["ib_drain_qp"] >= 2, counts
        assert counts["ib_dereg_mr_user"] > 0, counts
    wait_until(lambda: in_use() == idle, message=lambda: f"left over:\n{in_use()}\nbefore:\n{idle}")


@pytest.fixture
def shared_receives(modules):
    """The target posts its receives to SRQs, one for each completion vector."""
    run("modprobe -r nvmet-rdma && modprobe nvmet-rdma use_srq=Y")
    yield
    run("modprobe -r nvmet-rdma && modprobe nvmet-rdma")


def srqs():
    return int(re.search(r"srq (\d+)", run(f"rdma resource show {DEV}").out)[1])


@pytest.mark.long
def test_nvme_data_srq(shared_receives, exported, kernel_log, tmp_path):
    """The same with an SRQ of a kernel user's, which all its queues take their receives from."""
    idle = in_use()
    disk = connect("-i", "2", "-P", "1")
    assert srqs() > 0
    transfers(disk, exported, tmp_path, 4)
    run(f"nvme disconnect -n {NQN}")
    wait_until(lambda: in_use() == idle, message=lambda: f"left over:\n{in_use()}\nbefore:\n{idle}")


# Writes more than its cgroup may have in memory, each page another number, and looks whether it is still there.
SWAPPED = """
import mmap, sys
pages = int(sys.argv[1])
m = mmap.mmap(-1, pages * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def content(i):
    return (i * 2654435761 + 1).to_bytes(8, "little") * 512
for i in range(pages):
    m[i * 4096 : i * 4096 + 4096] = content(i)
for i in range(pages):
    got = m[i * 4096 : i * 4096 + 4096]
    if got != content(i):
        sys.exit(f"page {i} holds {got[:16].hex()}")
print("verified")
"""


@contextlib.contextmanager
def ram_disk(mib):
    """A disk whose memory is the kernel's own: a target that had to swap would wait for itself."""
    run(f"modprobe brd rd_nr=1 rd_size={mib * 1024}")
    try:
        yield "/dev/ram0"
    finally:
        run("modprobe -r brd")


def sectors(disk):
    """Sectors that were written."""
    return int(pathlib.Path(f"/sys/block/{disk[5:]}/stat").read_text().split()[6])


@pytest.mark.long
def test_nvme_swap(link, tmp_path):
    """Swap on the remote disk: pages are written in order to have memory, and come back as they were."""
    if run("modprobe -n brd", check=False).rc:
        pytest.skip("this kernel has no brd")

    def swapped(what):
        return int(re.search(rf"^{what} (\d+)", pathlib.Path("/proc/vmstat").read_text(), re.M)[1])

    # 300 MiB in a cgroup of 128: what is above that must go, and come back. From 64 on who needs memory waits
    # for pages to be written: with the hard limit alone a disk that is slow is a reason to kill.
    pages, above = 300 * MIB // 4096, (300 - 128) * MIB // 4096
    (tmp_path / "swapped.py").write_text(SWAPPED)
    with ram_disk(384) as ram, target(ram):
        disk = connect("-i", "2")
        try:
            run(f"mkswap {disk} && swapon {disk}")
            with open(ram, "rb") as f:
                assert f.read(4096).endswith(b"SWAPSPACE2"), "it is another disk that was made for swap"
            written = sectors(disk)
            with cgroup("memory", 128 * MIB) as group:
                (group / "memory.high").write_text(str(64 * MIB))
                out, back = swapped("pswpout"), swapped("pswpin")
                got = run(f"echo $$ >{group}/cgroup.procs && exec python3 {tmp_path}/swapped.py {pages}", timeout=600)
                assert "verified" in got.out
                assert swapped("pswpout") - out > above
                assert swapped("pswpin") - back > above
                assert " oom_kill 0" in " " + (group / "memory.events").read_text().replace("\n", " ")
            assert (sectors(disk) - written) * 512 > above * 4096
            run(f"swapoff {disk}")
        finally:
            run(f"swapoff {disk}; nvme disconnect -n {NQN}", check=False)


def test_nvme_local_invalidate(exported, kernel_log, tmp_path):
    """A command that the target refuses without a look at its data: the host ends the registration itself."""
    with Probes("nvme_rdma_inv_rkey_done") as probes:
        disk = connect("-i", "1")
        ctrl = re.sub(r"n\d+$", "", disk)
        for _ in range(20):
            got = run(f"nvme admin-passthru {ctrl} --opcode=0xc1 --data-len=4096 --read", check=False)
            assert "Invalid Command Opcode" in got.out, got
            # A target hears only from commands that it takes that its host is alive.
            run(f"dd if={disk} of=/dev/null bs=4k count=1 iflag=direct status=none")
        # A failed invalidation would end the queue; the memory can be registered again.
        run(f"dd if={disk} of={tmp_path}/data bs=64k count=16 iflag=direct status=none")
        counts = probes.counts()
        run(f"nvme disconnect -n {NQN}")
    if counts:
        assert counts["nvme_rdma_inv_rkey_done"] >= 20, counts
    assert "error recovery" not in run("dmesg").out


@pytest.mark.long
def test_nvme_key_of_all_memory(link, tmp_path):
    """Without registrations: the host gives its target the key of all memory (ib_get_dma_mr)."""
    run("modprobe -r nvme-rdma && modprobe nvme-rdma register_always=N")
    try:
        image = tmp_path / "disk"
        with image.open("wb") as f:
            f.truncate(64 * MIB)
        loop = run(f"losetup -f --show {image}").out.strip()
        try:
            with target(loop), Probes("ib_map_mr_sg") as probes:
                disk = connect("-i", "1")
                run(f"head -c {2 * MIB} /dev/urandom >{tmp_path}/data")
                # One page a time: more of them are registered all the same.
                run(f"dd if={tmp_path}/data of={disk} bs=4k oflag=direct status=none")
                before = probes.counts()
                run(f"dd if={disk} of={tmp_path}/back bs=4k count={2 * MIB // 4096} iflag=direct status=none")
                assert probes.counts() == before, "pages were registered"
                run(f"cmp {tmp_path}/data {tmp_path}/back")
                run(f"nvme disconnect -n {NQN}")
        finally:
            run(f"losetup -d {loop}")
    finally:
        run("modprobe -r nvme-rdma && modprobe nvme-rdma")


def test_nvme_vectors(exported):
    """CQs of kernel users: each is polled in the context that it was made for, on the CPU of its vector."""
    events = TRACING / "events/rdma_core"
    if not events.exists():
        pytest.skip("this kernel has no trace events")
    traced = ("cq_alloc", "cq_schedule")
    (TRACING / "trace").write_text("")
    try:
        for e in traced:
            (events / e / "enable").write_text("1")
        disk = connect("-i", "2", "-P", "1")
        for cpu in range(2):
            run(f"taskset -c {cpu} dd if=/dev/zero of={disk} bs=16k count=100 oflag=direct status=none")
        run(f"nvme disconnect -n {NQN}")
    finally:
        for e in traced:
            (events / e / "enable").write_text("0")
    trace = (TRACING / "trace").read_text()
    made = re.finditer(r"cq_alloc: cq\.id=(\d+) .*comp_vector=(\d+) poll_ctx=(\w+)", trace)
    cqs = {m[1]: (int(m[2]), m[3]) for m in made}
    # The host's, its poll queue's, the target's.
    assert {context for _, context in cqs.values()} == {"SOFTIRQ", "DIRECT", "WORKQUEUE"}, trace[-3000:]
    raised = re.findall(r"\[(\d+)\].* cq_schedule: cq\.id=(\d+)", trace)
    raised = [(cqs[cq], int(cpu)) for cpu, cq in raised if cq in cqs]
    # Queues of both vectors were at work.
    assert {vector for (vector, _), _ in raised} == {0, 1}, trace[-3000:]
    assert all(vector == cpu for (vector, _), cpu in raised), [x for x in raised if x[0][0] != x[1]]
    # Who polls by himself wants no events.
    assert {context for (_, context), _ in raised} == {"SOFTIRQ", "WORKQUEUE"}


@pytest.mark.long
def test_nvme_reconnect(exported):
    """Controllers that come and go, without traffic in between."""
    idle = in_use()
    for _ in range(3):
        connect("-i", "1")
        run(f"nvme disconnect -n {NQN}")
    wait_until(lambda: in_use() == idle, message=lambda: f"left over:\n{in_use()}")


def test_nvme_link_removed(exported, module):
    """`rdma link del` under traffic: the kernel users let go, nothing hangs, the module unloads."""
    disk = connect("-i", "1")
    load = (
        f"fio --name=x --filename={disk} --rw=randrw --bs=16k --size=32m --time_based --runtime=60 --direct=1 "
        "--ioengine=libaio --iodepth=8"
    )
    with Proc(load) as io:
        wait_until(lambda: io.running() and int(run(f"cat /sys/block/{disk[5:]}/stat").out.split()[0]) > 100)
        run(f"rdma link del {DEV}")
        io.wait(check=False)
    wait_until(lambda: remote_disk() is None, message="the controller of a link that is gone stays")
    if not run("rdma link show").out.strip():
        run("modprobe -r rurdma")
        assert not module_loaded()
        run("modprobe rurdma")
