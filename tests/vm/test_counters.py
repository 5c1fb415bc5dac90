# SPDX-License-Identifier: GPL-2.0
"""Counters of a port: in sysfs, by `rdma statistic`, and in answers to performance management MADs."""

import pathlib
import struct

import pytest
from rvm import Pair, gid_index, run, wait_until

PMA = pathlib.Path(__file__).with_name("pma.py")
GET, SET, GET_RESPONSE = 1, 2, 0x81
CLASS_PORT_INFO, PORT_SAMPLES_CONTROL, PORT_COUNTERS, PORT_COUNTERS_EXTENDED = 0x01, 0x10, 0x12, 0x1D
UNSUPPORTED, INVALID_FIELD = 0x0C, 0x1C
# BTH, DETH, MAD and ICRC.
MAD_PACKET = 12 + 8 + 256 + 4
WAYS = ("xmit", "rcv")


@pytest.fixture(scope="module")
def pair(module):
    run("modprobe ib_umad")
    with Pair(kind="rurdma_roce") as p:
        for x in (p.a, p.b):
            for ip in (x.ip, x.ip6):
                wait_until(lambda x=x, ip=ip: gid_index(x.dev, ip, x.name) is not None)
        yield p
    run("modprobe -r ib_umad")


def counters(x):
    """All of a port's counters."""
    out = x.run(f"cd /sys/class/infiniband/{x.dev}/ports/1/counters && grep . *").out
    return {name: int(value) for name, value in (line.split(":") for line in out.splitlines())}


def rise(x, before):
    return {name: value - before[name] for name, value in counters(x).items()}


def ask(pair, attribute, method=GET, port=1):
    """Asks b, as a: what the answer's header says, and its attribute."""
    a, b = pair.a, pair.b
    # The core takes an answer over IPv4 for somebody else's: it compares GIDs with bytes of a GRH.
    index = gid_index(a.dev, a.ip6, a.name)
    mad = bytes.fromhex(a.run(f"python3 {PMA} {a.dev} {index} {b.ip6} {method} {attribute} {port}").out)
    assert len(mad) == 256
    version, klass, class_version, answered, status = struct.unpack_from(">4BH", mad)
    assert (version, klass, class_version, answered) == (1, 4, 1, GET_RESPONSE)
    assert struct.unpack_from(">H", mad, 16)[0] == attribute
    return status, mad[64:]


@pytest.mark.parametrize("kind", ["rc", "uc", "ud"])
@pytest.mark.parametrize("family", ["ip", pytest.param("ip6", marks=pytest.mark.long)])
def test_what_one_end_sends_the_other_receives(pair, kind, family):
    """A known transfer, 200 messages of 1000 bytes each way; nothing else is on the wire."""
    a, b = pair.a, pair.b
    before = [(x, counters(x)) for x in (a, b)]
    ga, gb = (gid_index(x.dev, getattr(x, family), x.name) for x in (a, b))
    with a.start(f"exec ibv_{kind}_pingpong -d {a.dev} -g {ga} -n 200 -s 1000") as s:
        wait_until(lambda: a.run("ss -tlnH").out.strip() or not s.running())
        b.run(f"ibv_{kind}_pingpong -d {b.dev} -g {gb} -n 200 -s 1000 {a.ip}")
        s.wait()
    ra, rb = (rise(x, old) for x, old in before)
    for sender, receiver in ((ra, rb), (rb, ra)):
        assert sender["port_xmit_packets"] == receiver["port_rcv_packets"] >= 200, (ra, rb)
        assert sender["port_xmit_data"] == receiver["port_rcv_data"] >= 200 * 1000 // 4, (ra, rb)
        # BTH, DETH and ICRC at most for each message, and acknowledges.
        most = 200 * (1000 + 24) + sender["port_xmit_packets"] * 20
        assert sender["port_xmit_data"] * 4 <= most, (ra, rb)
        for way in WAYS:
            assert sender[f"unicast_{way}_packets"] == sender[f"port_{way}_packets"]
            assert sender[f"multicast_{way}_packets"] == 0
        assert sender["port_rcv_errors"] == sender["link_downed"] == 0


def test_statistic_shows_them_too(pair):
    """Under the names that rxe has; in bytes there."""
    for x in (pair.a, pair.b):
        was = counters(x)
        assert was["port_xmit_packets"], was

        def shown(x=x):
            return [x.counter(name) for name in ("sent_pkts", "rcvd_pkts", "sent_bytes", "rcvd_bytes")]

        want = [was["port_xmit_packets"], was["port_rcv_packets"], was["port_xmit_data"] * 4, was["port_rcv_data"] * 4]
        wait_until(lambda want=want, shown=shown: shown() == want, 10, lambda shown=shown: f"{shown()}")


@pytest.mark.long
def test_mads_tell_the_same(pair):
    """The extended counters as sysfs has them, but for the request itself."""
    was = counters(pair.b)
    status, data = ask(pair, PORT_COUNTERS_EXTENDED)
    assert status == 0
    assert data[:8] == bytes([0, 1, 0, 0, 0, 0, 0, 0])
    told = struct.unpack_from(">8Q", data, 8)
    assert told == (
        was["port_xmit_data"],
        was["port_rcv_data"] + MAD_PACKET // 4,
        was["port_xmit_packets"],
        was["port_rcv_packets"] + 1,
        was["unicast_xmit_packets"],
        was["unicast_rcv_packets"] + 1,
        was["multicast_xmit_packets"],
        was["multicast_rcv_packets"],
    )
    assert told[0] and told[2], told
    # And the answer is one that was sent.
    now = counters(pair.b)
    assert now["port_xmit_packets"] == told[2] + 1
    assert now["port_xmit_data"] == told[0] + MAD_PACKET // 4

    status, data = ask(pair, PORT_COUNTERS)
    assert status == 0
    assert struct.unpack_from(">4I", data, 24) == (
        now["port_xmit_data"],
        now["port_rcv_data"] + MAD_PACKET // 4,
        now["port_xmit_packets"],
        now["port_rcv_packets"] + 1,
    )
    assert struct.unpack_from(">BH", data, 7) == (now["link_downed"], now["port_rcv_errors"])


@pytest.mark.long
def test_mads_that_ask_for_something_else(pair):
    """What there is, is said; what there is not, refused."""
    status, data = ask(pair, CLASS_PORT_INFO, port=0)
    assert status == 0
    assert data[:4] == bytes([1, 1, 2, 0]), "no extended width"
    for attribute in (PORT_COUNTERS, PORT_COUNTERS_EXTENDED):
        assert ask(pair, attribute, port=2)[0] == INVALID_FIELD
    before = counters(pair.b)
    assert ask(pair, PORT_COUNTERS, method=SET)[0] == UNSUPPORTED
    assert ask(pair, PORT_SAMPLES_CONTROL)[0] == UNSUPPORTED
    now = counters(pair.b)
    assert all(now[f"port_{way}_packets"] == before[f"port_{way}_packets"] + 2 for way in WAYS), (before, now)


def test_damaged_packets_are_errors(pair):
    """A packet for the GSI with a wrong ICRC is not received, but an error."""
    a, b = pair.a, pair.b
    before = counters(b)
    bth = struct.pack(">2BHII", 0x64, 0, 0xFFFF, 1, 0)
    packet = bth + struct.pack(">2I", 0x80010000, 1) + bytes(256) + bytes(4)
    send = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto({packet!r}, ('{b.ip}', 4791))"
    a.run(["python3", "-c", send])
    wait_until(lambda: rise(b, before)["port_rcv_errors"] == 1, 10, lambda: f"{rise(b, before)}")
    assert rise(b, before)["port_rcv_packets"] == 0


def test_multicast_is_told_apart(pair):
    """A group's datagrams, joined by rdma_cm."""
    a, b = pair.a, pair.b
    before = [(x, counters(x)) for x in (a, b)]
    with a.start(f"exec stdbuf -oL mckey -m 239.9.9.9 -b {a.ip} -C 20 -S 1000") as s:
        wait_until(lambda: "joined" in s.out or not s.running(), message=lambda: s.out)
        b.run(f"mckey -m 239.9.9.9 -b {b.ip} -s -C 20 -S 1000")
        s.wait()
    ra, rb = (rise(x, old) for x, old in before)
    assert rb["multicast_xmit_packets"] == ra["multicast_rcv_packets"] == 20, (ra, rb)
    assert rb["port_xmit_data"] == ra["port_rcv_data"] >= 20 * 1000 // 4, (ra, rb)


def test_link_downed(module):
    """Each time that the port goes down."""
    with Pair(kind="rurdma_roce") as p:
        a, b = p.a, p.b
        wait_until(lambda: a.links()[a.dev]["state"] == "ACTIVE")
        was = counters(a)["link_downed"]
        for n in (1, 2):
            b.run(f"ip link set {b.netdev} down")
            wait_until(lambda n=n: counters(a)["link_downed"] == was + n)
            b.run(f"ip link set {b.netdev} up")
            wait_until(lambda: a.links()[a.dev]["state"] == "ACTIVE")
            assert counters(a)["link_downed"] == was + n


def test_iwarp_has_none(module):
    """Management is InfiniBand's: no such directory, and no counters of packets that are TCP's."""
    with Pair() as p:
        p.a.run(f"cd /sys/class/infiniband/{p.a.dev}/ports/1 && test -d hw_counters && test ! -e counters")
        assert "sent_pkts" not in p.a.run(f"rdma statistic show link {p.a.dev}/1").out
