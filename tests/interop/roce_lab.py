# SPDX-License-Identifier: GPL-2.0
"""A puppet on a rurdma_roce link, a peer that plays by no rules at the other end of the wire, and a bystander.

The QPs are connected by hand: the peer is what the puppet is told. Their packet numbers wrap after a few
packets, in every test.
"""

import contextlib
import json
import random
from types import SimpleNamespace

import pytest
import roce_peer as rp
from ends import Puppet, Refused, message
from roce_peer import ACK, ENDS, RocePeer, plus
from rvm import Pair, gid_index, run, wait_until

# The peer's QP, and the first packet numbers: of what the peer asks, of what the puppet asks.
PEER_QPN = 0xABCDEF
RQ_PSN, SQ_PSN = rp.PSNS - 2, rp.PSNS - 3
MTU = 1024
INIT, RTR, RTS, SQD, ERROR = 1, 2, 3, 4, 6
# Of completions; of asynchronous events.
TOO_LONG, PROTECTION, FLUSHED, BAD_RESPONSE, INVALID, ACCESS, OPERATION = 1, 4, 5, 7, 9, 10, 11
RETRY, RNR_RETRY = 12, 13
EVENT_FATAL, EVENT_REQUEST, EVENT_ACCESS, EVENT_ESTABLISHED, EVENT_DRAINED = 1, 2, 3, 4, 5
# A capture that begins and ends; what the core has to say of a request whose P_Keys differ, of MADs that make no
# sense or come from nowhere, of links that come and go.
MAY_BE_TOLD = (
    "promiscuous mode",
    "RDMA CMA: got different BTH P_Key",
    "RDMA CMA: in the future this may cause",
    "ib_core: MAD received with unsupported base version",
    "ib_create_ah_from_wc error",
    "speed is unknown, defaulting to",
    ": Port: 1 Link ",
)


class Session:
    """A QP of the puppet's (`p`), `qpn`, and the peer that it is connected to.

    `addr` and `key` are the puppet's memory, all of it, for all but atomics. `psn` is that of the peer's next
    request, `msn` how many messages of the peer's were completed; `sq` that of the puppet's next request.
    """

    def __init__(self, p, peer, kind, qpn):
        self.p, self.peer, self.kind, self.qpn = p, peer, kind, qpn
        self.service = {"rc": rp.RC, "uc": rp.UC, "ud": rp.UD}[kind]
        self.psn, self.sq, self.msn = RQ_PSN, SQ_PSN, 0
        region = p("region 0 0 4096")
        self.addr, self.key = region["addr"], region["key"]

    def region(self, rights, off=0, n=4096):
        """Other memory: (address, key)."""
        r = self.p(f"region {rights} {off} {n}")
        return r["addr"], r["key"]

    def peek(self, off, n):
        return bytes.fromhex(self.p(f"peek {off} {n}")["data"]) if n else b""

    def poke(self, off, data):
        self.p(f"poke {off} {data.hex()}")

    # --- the peer asks ---

    def say(self, op, psn, *ext, **kw):
        """A packet of the QP's service, whatever its number."""
        self.peer.send(self.service | op, psn, *ext, **kw)

    def ask(self, op, *ext, packets=1, ack=True, **kw):
        """The next request, whose answer has so many packets. Returns its number."""
        psn = self.psn
        self.say(op, psn, *ext, ack=ack, **kw)
        self.psn = plus(psn, packets)
        self.msn += op in ENDS
        return psn

    def recv_answer(self):
        """A packet to the peer's QP, with what all answers have in common."""
        a = self.peer.recv()
        assert (a.qpn, a.pkey, a.tver, a.se, a.ack) == (PEER_QPN, 0xFFFF, 0, False, False), a
        return a

    def told(self, psn, syndrome=ACK, msn=None):
        """The next packet says this of the packet `psn`."""
        a = self.recv_answer()
        msn = self.msn if msn is None else msn
        assert (a.op, a.psn, a.syndrome, a.msn) == (rp.ACKNOWLEDGE, psn, syndrome, msn), (psn, syndrome, msn, a)
        assert a.payload == b""
        return a

    def works(self, n=100):
        """A message of the peer's arrives and is acknowledged, and nothing else is said before that."""
        data = random.randbytes(n)
        self.p("recv 65536 4096")
        self.told(self.ask(rp.SEND_ONLY, payload=data))
        assert self.p.good()["len"] == n
        assert self.peek(65536, n) == data

    def read_answer(self, psn, n, mtu=MTU):
        """The packets of a read's answer; their numbers and places are right. Returns the data."""
        data = b""
        count = max(1, -(-n // mtu))
        for i in range(count):
            a = self.recv_answer()
            first, last = i == 0, i == count - 1
            op = (rp.READ_MIDDLE, rp.READ_LAST, rp.READ_FIRST, rp.READ_ONLY)[2 * first + last]
            assert (a.op, a.psn, len(a.payload)) == (op, plus(psn, i), n - len(data) if last else mtu), a
            if first or last:
                assert (a.syndrome, a.msn) == (ACK, self.msn), a
            data += a.payload
        return data

    # --- the puppet asks ---

    def asked(self, op, n=None, ack=None):
        """The puppet's next packet, with the next number."""
        q = self.peer.recv()
        assert (q.op, q.psn) == (self.service | op, self.sq), (hex(op), self.sq, q)
        assert (q.qpn, q.pkey, q.tver) == (PEER_QPN, 0xFFFF, 0), q
        assert n is None or len(q.payload) == n, q
        assert ack is None or q.ack == ack, q
        self.sq = plus(self.sq)
        return q

    def tell(self, psn, syndrome=ACK, msn=0):
        """An acknowledge for the puppet."""
        self.peer.send(rp.ACKNOWLEDGE, psn, rp.aeth(syndrome, msn))

    # --- the end ---

    def state(self):
        return self.p("state")["state"]

    def failed(self, event=None):
        """The QP is in error; its owner was told why, or nothing."""
        wait_until(lambda: self.state() == ERROR, 5, lambda: f"state {self.state()}")
        if event:
            assert self.p("async 5000")["event"] == event
        else:
            with pytest.raises(Refused):
                self.p("async 0")

    def undisturbed(self):
        """The QP works, its owner heard of nothing, and nobody was told anything."""
        assert self.state() == RTS
        with pytest.raises(Refused):
            self.p("async 0")
        assert self.peer.quiet(0.03)

    def nothing_completed(self):
        with pytest.raises(Refused):
            self.p("poll 20")


class RoceLab(SimpleNamespace):
    """The puppet, the node where it is, the peer, and the peer's node."""

    @contextlib.contextmanager
    def qp(self, kind="rc", peer_qpn=PEER_QPN, **how):
        """A QP of the puppet's, see "qp" of puppet.c."""
        self.puppet("destroy")
        self.peer.drain()
        args = " ".join(f"{k}={v}" for k, v in how.items())
        made = self.puppet(f"qp {kind} {self.a.ip} {self.b.ip} {peer_qpn} {RQ_PSN} {SQ_PSN} {args}")
        self.peer.qpn = made["qpn"]
        yield Session(self.puppet, self.peer, kind, made["qpn"])

    def counter(self, name):
        """One of the device's, as `rdma statistic` shows it."""
        (row,) = json.loads(self.a.run(f"rdma -j statistic show link {self.a.dev}/1").out)
        return row[name]


@pytest.fixture(scope="module")
def roce_pair(module):
    """A namespace with a rurdma_roce link, and one without."""
    with Pair(kind="rurdma_roce", links=False) as p:
        p.a.link_add(p.a.dev, p.a.netdev, p.kind)
        p.offloads_off()
        wait_until(lambda: gid_index(p.a.dev, p.a.ip, p.a.name) is not None)
        yield p


@pytest.fixture(scope="module")
def roce_lab(roce_pair):
    a, b = roce_pair.a, roce_pair.b
    with Puppet(a) as puppet, RocePeer(b.name, b.ip, a.ip) as peer:
        yield RoceLab(puppet=puppet, a=a, b=b, peer=peer)


def joined(mine, other, address):
    """Two puppets on one device, whose QPs are connected to each other by hand."""
    one = mine(f"qp rc {address} {address} 0 7 9 to=init")["qpn"]
    two = other(f"qp rc {address} {address} {one} 9 7")["qpn"]
    mine(f"modify rtr dest={two}")
    mine("modify rts")


@pytest.fixture(scope="module")
def roce_bystander(roce_pair):
    """Another connection of the same device, which nobody bothers."""
    a = roce_pair.a
    with Puppet(a) as mine, Puppet(a) as other:
        joined(mine, other, a.ip)
        yield mine, other


@pytest.fixture
def roce_harmless(roce_bystander, kernel_log):
    """After each test the bystander's connection works, and the kernel has said nothing."""
    yield
    mine, other = roce_bystander
    message(other, mine)
    message(mine, other)
    assert not [x for x in kernel_log.poll() if not any(told in x for told in MAY_BE_TOLD)]


def extra_address(node, suffix):
    """Another address of the node's netdev."""
    ip = node.ip.rsplit(".", 1)[0] + f".{suffix}"
    run(f"ip -n {node.name} addr add {ip}/24 dev {node.netdev}", check=False)
    return ip
