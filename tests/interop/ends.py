# SPDX-License-Identifier: GPL-2.0
"""Servers and clients of the tools that tests start in pairs."""

import contextlib
import json
import os
import random
import re
import select
import subprocess

from rvm import Failed, Proc, run, wait_until


def listening(netns, pgid):
    """Whether a process of the group has a listening cm_id."""
    rows = json.loads(run("rdma -j resource show cm_id", netns=netns).out or "[]")
    for r in rows:
        if r.get("state") == "LISTEN" and "pid" in r:
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(r["pid"]) == pgid:
                    return True
    return False


@contextlib.contextmanager
def serve(node, cmd, wait=True, **kw):
    """A server that listens; whoever leaves it early is killed. `node` None: first namespace."""
    netns = node.name if node else None
    with Proc(cmd, netns, **kw) as p:
        if wait:
            wait_until(
                lambda: listening(netns, p.pid) or not p.running(), message=lambda: f"{cmd}: no listener\n{p.out}"
            )
        yield p


def run_at(node, cmd, **kw):
    return run(cmd, netns=node.name if node else None, **kw)


def both(server, client, server_cmd, client_cmd, timeout=None):
    """A server and a client that both end well. Returns their outputs."""
    with serve(server, server_cmd) as s:
        try:
            out = run_at(client, client_cmd, timeout=timeout).out
        except AssertionError as e:
            raise AssertionError(f"{e}\n--- server\n{s.out}") from None
        s.wait()
        return s.out, out


def perftest(server, client, address, tool, args=""):
    """One run of a perftest program over rdma_cm; the rows of its table."""
    cmd = f"{tool} -R -F {args}"
    _, out = both(server, client, cmd, f"{cmd} {address}", timeout=120)
    rows = [[float(x) for x in line.split()] for line in out.splitlines() if re.match(r"\s*\d+\s+\d+\s", line)]
    assert rows, out
    return rows


class Refused(Exception):
    """What a puppet was told to do did not work; `errno` says why."""

    def __init__(self, cmd, answer):
        super().__init__(f"{cmd}: {answer}")
        self.errno = int(answer.split()[1])


class Puppet:
    """An end of an RDMA connection that does what it is told, see puppet.c.

    p("poll 100") gives {"wr": 1, ...}; numbers come as numbers.
    """

    def __init__(self, node=None):
        argv = ["innetns", node.name, "puppet"] if node else ["puppet"]
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.proc.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.proc.wait(10)
        self.proc.stdin.close()
        self.proc.stdout.close()

    def kill(self):
        self.proc.kill()
        self.proc.wait(10)

    def __call__(self, cmd, timeout=60):
        self.proc.stdin.write(cmd + "\n")
        if not select.select([self.proc.stdout], [], [], timeout)[0]:
            raise Failed(f"puppet hangs in {cmd[:200]}")
        answer = self.proc.stdout.readline()
        if not answer.startswith("ok"):
            raise Refused(cmd[:200], answer or "err 0 the puppet is dead")
        pairs = (x.split("=", 1) for x in answer.split()[1:])
        return {k: int(v) if re.fullmatch(r"-?\d+", v) and k not in ("pd", "data", "sum") else v for k, v in pairs}

    def event(self, want=None, ms=20000):
        e = self(f"event {ms}", 40 + ms / 1000)
        e["event"] = e["event"].removeprefix("RDMA_CM_EVENT_")
        if want:
            assert e["event"] == want, e
        return e

    def request(self, ms=20000):
        e = self(f"request {ms}")
        assert e["event"] == "RDMA_CM_EVENT_CONNECT_REQUEST", e
        return e

    def poll(self, ms=10000):
        return self(f"poll {ms}")

    def good(self, ms=10000):
        """The next completion, which must be a success."""
        wc = self.poll(ms)
        assert wc["status"] == 0, wc
        return wc


def pd_of(e):
    """The private data of an event."""
    return b"" if e["pd"] == "-" else bytes.fromhex(e["pd"])


def exchange(x, y, n, flags=""):
    """A message of n bytes from x to y."""
    x(f"fill 0 {n} {n}")
    y("recv 262144 262144")
    x(f"send 0 {n} {flags}")
    wc = y.good()
    assert wc["len"] == n
    x.good()
    assert x(f"sum 0 {n}") == y(f"sum 262144 {n}")
    return wc


def join(server, client, address, port, pd=b"", reply=b"", depths=(4, 4)):
    """Connects two puppets, the server listening already; both get their events."""
    ird, ord_ = depths
    client(f"connect {address} {port} {ird} {ord_} {pd.hex() or '-'}")
    asked = server.request()
    server(f"accept {ird} {ord_} {reply.hex() or '-'}")
    up = client.event("ESTABLISHED")
    server.event("ESTABLISHED")
    return asked, up


def message(sender, receiver):
    """A SEND from one puppet to the other, whose connection works."""
    receiver("recv 8192 4096")
    sender(f"fill 0 3000 {random.randrange(1 << 20)}")
    sender("send 0 3000")
    assert receiver.good()["len"] == 3000
    sender.good()
    assert receiver("sum 8192 3000") == sender("sum 0 3000")
