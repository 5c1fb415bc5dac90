# SPDX-License-Identifier: GPL-2.0
"""Noise and mutated packets with a good ICRC, for QPs of each kind in each state, and for QP 1.

What is said is drawn from a seed (mutations.py). After each test a connection of the same device works that nobody
bothered, QPs of each kind can be made and used, a connection can be established, and the kernel log is empty.
"""

import contextlib
import socket
import struct
import threading
import time

import cm_mads as cm
import pytest
import roce_peer as rp
from cm_mads import from_gsi, to_gsi
from ends import Puppet, Refused, join
from mpa_peer import in_netns
from mutations import mutate, noise
from roce_lab import ERROR, MTU, joined
from roce_peer import plus
from rvm import gid_index, run, wait_until

pytestmark = [pytest.mark.usefixtures("roce_harmless"), pytest.mark.soak]
PORT = 7471
PACKETS = 40  # of a round
RECEIVES = 5


@pytest.fixture(autouse=True)
def works_afterwards(roce_lab):
    yield
    with roce_lab.qp() as s:
        s.works()
    for kind, head in (("uc", ()), ("ud", (rp.deth(rp.QKEY, 5),))):
        with roce_lab.qp(kind) as s:
            s.p("recv 4096 100")
            s.say(rp.SEND_ONLY, s.psn, *head, payload=b"fine")
            assert s.p.good()["len"] == (44 if head else 4)


def send_raw(peer, packet):
    """Of an IP header that makes no sense the sender's own stack may want to know nothing."""
    with contextlib.suppress(OSError):
        peer.raw(packet)


# --- noise ------------------------------------------------------------------------


def test_noise(roce_lab, seeds):
    """Datagrams of random bytes, from any port, of any length, in fragments too."""
    a, b = roce_lab.a, roce_lab.b
    with in_netns(b.name):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with udp:
        for rng in seeds:
            for _ in range(PACKETS):
                n = rng.choice([0, 1, 7, 11, 12, 15, 16, 20, 64, 600, 1400, 5000, 65507])
                udp.sendto(rng.randbytes(n), (a.ip, rp.PORT))
                send_raw(roce_lab.peer, roce_lab.peer.datagram(rng.randbytes(rng.randrange(100))))


def test_mutated_datagrams(roce_lab, seeds):
    """Good packets with something changed anywhere from the IP header on."""
    for rng in seeds:
        with victim(roce_lab, "rc") as s:
            for _ in range(PACKETS):
                send_raw(s.peer, mutate(rng, s.peer.datagram(packet(rng, s))))


# --- packets for QPs -----------------------------------------------------------------


def extended(rng, s, op):
    """Headers and payload that this operation could have."""
    n = rng.choice([0, 1, 4, 8, 300, MTU])
    addr = s.addr + rng.choice([0, 0, 8, 4, rng.randrange(1 << 20)])
    key = rng.choice([s.key, s.all_rights, s.all_rights, rng.getrandbits(32)])
    length = rng.choice([n, n, 8, 2 * MTU + 1, rng.getrandbits(32)])
    payload = rng.randbytes(n)
    ext = {
        "imm": rp.imm(n),
        "ieth": rp.ieth(key),
        "reth": rp.reth(addr, key, length),
        "atomic": rp.atomic_eth(addr & ~7, key, n, rng.getrandbits(1)),
        "aeth": rp.aeth(rng.choice([rp.ACK, rp.RNR | rng.randrange(32), 0x60 | rng.randrange(4)]), n),
        "original": rp.atomic_ack(n),
        "feth": rp.feth(rng.randrange(4), rng.randrange(3)),
    }
    if op in (rp.READ_REQUEST, rp.CMP_SWAP, rp.FETCH_ADD, rp.FLUSH, rp.ACKNOWLEDGE, rp.ATOMIC_ACK):
        payload = payload[: rng.choice([0, 0, 0, 4])]
    return [ext[name] for name in rp.EXTENDED.get(op, ())], payload


ALL = tuple(range(0x20))
ANSWERS = (rp.READ_FIRST, rp.READ_MIDDLE, rp.READ_LAST, rp.READ_ONLY, rp.ACKNOWLEDGE, rp.ATOMIC_ACK)


def packet(rng, s, ops=ALL):
    """A packet of the QP's service with a number that is near: from BTH to pad."""
    op = rng.choice(ops)
    ext, payload = extended(rng, s, op)
    if s.service == rp.UD:
        ext.insert(0, rp.deth(rng.choice([rp.QKEY, rp.QKEY, rp.QKEY_GSI]), rng.getrandbits(24)))
    asks = op not in ANSWERS
    near = rng.choice([0, 0, 0, 0, 0, 1, -1, 2, -2, rng.randrange(-300, 300)])
    psn = plus(s.psn if asks else s.sq, near)
    return s.peer.body(s.service | op, psn, *ext, payload=payload, ack=rng.random() < 0.8)


def keep_up(s):
    """The numbers that the other end expects, as far as it has said so."""
    while p := s.peer.recv_or_none(0.001):
        if p.op == rp.ACKNOWLEDGE:
            s.psn = p.psn if p.syndrome != rp.ACK else plus(p.psn)
        elif p.op in ANSWERS:
            s.psn = plus(p.psn)


def mutated(rng, body):
    """The same QP, most of the time; anything else may be another."""
    qpn = body[5:8]
    body = mutate(rng, body)
    return body[:5] + qpn + body[8:] if rng.random() < 0.9 and len(body) >= 8 else body


def provoke(rng, s, ops=ALL):
    """A round for a QP: good and mutated packets until it is in error, or there were enough."""
    for i in range(PACKETS):
        body = packet(rng, s, ops)
        send_raw(s.peer, s.peer.datagram(mutated(rng, body) if rng.random() < 0.5 else body))
        if i % 4 == 3:
            keep_up(s)
            if s.state() == ERROR:
                break


@contextlib.contextmanager
def victim(lab, kind, **how):
    with lab.qp(kind, **how) as s:
        s.all_rights = s.region("lwra", 0, 1 << 19)[1]
        for i in range(RECEIVES):
            s.p(f"recv {1 << 19} {i * 500}")
        yield s
        assert s.state() in range(7)


@pytest.mark.parametrize("state", ["init", "rtr", "rts", "sqd", "err"])
def test_rc(roce_lab, seeds, state):
    """Requests and answers for a QP that asks for nothing."""
    for rng in seeds:
        with victim(roce_lab, "rc", to=state if state in ("init", "rtr") else "rts") as s:
            if state in ("sqd", "err"):
                s.p(f"modify {state}")
            provoke(rng, s)


@pytest.mark.parametrize("kind", ["uc", "ud"])
@pytest.mark.parametrize("state", ["init", "rtr", "rts", "err"])
def test_unreliable(roce_lab, seeds, state, kind):
    for rng in seeds:
        with victim(roce_lab, kind, to=state if state in ("init", "rtr") else "rts") as s:
            if state == "err":
                s.p("modify err")
            provoke(rng, s)


WORK = {
    "sends": ["send 0 3000", "write 0 100 0 1", "send 0 1", "writeimm 0 2000 0 1 2"],
    "reads": ["read 0 3000 0 1", "read 4096 1 0 1", "read 0 0 0 1", "read 8192 5000 0 1"],
    "all": ["read 0 3000 0 1", "fadd 8192 0 1 2", "send 0 3000", "cas 8200 0 1 2 3", "write 0 9 0 1", "read 0 1 0 1"],
}


@pytest.mark.parametrize("what", WORK)
def test_answers(roce_lab, seeds, what):
    """The QP has work outstanding; the answers are good, mutated, or none."""
    for rng in seeds:
        with victim(roce_lab, "rc", retry=rng.randrange(3), rnr=rng.randrange(8), timeout=10) as s:
            for work in WORK[what]:
                s.p(work)
            provoke(rng, s, (*ANSWERS, *ANSWERS, rp.WRITE_ONLY))
            # Whatever was said of it: each is done once at most, in its order.
            wrs = []
            with contextlib.suppress(Refused):
                while True:
                    wrs.append(s.p("poll 0")["wr"])
            sent = [w for w in wrs if w > RECEIVES]
            assert sent == sorted(set(sent)), sent


# --- packets for QP 1 ----------------------------------------------------------------------

CLASSES = [0x01, 0x03, 0x04, 0x06, 0x07, 0x07, 0x07, 0x09, 0x10, 0x30, 0x4F, 0x81]
METHODS = [0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x12, 0x14, 0x81, 0x86, 0xFF]


@pytest.fixture
def cm_works(roce_lab):
    """Afterwards a connection is established as ever."""
    yield
    a = roce_lab.a
    with Puppet(a) as server, Puppet(a) as client:
        server(f"listen {PORT + 5}")
        join(server, client, a.ip, PORT + 5)
        server("recv 4096 100")
        client("send 0 50")
        assert server.good()["len"] == 50


def some_mad(rng):
    if rng.random() < 0.2:
        return noise(rng)[:MTU]
    data = rng.randbytes(cm.DATA_LEN) if rng.random() < 0.5 else b""
    attribute = rng.choice([rng.randrange(0x10, 0x1B), rng.randrange(0x40), rng.getrandbits(16)])
    message = cm.mad(
        attribute,
        data,
        rng.getrandbits(64),
        rng.choice(CLASSES),
        rng.choice([1, 2, rng.randrange(256)]),
        rng.choice(METHODS),
        status=rng.choice([0, rng.getrandbits(16)]),
        modifier=rng.choice([0, 1, rng.getrandbits(32)]),
    )
    return mutate(rng, message) if rng.random() < 0.3 else message


def test_management(roce_lab, seeds, cm_works):
    """MADs of all classes, and what is none."""
    for rng in seeds:
        for _ in range(PACKETS):
            kw = {"pad": rng.randrange(4)} if rng.random() < 0.1 else {}
            to_gsi(roce_lab.peer, some_mad(rng), **kw)
        roce_lab.peer.send(rng.randrange(0xE0), 0, rng.randbytes(rng.randrange(50)), qpn=1)


def good_request(lab, rng, comm_id=None):
    comm_id = rng.getrandbits(32) if comm_id is None else comm_id
    return cm.request(comm_id, lab.b.ip, lab.a.ip, PORT, rng.getrandbits(24), rng.getrandbits(24), rng.getrandbits(64))


def events(puppet):
    """What rdma_cm has told the puppet."""
    got = []
    with contextlib.suppress(Refused):
        while True:
            got.append(puppet.event(ms=0)["event"])
    return got


def test_requests(roce_lab, seeds, cm_works):
    """Mutated REQs for somebody who listens, some of them good enough; the last one is."""
    for rng in seeds:
        with Puppet(roce_lab.a) as puppet:
            puppet(f"listen {PORT}")
            for _ in range(15):
                good = good_request(roce_lab, rng)
                to_gsi(roce_lab.peer, mutate(rng, good))
                if rng.random() < 0.3:
                    to_gsi(roce_lab.peer, mutate(rng, good))
            assert set(events(puppet)) <= {"CONNECT_REQUEST", "CONNECT_ERROR", "REJECTED", "UNREACHABLE"}
    with Puppet(roce_lab.a) as puppet:
        puppet(f"listen {PORT}")
        to_gsi(roce_lab.peer, good_request(roce_lab, rng))
        puppet.request()


def test_replies(roce_lab, seeds, cm_works):
    """The puppet asks; REPs, REJs and MRAs that answer it are mutated."""
    lab = roce_lab
    for rng in seeds:
        lab.puppet("destroy")
        lab.peer.drain()
        lab.puppet(f"connect {lab.b.ip} {PORT} 4 4 -")
        tid, _, remote, _ = cm.ids(from_gsi(lab.peer, cm.REQ))
        mine = rng.getrandbits(32)
        for _ in range(10):
            good = rng.choice(
                [
                    cm.reply(mine, remote, rng.getrandbits(24), 5, tid),
                    cm.reject(mine, remote, tid, rng.randrange(40)),
                    cm.mad(cm.MRA, struct.pack(">IIBB", mine, remote, 0, 4 << 3), tid),
                ]
            )
            to_gsi(lab.peer, mutate(rng, good))
        to_gsi(lab.peer, cm.reject(mine, remote, tid))
        wait_until(lambda: events(lab.puppet), 20, "no end of the connection")
        lab.puppet("destroy")


def established(lab, rng, puppet):
    """A connection that the peer asked for. Returns its IDs, ours and the other, and the other QP."""
    mine, tid = rng.getrandbits(32), rng.getrandbits(64)
    lab.peer.drain()
    to_gsi(lab.peer, cm.request(mine, lab.b.ip, lab.a.ip, PORT, 0x111, 0x222, tid))
    puppet.request()
    puppet("accept 4 4 -")
    rep = from_gsi(lab.peer, cm.REP)
    assert cm.ids(rep)[3] == mine
    to_gsi(lab.peer, cm.ready(mine, cm.ids(rep)[2], tid))
    puppet.event("ESTABLISHED")
    return mine, cm.ids(rep)[2], struct.unpack(">I", rep[36:40])[0] >> 8


def test_established(roce_lab, seeds, cm_works):
    """CM messages of all sorts for a connection that is there, mutated; then a DREQ that is good."""
    lab = roce_lab
    for rng in seeds:
        with Puppet(lab.a) as puppet:
            puppet(f"listen {PORT}")
            mine, other, qpn = established(lab, rng, puppet)
            pair_of_ids = struct.pack(">II", mine, other)
            for _ in range(15):
                good = rng.choice(
                    [
                        cm.disconnect(mine, other, qpn),
                        cm.disconnected(mine, other),
                        cm.ready(mine, other),
                        cm.reply(mine, other, 5, 5),
                        cm.reject(mine, other),
                        good_request(lab, rng, mine),
                        cm.mad(rng.choice([cm.MRA, cm.LAP, cm.APR]), pair_of_ids + rng.randbytes(90)),
                    ]
                )
                to_gsi(lab.peer, mutate(rng, good))
            to_gsi(lab.peer, cm.disconnect(mine, other, qpn))
            wait_until(lambda p=puppet: set(events(p)) & {"DISCONNECTED", "REJECTED"}, 20, "not disconnected")


# --- while the link comes and goes ------------------------------------------------------------


@contextlib.contextmanager
def flood(peer, ips, rng):
    """Packets for QP 1 of these addresses and for others, many, and with a little time for the machine."""
    over = threading.Event()
    head = rp.deth(rp.QKEY_GSI, 1)
    bodies = [peer.body(rp.UD | rp.SEND_ONLY, 0, head, payload=some_mad(rng), qpn=1) for _ in range(64)]
    bodies += [peer.body(rp.SEND_ONLY, 0, payload=b"x", qpn=rng.getrandbits(24)) for _ in range(8)]
    packets = [(rp.datagram(peer.src, ip, body), ip) for ip in ips for body in bodies]

    def run_it():
        while not over.is_set():
            for i, (packet, ip) in enumerate(packets):
                with contextlib.suppress(OSError):
                    peer.tx.sendto(packet, (ip, 0))
                if i % 8 == 7:
                    time.sleep(0.002)

    thread = threading.Thread(target=run_it)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def second_link(roce_lab):
    """Another netdev in the puppet's namespace, that the peer reaches, too: (netdev, address)."""
    a, b = roce_lab.a, roce_lab.b
    ip = a.ip.replace("10.0.", "10.77.")
    a.run(f"ip link add d1 type dummy && ip addr add {ip}/32 dev d1 && ip link set d1 up")
    run(f"ip -n {b.name} route add {ip} via {a.ip}")
    yield "d1", ip
    run(f"ip -n {b.name} route del {ip}", check=False)
    a.run("ip link del d1", check=False)


@pytest.mark.long
def test_link_comes_and_goes(roce_lab, second_link, seeds, cm_works):
    """Its QP 1 is made and destroyed under packets for it, with a QP of a program's or without."""
    netdev, ip = second_link
    a = roce_lab.a
    for rng in seeds:
        with flood(roce_lab.peer, [ip, a.ip], rng):
            a.link_add("rrflood", netdev, "rurdma_roce")
            if rng.random() < 0.5:
                wait_until(lambda: gid_index("rrflood", ip, a.name) is not None)
                with Puppet(a) as one, Puppet(a) as two:
                    joined(one, two, ip)
                    a.link_del("rrflood")
                    continue
            a.link_del("rrflood")


@pytest.fixture
def second_wire(roce_lab):
    """Another veth between the two: (netdev of the puppet's, its address, MAC address of the other end)."""
    a, b = roce_lab.a, roce_lab.b
    ip = a.ip.replace("10.0.", "10.78.")
    run(f"ip -n {a.name} link add w1 type veth peer name w2 netns {b.name}")
    a.run(f"ip addr add {ip}/24 dev w1 && ip link set w1 up")
    b.run(f"ip addr add {ip.rpartition('.')[0]}.2/24 dev w2 && ip link set w2 up")
    yield "w1", ip, b.run("cat /sys/class/net/w2/address").out.strip()
    a.run("ip link del w1", check=False)


def test_link_goes_while_the_core_answers(roce_lab, second_wire, seeds, cm_works):
    """The core knows no MAC address of who asks, and hears of it when the removal of the link has begun.

    It answers with an agent that the removal takes away, and does not itself wait for the one before the other.
    """
    netdev, ip, mac = second_wire
    a, peer = roce_lab.a, roce_lab.peer
    # Performance management, Get(ClassPortInfo): the module says what is to be answered.
    body = peer.body(rp.UD | rp.SEND_ONLY, 0, rp.deth(rp.QKEY_GSI, 1), payload=cm.mad(1, b"", 1, 4, 1, method=1), qpn=1)
    for i, rng in enumerate(seeds):
        nobody = f"{ip.rpartition('.')[0]}.{100 + i % 100}"
        a.link_add("rrasked", netdev, "rurdma_roce")
        wait_until(lambda: gid_index("rrasked", ip, a.name) is not None)
        peer.tx.sendto(rp.datagram(nobody, ip, body), (ip, 0))
        wait_until(lambda nobody=nobody: nobody in a.run("ip neigh show nud incomplete").out)
        with a.start("rdma link del rrasked") as removal:
            time.sleep(rng.random() / 2)
            a.run(f"ip neigh replace {nobody} lladdr {mac} dev {netdev}")
            removal.wait()
        a.run(f"ip neigh del {nobody} dev {netdev}")


@pytest.mark.long
def test_netdev_goes(roce_lab, second_link, seeds, cm_works):
    """The netdev is taken away, or its address, under packets for it."""
    netdev, ip = second_link
    a = roce_lab.a
    for rng in seeds:
        with flood(roce_lab.peer, [ip, a.ip], rng):
            a.link_add("rrflood", netdev, "rurdma_roce")
            a.run(f"ip addr del {ip}/32 dev {netdev}")
            a.run(f"ip addr add {ip}/32 dev {netdev}")
            a.run(f"ip link set {netdev} down && ip link set {netdev} up")
            a.run(f"ip link del {netdev}")
            wait_until(lambda: "rrflood" not in a.links())
            a.run(f"ip link add {netdev} type dummy && ip addr add {ip}/32 dev {netdev} && ip link set {netdev} up")
