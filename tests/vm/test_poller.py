# SPDX-License-Identifier: GPL-2.0
"""The poller of a device: posts without system calls while they stream, and nobody pays for it otherwise."""

import contextlib
import json
import os
import pathlib
import re
import statistics
import time

import pytest
from rvm import DEBUG_KERNEL, POLL_US, TIMEOUT, Holdings, Pair, Proc, module_loaded, poll_us, run, wait_until

CPU1 = pathlib.Path("/sys/devices/system/cpu/cpu1/online")
PM_TEST = pathlib.Path("/sys/power/pm_test")
VT = "vtpoll"


def threads(node):
    """What is called like the poller of the node's link: directories in /proc."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if p.read_text().strip() == f"rurdma/{node.dev}":
                found.append(p.parent)
    return found


def cpu_time(proc):
    """Nanoseconds that a process, a directory in /proc, has had a CPU. (Not every kernel has its schedstat.)"""
    text = (proc / "sched").read_text()
    ms = re.search(r"^se\.sum_exec_runtime\s*:\s*(\d+)\.(\d{6})$", text, re.M)
    assert ms, text
    return int(ms[1] + ms[2])


class Thread:
    """The poller of a link."""

    def __init__(self, node):
        [self.proc] = threads(node)
        self.pid = int(self.proc.name)

    def field(self, name):
        return re.search(rf"^{name}:\s+(\S+)", (self.proc / "status").read_text(), re.M)[1]

    def cpu(self):
        return cpu_time(self.proc)

    def sleeps(self):
        """Until it is woken. In a nap it has the same state; but none lasts 10 ms, and each is a switch."""
        before = self.field("State"), self.field("voluntary_ctxt_switches")
        time.sleep(0.05)
        return before[0] == "I" and before == (self.field("State"), self.field("voluntary_ctxt_switches"))

    def spent(self):
        return self.cpu(), self.field("voluntary_ctxt_switches"), self.field("nonvoluntary_ctxt_switches")


class Counts:
    """What a link counts of posts, from here on."""

    NAMES = ("kicks", "polled", "poller_wakeups")

    def __init__(self, node):
        self.node = node
        self.before = self.read()

    def read(self):
        # The core keeps what it has read for some milliseconds.
        time.sleep(0.05)
        out = self.node.run(f"rdma statistic show link {self.node.dev}/1").out
        return {name: int(re.search(rf"\b{name} (\d+)", out)[1]) for name in self.NAMES}

    def rise(self):
        return {name: value - self.before[name] for name, value in self.read().items()}


def stream(node, count, size, **kw):
    """So many messages from the node to itself, all verified."""
    counts = Counts(node)
    out = node.run([VT, "stream", node.ip, count, size], **kw).out
    assert f"verified {count}" in out
    got = counts.rise()
    print(f"{count} posts of {size} bytes: {got}")
    return got


@contextlib.contextmanager
def endless(node, size=64):
    """A process that streams, and that the poller has come to."""
    counts = Counts(node)
    with node.start([VT, "endless", node.ip, size]) as proc:
        proc.wait_for("streaming")
        wait_until(lambda: counts.rise()["poller_wakeups"] or not proc.running(), 20, lambda: proc.out)
        yield proc


class Bursts:
    """A process that posts when it is told; on the first CPU."""

    def __init__(self, node, count=1000):
        self.node, self.count, self.done = node, count, 0

    def __enter__(self):
        fifo = pathlib.Path(f"/tmp/bursts-{self.node.dev}")
        with contextlib.ExitStack() as stack:
            os.mkfifo(fifo)
            stack.callback(fifo.unlink)
            cmd = f"exec taskset 1 {VT} bursts {self.node.ip} {self.count} < {fifo}"
            self.proc = stack.enter_context(self.node.start(cmd))
            # Both ways: to write only would wait for a reader, who may have ended already.
            self.pipe = stack.enter_context(open(os.open(fifo, os.O_RDWR), "w", buffering=1))
            self.proc.wait_for("ready")
            self._stack = stack.pop_all()
        return self

    def burst(self):
        self.pipe.write("\n")
        self.done += 1
        wait_until(lambda: self.proc.out.count("verified") == self.done, None, lambda: self.proc.out)

    def until_it_looks(self, thread):
        """Bursts until the poller looks for more."""

        def looks():
            self.burst()
            return not thread.sleeps()

        wait_until(looks)

    def __exit__(self, *exc):
        self._stack.close()


@pytest.mark.alone
def test_streaming_posts_are_no_system_calls(either):
    """One in four at most (a few in a hundred, if nobody else is there), content verified.

    The limit is such that a VM that has no CPU for a while does not matter much. Under the debug kernel a VM that has
    no CPUs to spare has the poller come to hardly any: there it is only to have come, and all to be verified.
    """
    with poll_us(1_000_000):
        for size in (64, 16384):
            count = 20000 if size == 64 else 2000
            got = stream(either.a, count, size, timeout=240)
            assert got["poller_wakeups"] >= 1
            assert got["polled"] > 0
            assert DEBUG_KERNEL or got["kicks"] <= count // 4, f"{got['kicks']} system calls for {count} posts"


def test_default(either):
    """It is on. How many posts it finds is printed only: that depends on who else wants the CPUs."""
    assert int(POLL_US.read_text()) == 1000
    got = stream(either.a, 20000, 64)
    assert got["poller_wakeups"] > 0 and got["kicks"] < 20000


def test_what_is_posted_leaves(module):
    """mckey's client asks for no completion, posts ten datagrams in a row, and goes: none is left behind."""
    with Pair(kind="rurdma_roce") as p:
        p.settle()
        for _ in range(10):
            with p.a.start(f"exec stdbuf -oL mckey -m 239.7.7.9 -b {p.a.ip} -C 10") as server:
                wait_until(lambda s=server: "joined" in s.out or not s.running(), message=lambda s=server: s.out)
                p.b.run(f"mckey -m 239.7.7.9 -b {p.b.ip} -s -C 10")
                server.wait()


def test_idle_costs_nothing(pair):
    """The poller sleeps: no time on a CPU, no wakeup."""
    thread = Thread(pair.a)
    stream(pair.a, 1000, 64)
    wait_until(thread.sleeps)
    # A process that does nothing does not keep it.
    with Bursts(pair.a) as b:
        b.burst()
        wait_until(thread.sleeps)
        before = thread.spent()
        time.sleep(2)
        assert thread.spent() == before


def test_off(pair):
    """poll_us=0: every post is a system call, and the thread is not woken; it takes effect at once."""
    thread = Thread(pair.a)
    with poll_us(0):
        wait_until(thread.sleeps)
        before = thread.spent()
        got = stream(pair.a, 2000, 64)
        assert got == {"kicks": 2000, "polled": 0, "poller_wakeups": 0}
        assert thread.spent() == before
    with poll_us(60_000_000):
        with Bursts(pair.a) as b:
            b.until_it_looks(thread)
            # It would look for a minute, and does not.
            POLL_US.write_text("0")
            wait_until(thread.sleeps, 10)
            before = thread.spent()
            b.burst()
            assert thread.spent() == before


@pytest.mark.alone
@pytest.mark.long
def test_exchange_is_left_alone(pair):
    """Two ends that wait for each other do their posts themselves: it hardly comes."""
    posts = 2000
    counts = [Counts(x) for x in (pair.a, pair.b)]
    with pair.a.start(f"exec ib_send_lat -R -F -n {posts} -s 64") as server:
        wait_until(lambda: pair.a.listens())
        pair.b.run(f"ib_send_lat -R -F -n {posts} -s 64 {pair.a.ip}")
        server.wait()
    for c in counts:
        got = c.rise()
        print(f"{posts} posts: {got}")
        assert got["kicks"] >= posts * 9 // 10


def gone(node):
    wait_until(lambda: not node.in_use(), 40, lambda: f"left over: {node.in_use()}")


@pytest.mark.soak
def test_killed_while_it_polls(pair, rounds):
    before = Holdings()
    thread = Thread(pair.a)
    with poll_us(100000):
        for _ in range(min(rounds, 100)):
            with endless(pair.a) as proc:
                proc.kill()
                proc.wait(30, check=False)
            gone(pair.a)
    wait_until(thread.sleeps)
    before.returned()


@pytest.mark.soak
def test_link_deleted_while_it_polls(pair, rounds):
    before = Holdings()
    with poll_us(100000):
        for _ in range(min(rounds, 50)):
            with endless(pair.a) as proc:
                pair.a.run(f"rdma link del {pair.a.dev}", timeout=30)
                assert proc.wait_for("ended", 20)
            pair.a.link_add(pair.a.dev, pair.a.netdev)
    before.returned()
    wait_until(Thread(pair.a).sleeps)


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.parametrize("how", ["netdev", "netns"])
def test_netdev_removed_while_it_polls(module, rounds, how):
    before = Holdings()
    for _ in range(min(rounds, 20)):
        with Pair() as p, poll_us(100000), endless(p.a):
            if how == "netdev":
                p.a.run(f"ip link del {p.a.netdev}", timeout=30)
                wait_until(lambda p=p: not p.a.links(), 30)
            else:
                p.a.__exit__()
                wait_until(lambda p=p: not p.b.links(), 30)
            wait_until(lambda p=p: not threads(p.a), 30)
    before.returned()


@pytest.mark.skipif(not CPU1.exists(), reason="this machine cannot take its second CPU away")
def test_cpus_come_and_go(pair, rounds):
    """The poller is bound to none, and moves; posts go on."""
    thread = Thread(pair.a)
    with contextlib.ExitStack() as restore:
        # Each of them, whatever fails.
        restore.callback(run, f"taskset -p ff {thread.pid}")
        restore.callback(CPU1.write_text, "1")
        with poll_us(100000), endless(pair.a) as proc:
            for _ in range(min(rounds, 20)):
                polled = Counts(pair.a)
                CPU1.write_text("0")
                assert proc.running() and "ended" not in proc.out
                CPU1.write_text("1")
                wait_until(lambda c=polled: sum(c.rise().values()), 20)
            # Where an administrator binds it, it stays.
            run(f"taskset -p 2 {thread.pid}")
            before = Counts(pair.a)
            wait_until(lambda: sum(before.rise().values()), 20)
            assert thread.field("Cpus_allowed_list") == "1"
            CPU1.write_text("0")
            CPU1.write_text("1")
            before = Counts(pair.a)
            wait_until(lambda: sum(before.rise().values()), 20)
            proc.kill()


@pytest.mark.long
@pytest.mark.skipif(not PM_TEST.exists(), reason="this kernel cannot try a suspend (CONFIG_PM_SLEEP_DEBUG)")
def test_frozen_and_thawed(pair):
    """The system freezes its threads for suspend, in whatever the poller does, and it goes on afterwards."""
    thread = Thread(pair.a)
    delay = pathlib.Path("/sys/module/suspend/parameters/pm_test_delay")
    seconds = delay.read_text()
    PM_TEST.write_text("freezer")
    try:
        delay.write_text("1")
        for us in (1000, 1_000_000):
            with poll_us(us), endless(pair.a) as proc:
                for _ in range(3):
                    pathlib.Path("/sys/power/state").write_text("freeze")
                    counts = Counts(pair.a)
                    wait_until(lambda c=counts: sum(c.rise().values()) > 100, 20)
                assert "ended" not in proc.out
                proc.kill()
            wait_until(thread.sleeps)
            pathlib.Path("/sys/power/state").write_text("freeze")
    finally:
        PM_TEST.write_text("none")
        delay.write_text(seconds)
    stream(pair.a, 1000, 64)


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs a CPU for the poller and one for everybody else")
def test_neighbour_keeps_its_cpu(pair):
    """A busy loop beside a poller that looks, and finds nothing, has 90 % of what the two have.

    With a debug kernel it has 75 %: each time that the poller wakes and looks takes several times as long there.
    """
    thread = Thread(pair.a)
    run(f"taskset -p 2 {thread.pid}")
    try:
        with poll_us(20_000_000), Bursts(pair.a) as b:
            # It would look for seconds.
            b.until_it_looks(thread)
            with Proc(["taskset", "2", "bash", "-c", "echo busy; while :; do :; done"]) as hog:
                # Until then it waits for its files.
                hog.wait_for("busy")
                loop = pathlib.Path(f"/proc/{hog.pid}")
                its = cpu_time(loop)
                wait_until(lambda: cpu_time(loop) - its > 100_000_000)
                its, mine = cpu_time(loop), thread.cpu()
                wait_until(lambda: cpu_time(loop) - its > 2_000_000_000)
                its, mine = cpu_time(loop) - its, thread.cpu() - mine
                print(f"the neighbour {its / 1e6:.0f} ms, the poller {mine / 1e6:.1f} ms")
                assert its >= (3 if DEBUG_KERNEL else 9) * mine
                # Posts do not wait for the end of the loop: the poller has its turn, or they are kicks.
                counts = Counts(pair.a)
                b.burst()
                print(f"beside the neighbour: {counts.rise()}")
                assert hog.running()
    finally:
        run(f"taskset -p ff {thread.pid}")


# Of a TCP stream.
SECONDS = 2


def tcp_rate(pair):
    """Bits per second that arrive of a TCP stream from a to b, of two programs on whatever CPUs they are given."""
    with pair.b.start(f"iperf3 -s -1 --forceflush -B {pair.b.ip}") as server:
        server.wait_for("listening")
        out = pair.a.run(f"iperf3 -J -t {SECONDS} -c {pair.b.ip}", timeout=TIMEOUT).out
    return json.loads(out[out.index("{") :])["end"]["sum_received"]["bits_per_second"]


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs a CPU for each end of the stream")
def test_tcp_keeps_its_rate(pair):
    """A busy TCP stream over the same netdev loses a tenth at most to a poller that looks, and finds nothing."""
    thread = Thread(pair.a)
    without, beside, took = [], [], []
    with Bursts(pair.a) as b:
        for _ in range(5):
            with poll_us(0):
                without.append(tcp_rate(pair))
            with poll_us(20_000_000):
                b.until_it_looks(thread)
                before = thread.cpu()
                beside.append(tcp_rate(pair))
                took.append(thread.cpu() - before)
    ratio = statistics.median(beside) / statistics.median(without)
    print(f"TCP beside the poller: {ratio:.3f} of {statistics.median(without) / 1e6:.0f} Mbit/s: {without}, {beside}")
    # If it has no CPU for too long it leaves its contexts, who kick.
    print(f"the poller took {statistics.median(took) / 1e6:.1f} ms of {SECONDS} s")
    assert ratio >= (0.75 if DEBUG_KERNEL else 0.9)


# Seconds that a post may take, in a VM that has no CPU for a while. The program itself gives up after 20.
SLOWEST = TIMEOUT / 6


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 2])
def test_no_wakeup_is_lost(either, rounds, processes):
    """Processes that post when the poller goes, is about to, or is still there: each is done, and told of, soon."""
    count, limit = 1000 * rounds, int(os.environ.get("RURDMA_PAUSE_US", "2000"))
    counts = Counts(either.a)
    seed = int(os.environ.get("RURDMA_SEED", "1"))
    with poll_us(limit), contextlib.ExitStack() as stack:
        procs = [either.a.start([VT, "pauses", either.a.ip, count, limit, seed + i]) for i in range(processes)]
        for p in procs:
            stack.enter_context(p)
        for p in procs:
            out = p.wait((1 + rounds) * TIMEOUT).out.strip()
            print(out)
            assert int(re.search(r"slowest (\d+) us", out)[1]) < SLOWEST * 1e6, out
            # Who looks once more after arming finds many done, and all if the poller has no CPU.
            assert int(re.search(r"events (\d+)", out)[1]) > 0, out
    got = counts.rise()
    print(f"{processes * count} transitions: {got}")
    if processes == 1:
        # Two leave it no CPU, where there are but two.
        assert got["poller_wakeups"] * 20 >= count, "the poller hardly ever came"
        # As above: what it finds in time is little under the debug kernel.
        assert got["polled"] * 20 >= (20 if DEBUG_KERNEL else count)


@pytest.mark.soak
def test_module_unloaded_while_it_polls(rounds):
    """The last one: the links of the others are gone then, too."""
    before = Holdings()
    for _ in range(min(rounds, 5)):
        with Pair() as p, poll_us(100000), endless(p.a):
            run("modprobe -r rurdma", timeout=30)
            assert not module_loaded()
            assert not threads(p.a)
        run("modprobe rurdma")
    before.returned()
