# SPDX-License-Identifier: GPL-2.0
"""What the VM tests are written with: commands, namespaces, links, kernel log."""

import contextlib
import errno
import itertools
import json
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import subprocess
import time

import pytest

# An emulated VM on a busy machine is slow: limits are for what hangs.
TIMEOUT = float(os.environ.get("RURDMA_TIMEOUT", "60"))
# That of virtme-debug.conf: what it measures is the sanitizers.
DEBUG_KERNEL = os.uname().release.endswith("-debug")


def reports_of(lines):
    """The lines from the first report on (scripts/reports.txt says what one is)."""
    rules = (pathlib.Path(__file__).resolve().parents[2] / "scripts/reports.txt").read_text().splitlines()
    rules = [x for x in rules if x and not x.startswith("#")]
    bad = re.compile("|".join(x for x in rules if not x.startswith("!")))
    good = re.compile("|".join(x.removeprefix("! ") for x in rules if x.startswith("!")))
    for i, line in enumerate(lines):
        if bad.search(line) and not good.search(line):
            return lines[i:]
    return []


# What the module itself says, and a test has to announce (Kmsg.says()).
ASKED_FOR = re.compile(r"\brurdma: .*UDP port")


def unasked(lines, announced):
    """What the module said of these lines that no test was to bring about."""
    return [x for x in lines if ASKED_FOR.search(x) and x not in announced]


class Failed(AssertionError):
    """A command that ended otherwise than it should."""


class Result:
    def __init__(self, cmd, rc, out):
        self.cmd, self.rc, self.out = cmd, rc, out

    def __repr__(self):
        return f"<{self.cmd!r}: {self.rc}\n{self.out}>"


# A command that needs no shell.
PLAIN = re.compile(r"[\w./:@%+,-]+( +[\w./:@%+,=-]+)*")


def arguments(cmd):
    """Of a command line: by a shell only if it takes one, for under emulation a shell takes its time."""
    words = cmd.removeprefix("exec ").split()
    if PLAIN.fullmatch(" ".join(words)) and shutil.which(words[0]):
        return words
    return ["bash", "-c", cmd]


class Proc:
    """A command in the background; output is collected, the end is bounded."""

    def __init__(self, cmd, netns=None, env=None):
        argv = arguments(cmd) if isinstance(cmd, str) else list(map(str, cmd))
        if netns:
            argv = ["innetns", netns, *argv]
        self.cmd = cmd if isinstance(cmd, str) else shlex.join(map(str, cmd))
        self._log = pathlib.Path(f"/tmp/proc-{next(_serial)}.log")
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self):
        return self.popen.pid

    @property
    def out(self):
        return self._log.read_text(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def kill(self, sig=signal.SIGKILL):
        """The whole process group: tools start helpers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, sig)

    def _ends(self, timeout):
        """Whether it ends within so many seconds. (Popen.wait() would look only every now and then.)"""
        if self.running():
            fd = os.pidfd_open(self.pid)
            try:
                select.select([fd], [], [], timeout)
            finally:
                os.close(fd)
        return not self.running()

    def _end(self):
        """Kills it; fails the test if that does not end it."""
        self.kill()
        if not self._ends(TIMEOUT / 2):
            where = pathlib.Path(f"/proc/{self.pid}/stack").read_text()
            raise Failed(f"{self.cmd}: hangs and cannot be killed\n{self.out}\n{where}")

    def wait(self, timeout=None, check=True, where=None):
        """Waits for the end; a command that hangs is killed and fails the test, with what `where` says of it."""
        if not self._ends(timeout or TIMEOUT):
            more = where() if where else ""
            self._end()
            raise Failed(f"{self.cmd}: hangs\n{self.out}{more}")
        if check and self.popen.returncode != 0:
            raise Failed(f"{self.cmd}: exit code {self.popen.returncode}\n{self.out}")
        return Result(self.cmd, self.popen.returncode, self.out)

    def wait_for(self, pattern, timeout=None):
        """Waits until the output matches."""
        return wait_until(lambda: re.search(pattern, self.out), timeout, f"{self.cmd}: no {pattern!r} in\n{self.out}")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.running():
            self._end()


_serial = itertools.count(1)


def run(cmd, *, netns=None, timeout=None, check=True, env=None):
    """Runs a command to its end; `check=False` hands a bad exit code back."""
    return Proc(cmd, netns, env).wait(timeout, check)


def wait_until(what, timeout=None, message="condition did not come true"):
    end = time.monotonic() + (timeout or TIMEOUT)
    while True:
        got = what()
        if got:
            return got
        if time.monotonic() > end:
            raise Failed(message() if callable(message) else message)
        time.sleep(0.05)


@contextlib.contextmanager
def cgroup(controller, limit):
    """A cgroup with a limit of the controller's, for a shell to move into."""
    top = pathlib.Path("/sys/fs/cgroup")
    group = top / f"vt-{controller}"
    (top / "cgroup.subtree_control").write_text(f"+{controller}")
    group.mkdir()
    try:
        (group / f"{controller}.max").write_text(str(limit))
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@contextlib.contextmanager
def huge_pages(n):
    """A pool of so many, of the default size."""
    pool = pathlib.Path("/proc/sys/vm/nr_hugepages")
    if not pool.exists():
        pytest.skip("this kernel has no huge pages (CONFIG_HUGETLBFS)")
    pool.write_text(str(n))
    try:
        got = int(pool.read_text())
        assert got >= n, f"there are {got} huge pages, not {n}"
        yield
    finally:
        pool.write_text("0")


POLL_US = pathlib.Path("/sys/module/rurdma/parameters/poll_us")


def module_loaded(name="rurdma"):
    return pathlib.Path(f"/sys/module/{name}").exists()


@contextlib.contextmanager
def poll_us(us):
    """The longest that a poller looks without finding anything."""
    before = POLL_US.read_text()
    POLL_US.write_text(str(us))
    try:
        yield
    finally:
        if module_loaded():
            POLL_US.write_text(before)


def pinned():
    """Pages that are pinned on the whole machine and not given back."""
    # Each CPU counts by itself, and adds it to the sums now and then; this makes all of them do so.
    pathlib.Path("/proc/sys/vm/stat_refresh").read_bytes()
    vm = dict(re.findall(r"^(nr_foll_pin\w+) (\d+)", pathlib.Path("/proc/vmstat").read_text(), re.M))
    return int(vm["nr_foll_pin_acquired"]) - int(vm["nr_foll_pin_released"])


def ring_memory():
    """Bytes of vmalloc memory that the module allocated and did not give back.

    A module that is unloaded has no names any more: then its memory is that of a bare address.
    """
    text = pathlib.Path("/proc/vmallocinfo").read_text()
    return sum(int(m[1]) for m in re.finditer(r"^\S+\s+(\d+) (?:0x[0-9a-f]+|.*\[rurdma\]) pages=", text, re.M))


class Holdings:
    """What the machine has pinned and the module has allocated, from here on."""

    def __init__(self):
        self.pages, self.bytes = pinned(), ring_memory()

    def returned(self):
        """Waits until no more is held than at the beginning. The last of a mapping goes with its process."""
        wait_until(lambda: pinned() <= self.pages, 20, lambda: f"{pinned() - self.pages} pages are pinned still")
        wait_until(
            lambda: ring_memory() <= self.bytes, 20, lambda: f"{ring_memory() - self.bytes} bytes of rings are left"
        )


class Kmsg:
    """The kernel log from now on."""

    def __init__(self):
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)
        self.lines = []
        self._announced = []

    def poll(self):
        while True:
            try:
                rec = os.read(self._fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return self.lines
            except OSError as e:
                if e.errno == errno.EPIPE:  # overwritten before it was read
                    continue
                raise
            self.lines.append(rec.split(";", 1)[-1].split("\n", 1)[0])

    def reports(self):
        return reports_of(self.poll()) or unasked(self.lines, self._announced)

    @contextlib.contextmanager
    def says(self, pattern):
        """Meanwhile the module says this, once."""
        before = len(self.poll())
        yield
        said = [x for x in self.poll()[before:] if ASKED_FOR.search(x)]
        assert len(said) == 1 and re.search(pattern, said[0]), said
        self._announced += said

    def close(self):
        os.close(self._fd)


class Node:
    """A network namespace; removed, with what runs in it, at the end."""

    def __init__(self, name=None):
        self.name = name or f"n{next(_serial)}"

    def __enter__(self):
        run(f"ip netns add {self.name} 2>/dev/null; ip -n {self.name} link set lo up")
        return self

    def __exit__(self, *exc):
        self.kill()
        run(f"ip netns del {self.name}", check=False)

    def kill(self):
        """What runs in it."""
        with contextlib.suppress(FileNotFoundError):
            here = pathlib.Path(f"/run/netns/{self.name}")
            for p in pathlib.Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if here.samefile(p / "ns/net"):
                        os.kill(int(p.name), signal.SIGKILL)

    def run(self, cmd, **kw):
        return run(cmd, netns=self.name, **kw)

    def start(self, cmd, **kw):
        """In the background; use it as a context manager."""
        return Proc(cmd, self.name, **kw)

    def json(self, cmd):
        got = self.run(cmd, check=False)
        if got.rc != 0 and not re.search("Invalid argument|No such device", got.out):
            raise Failed(f"{got.cmd}: exit code {got.rc}\n{got.out}")
        if got.rc != 0:
            # rdma(8) asks for one device after the other; it gives up when one goes in the meantime.
            got = self.run(cmd)
        return json.loads(got.out) if got.out.strip() else []

    # --- RDMA ---

    def counter(self, name, dev=None):
        """One of a link's own counters, as `rdma statistic` tells them."""
        out = self.run(f"rdma statistic show link {dev or self.dev}/1").out
        found = re.search(rf"\b{name} (\d+)", out)
        assert found, out
        return int(found[1])

    def tx_bytes(self, netdev=None):
        """What the netdev has sent."""
        return int(self.run(f"cat /sys/class/net/{netdev or self.netdev}/statistics/tx_bytes").out)

    def rx_bytes(self, netdev=None):
        """What the netdev has received."""
        return int(self.run(f"cat /sys/class/net/{netdev or self.netdev}/statistics/rx_bytes").out)

    def link_add(self, name, netdev, kind="rurdma", check=True):
        return self.run(f"rdma link add {name} type {kind} netdev {netdev}", check=check)

    def link_del(self, name, check=True):
        return self.run(f"rdma link del {name}", check=check)

    def links(self):
        return {x["ifname"]: x for x in self.json("rdma -j link show")}

    def resources(self, kind, dev=None):
        """`rdma resource show KIND`, without what the kernel itself holds."""
        rows = self.json(f"rdma -j resource show {kind}" + (f" dev {dev}" if dev else ""))
        return [r for r in rows if "pid" in r]

    def listens(self):
        """Whether somebody waits for connections; an id that is bound refuses them still.

        rdma_listen() sets the state first, and then has the devices listen. Who waits for a request, and sleeps, is
        through with that.
        """
        owners = {r["pid"] for r in self.resources("cm_id") if r.get("state") == "LISTEN"}
        return bool(owners) and all(sleeps(pid) for pid in owners)

    def serves(self):
        """The same, and whether somebody waits for those of TCP: programs that exchange addresses by it."""
        return bool(self.run("ss -tlnH").out.strip()) or self.listens()

    def in_use(self):
        """What of `rdma resource show` is not zero: (device, kind, count)."""
        kinds = ("pd", "cq", "qp", "cm_id", "mr", "ctx", "srq")
        # The kernel's own QP for management is always there, with what it needs.
        own = {r["ifname"] for r in self.json("rdma -j resource show qp") if r.get("type") == "GSI"}
        left = [
            (dev["ifname"], kind, dev.get(kind, 0) - (dev["ifname"] in own and kind in ("pd", "cq", "qp")))
            for dev in self.json("rdma -j resource show")
            for kind in kinds
        ]
        return [row for row in left if row[2]]


def sleeps(pid):
    """Whether the process waits for an event."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(") ")[2].startswith("S")
    except FileNotFoundError:
        return False


def pingpong_is_intact(out):
    """ibv_*_pingpong -c looks at what it receives, at the server. It says what it finds, and ends well all the same."""
    assert "invalid data" not in out, out


def ip_batch(*lines, netns=None, check=True):
    """Commands of ip(8), by one process. `check=False`: one that fails does not keep the others from being run."""
    batch = pathlib.Path(f"/tmp/ip-{next(_serial)}")
    batch.write_text("\n".join(lines) + "\n")
    return run(["ip", *(["-n", netns] if netns else []), *([] if check else ["-force"]), "-batch", batch], check=check)


def gid_index(dev, ip, netns=None):
    """Where an address stands in the GID table of a RoCE device; None: not there."""
    for line in run(f"ibv_devinfo -v -d {dev}", netns=netns).out.splitlines():
        if re.search(rf"GID\[.*[\s:]{re.escape(ip)},", line):
            return int(re.search(r"\[\s*(\d+)\]", line)[1])
    return None


class Pair:
    """Two nodes and a veth between them, addresses of both families, a link in each.

    a.dev, a.netdev, a.ip, a.ip6 (and b's); links=False leaves the links out.
    """

    def __init__(self, mtu=1500, links=True, kind="rurdma"):
        self.mtu, self.links, self.kind = mtu, links, kind
        n = next(_serial)
        self.a, self.b = Node(f"a{n}"), Node(f"b{n}")
        for i, x in enumerate((self.a, self.b), 1):
            x.netdev, x.dev = f"v{x.name}", f"rw{x.name}"
            x.ip, x.ip6 = f"10.0.{n % 250}.{i}", f"fd00:{n:x}::{i}"
        self.a.peer, self.b.peer = self.b, self.a

    def __enter__(self):
        a, b = self.a, self.b
        ip_batch(
            f"netns add {a.name}",
            f"netns add {b.name}",
            f"link add {a.netdev} mtu {self.mtu} netns {a.name} type veth "
            f"peer name {b.netdev} mtu {self.mtu} netns {b.name}",
        )
        for x in (a, b):
            ip_batch(
                "link set lo up",
                f"addr add {x.ip}/24 dev {x.netdev}",
                f"addr add {x.ip6}/64 dev {x.netdev} nodad",
                f"link set {x.netdev} up",
                netns=x.name,
            )
        if self.links:
            for x in (a, b):
                x.link_add(x.dev, x.netdev, self.kind)
        return self

    def __exit__(self, *exc):
        for x in (self.a, self.b):
            x.kill()
        # One of them may be gone already.
        ip_batch(*(f"netns del {x.name}" for x in (self.a, self.b)), check=False)

    def settle(self, ip6=False):
        """Waits until both links can be used. RoCE's ports have their addresses a moment after the link is there.

        `ip6`: those of IPv6, too.
        """
        for x in (self.a, self.b):
            wait_until(lambda x=x: x.links()[x.dev]["state"] == "ACTIVE")
            if self.kind == "rurdma_roce":
                for ip in (x.ip, x.ip6) if ip6 else (x.ip,):
                    wait_until(lambda x=x, ip=ip: gid_index(x.dev, ip, x.name) is not None)
        return self

    def impair(self, netem):
        """The wire is no good any more, as tc-netem(8) has it. Both ends know where the other one is: to find that out
        RoCE gives the kernel a second.
        """
        self.a.run(f"ping -c 1 -W 20 {self.b.ip}")
        for x in (self.a, self.b):
            x.run(f"tc qdisc add dev {x.netdev} root netem {netem}")

    def offloads_off(self):
        """Captures and netem then see packets, not super-packets."""
        for x in (self.a, self.b):
            x.run(f"ethtool -K {x.netdev} tso off gso off gro off tx-udp-segmentation off", check=False)

    def offloads_on(self):
        """Super-packets are sent whole, and put together at the receiver."""
        for x in (self.a, self.b):
            x.run(f"ethtool -K {x.netdev} tso on gso on gro on tx-udp-segmentation on")
