# SPDX-License-Identifier: GPL-2.0
"""Endurance: ends, removals and unloads at random moments under traffic, over either transport."""

import contextlib
import os
import random
import re
import time

import pytest
from rvm import TIMEOUT, Holdings, Pair, module_loaded, run, wait_until
from vm_fixtures import KINDS

pytestmark = pytest.mark.soak
OF_EACH_KIND = pytest.mark.parametrize("kind", KINDS)

PORT = 7500
LOADS = {
    "write": ("ib_write_bw -R -D 60 -F -s 65536", "ib_write_bw -R -D 60 -F -s 65536 {}"),
    "send": ("ib_send_bw -R -D 60 -F -s 30000", "ib_send_bw -R -D 60 -F -s 30000 {}"),
    "read": ("ib_read_bw -R -D 60 -F -s 65536", "ib_read_bw -R -D 60 -F -s 65536 {}"),
    "rping": ("rping -s", "rping -c -a {}"),
}
# What RoCE has besides.
ROCE_LOADS = {
    "datagrams": ("ib_send_bw -R -c UD -D 60 -F -s 1000", "ib_send_bw -R -c UD -D 60 -F -s 1000 {}"),
    "atomics": ("ib_atomic_bw -R -D 60 -F", "ib_atomic_bw -R -D 60 -F {}"),
}

# Of UD: IB_SIDR_UNSUPPORTED.
NOT_LISTENING = re.compile(r"RDMA_CM_EVENT_(REJECTED|UNREACHABLE; error: 1\.)")


@pytest.fixture(scope="module")
def pair(either):
    return either


@contextlib.contextmanager
def fresh(kind):
    """Two namespaces for one round."""
    with Pair(kind=kind) as p:
        yield p.settle()


# What connecting takes is a few KiB: whoever has sent more is in the middle of it.
TRAFFIC = 100000


def sent_by(p):
    """Bytes that both ends have sent: of a READ it is the other one."""
    return p.a.tx_bytes() + p.b.tx_bytes()


class Moments:
    """Server in a, client in b, each time at a random moment: every other time of their traffic, else of their start,
    or soon after it."""

    def __init__(self):
        self.random = random.Random(int(os.environ.get("RURDMA_SEED", "1")))
        self.sent = []

    @contextlib.contextmanager
    def traffic(self, p):
        loads = LOADS | (ROCE_LOADS if p.kind == "rurdma_roce" else {})
        server_cmd, client_cmd = self.random.choice(list(loads.values()))
        # With -R, perftest's server listens a second time when its client has asked the first, which does not wait.
        for _ in range(5):
            with p.a.start(f"exec {server_cmd}") as server:
                wait_until(lambda: p.a.listens() or not server.running())
                before = sent_by(p)
                with p.b.start(f"exec {client_cmd.format(p.a.ip)}") as client:
                    wait_until(lambda c=client: p.b.resources("qp") or not c.running())
                    if len(self.sent) % 2:
                        wait_until(lambda c=client, n=before: sent_by(p) - n > TRAFFIC or not c.running())
                    # Half a second; where all takes several times as long, several times that.
                    time.sleep(self.random.random() * TIMEOUT / 120)
                    if not client.running() and NOT_LISTENING.search(client.out):
                        continue
                    assert server.running() and client.running(), f"{client.cmd}: {server.out}{client.out}"
                    self.sent.append(sent_by(p) - before)
                    yield server, client
                    return
        raise AssertionError(f"{client.cmd}: {client.out}")

    def were_busy(self):
        """Half of the rounds were in the middle of it."""
        print(f"bytes that had been sent by then: {sorted(self.sent)}")
        assert sum(n > TRAFFIC for n in self.sent) >= len(self.sent) // 2, "hardly ever was there traffic"


def nothing_left(*nodes):
    for n in nodes:
        wait_until(lambda n=n: not n.in_use(), 40, lambda n=n: f"{n.name}: left over: {n.in_use()}")


@pytest.mark.parametrize("victim", ["client", "server"])
def test_killed_under_traffic(pair, rounds, victim):
    """SIGKILL of one end at a random moment: all of it is given back."""
    before, moments = Holdings(), Moments()
    for _ in range(rounds):
        with moments.traffic(pair) as (server, client):
            dead = client if victim == "client" else server
            dead.kill()
            dead.wait(30, check=False)
        nothing_left(pair.a, pair.b)
    before.returned()
    moments.were_busy()


def test_link_deleted_under_traffic(pair, rounds):
    """`rdma link del` at either end does not wait for the processes."""
    before, moments = Holdings(), Moments()
    for i in range(min(rounds, 50)):
        x = pair.a if i % 2 else pair.b
        with moments.traffic(pair):
            x.run(f"rdma link del {x.dev}", timeout=30)
            assert not x.links()
        nothing_left(x.peer)
        x.link_add(x.dev, x.netdev, pair.kind)
        pair.settle()
    before.returned()
    moments.were_busy()


def test_link_deleted_while_connecting(pair, rounds):
    """Connections are made over it, of both ends at once, a little further each time when the link goes."""
    before, x, moment = Holdings(), pair.a, random.Random(int(os.environ.get("RURDMA_SEED", "1")))
    rounds, in_time = min(rounds, 150), 0
    for _ in range(rounds):
        with x.start("exec ucmatose -c 100") as server:
            wait_until(lambda: x.listens() or not server.running())
            with x.start(f"exec ucmatose -c 100 -s {x.ip}") as client:
                time.sleep(moment.random() * TIMEOUT / 600)
                in_time += client.running()
                x.run(f"rdma link del {x.dev}", timeout=30)
                assert not x.links()
        nothing_left(x)
        x.link_add(x.dev, x.netdev, pair.kind)
        pair.settle()
    before.returned()
    assert in_time * 5 >= rounds or rounds < 10, f"all were made before in all but {in_time} rounds"


@OF_EACH_KIND
def test_netdev_removed_under_traffic(module, rounds, kind):
    """The netdev goes, the link with it."""
    before, moments = Holdings(), Moments()
    for i in range(min(rounds, 50)):
        with fresh(kind) as p:
            x = p.a if i % 2 else p.b
            with moments.traffic(p):
                x.run(f"ip link del {x.netdev}", timeout=30)
                # The other end of the veth is gone too.
                wait_until(lambda p=p: not p.a.links() and not p.b.links(), 30)
    before.returned()
    moments.were_busy()


@OF_EACH_KIND
def test_namespace_deleted_under_traffic(module, rounds, kind):
    """Its processes die, its netdev goes; the peer is not kept."""
    before, moments = Holdings(), Moments()
    for i in range(min(rounds, 50)):
        with fresh(kind) as p:
            x = p.a if i % 2 else p.b
            with moments.traffic(p):
                x.__exit__()
                wait_until(lambda x=x: not x.peer.links(), 30)
    before.returned()
    moments.were_busy()


@OF_EACH_KIND
def test_module_unloaded_under_traffic(rounds, kind):
    """modprobe -r does not wait for the processes."""
    before, moments = Holdings(), Moments()
    for _ in range(min(rounds, 50)):
        with fresh(kind) as p, moments.traffic(p):
            run("modprobe -r rurdma", timeout=30)
            assert not module_loaded()
    before.returned()
    moments.were_busy()
    run("modprobe rurdma")
