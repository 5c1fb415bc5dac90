# SPDX-License-Identifier: GPL-2.0
"""Counters of a rurdma_roce port and of rxe's at the two ends of a wire, and what both answer to the same MADs.

rxe counts the headers of IP and UDP, too, and neither unicast nor multicast apart. What it answers is for sysfs, which
looks at nothing but the attribute: the header is all zeros, and an answer to rxe itself is answered, too, and never
comes to whoever has asked.
"""

import pathlib
import socket
import struct

import pytest
from ends import run_at, serve
from rvm import Proc, gid_index, pingpong_is_intact, run, wait_until
from siwlink import rxe_and_rurdma

PMA = pathlib.Path(__file__).parents[1] / "vm/pma.py"
GET, GET_RESPONSE, PERFORMANCE = 1, 0x81, 4
CLASS_PORT_INFO, PORT_SAMPLES_CONTROL, PORT_COUNTERS, PORT_COUNTERS_EXTENDED = 0x01, 0x10, 0x12, 0x1D
UNSUPPORTED = 0x0C
EXTENDED_WIDTH = 0x0200
ETH_P_ALL = 3
# IPv6, UDP, BTH and DETH; MAD, and ICRC.
BEFORE, MAD, ICRC = 40 + 8 + 12 + 8, 256, 4
# What is in front of a BTH, in words, as data are counted.
IP_AND_UDP, IP6_AND_UDP = (20 + 8) // 4, (40 + 8) // 4
BOTH = pytest.mark.parametrize("server", ["rxe", "rurdma"])


@pytest.fixture(scope="module")
def ends(module):
    run("modprobe ib_umad")
    with rxe_and_rurdma() as e:
        for end in (e.rxe, e.rurdma):
            end.netns = end.node and end.node.name
            for ip in (end.ip, end.ip6):
                wait_until(lambda end=end, ip=ip: gid_index(end.dev, ip, end.netns) is not None)
        yield e
    run("modprobe -r ib_umad")


def counters(end):
    """All of a port's counters, which sysfs asks for by MADs."""
    out = run_at(end.node, f"cd /sys/class/infiniband/{end.dev}/ports/1/counters && grep . *").out
    return {name: int(value) for name, value in (line.split(":") for line in out.splitlines())}


def rise(end, before):
    return {name: value - before[name] for name, value in counters(end).items()}


class Wire:
    """MADs for the GSI that come by, in the namespace of rxe."""

    def __init__(self, netdev):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.sock.bind((netdev, ETH_P_ALL))
        self.sock.settimeout(20)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def mad(self, src):
        """The next one that comes from there."""
        src = socket.inet_pton(socket.AF_INET6, src)
        while True:
            packet = self.sock.recv(2048)
            if len(packet) == BEFORE + MAD + ICRC and packet[8:24] == src:
                return packet[BEFORE : BEFORE + MAD]


def ask(ends, server, attribute):
    """Both ends are asked the same. What was asked, and what was answered: (header, attribute) each."""
    s, c = ends.roles(server)
    index = gid_index(c.dev, c.ip6, c.netns)
    with Wire(ends.rxe.netdev) as wire:
        cmd = f"exec python3 {PMA} {c.dev} {index} {s.ip6} {GET} {attribute} 1"
        # It is not waited for: of rxe, neither end ever has an answer.
        with Proc(cmd, c.netns):
            asked, answered = wire.mad(c.ip6), wire.mad(s.ip6)
            if c is ends.rxe:
                assert wire.mad(c.ip6)[:24] == bytes(24), "rxe was repaired: it takes answers"
    assert struct.unpack_from(">4BHH", asked) == (1, PERFORMANCE, 1, GET, 0, 0)
    return (asked[:24], asked[64:]), (answered[:24], answered[64:])


def right(asked):
    """The header of an answer to this one."""
    return asked[:3] + bytes([GET_RESPONSE]) + asked[4:]


def test_same_names(ends):
    ours, theirs = counters(ends.rurdma), counters(ends.rxe)
    assert set(ours) == set(theirs)
    assert {"port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets", "link_downed"} <= set(ours)


@BOTH
@pytest.mark.parametrize("kind", ["rc", "ud"])
@pytest.mark.parametrize("family", ["ip", pytest.param("ip6", marks=pytest.mark.long)])
def test_they_grow_alike(ends, server, kind, family):
    """What one has sent the other has received, and both say so, but for the headers that only rxe counts."""
    s, c = ends.roles(server)
    before = [(end, counters(end)) for end in (ends.rurdma, ends.rxe)]
    index = [gid_index(x.dev, getattr(x, family), x.netns) for x in (s, c)]
    words = IP_AND_UDP if family == "ip" else IP6_AND_UDP
    cmd = f"ibv_{kind}_pingpong -c -n 200 -s 1000"
    with serve(s.node, f"exec {cmd} -d {s.dev} -g {index[0]}", wait=False) as p:
        wait_until(lambda: run_at(s.node, "ss -tlnH").out.strip() or not p.running(), message=lambda: p.out)
        run_at(c.node, f"{cmd} -d {c.dev} -g {index[1]} {s.ip}", timeout=120)
        pingpong_is_intact(p.wait().out)
    ours, theirs = (rise(end, was) for end, was in before)
    for here, there in (("xmit", "rcv"), ("rcv", "xmit")):
        packets, data = ours[f"port_{here}_packets"], ours[f"port_{here}_data"]
        assert packets == theirs[f"port_{there}_packets"] >= 200, (ours, theirs)
        assert data >= 200 * 1000 // 4, (ours, theirs)
        assert theirs[f"port_{there}_data"] == data + words * packets, (ours, theirs)
        assert ours[f"unicast_{here}_packets"] == packets
        assert theirs[f"unicast_{there}_packets"] == 0, "rxe counts them now"
    for end in (ours, theirs):
        assert end["link_downed"] == end["port_rcv_errors"] == 0


def test_class_port_info(ends):
    """Both say that there are extended counters, and we in what version, and how soon an answer comes."""
    (asked, _), (header, ours) = ask(ends, "rurdma", CLASS_PORT_INFO)
    assert header == right(asked)
    _, (header, theirs) = ask(ends, "rxe", CLASS_PORT_INFO)
    assert header == bytes(24), "rxe was repaired"
    assert struct.unpack_from(">2BHI", ours) == (1, 1, EXTENDED_WIDTH, 18)
    assert struct.unpack_from(">2BHI", theirs) == (0, 0, EXTENDED_WIDTH, 0)
    assert not any(ours[8:]) and not any(theirs[8:])


def test_extended(ends):
    """The same four numbers are in the same places, and are those of sysfs with the request that asks for them."""
    words = (BEFORE - 48 + MAD + ICRC) // 4
    fields = ("port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets")
    for server, more in (("rurdma", words), ("rxe", words + IP6_AND_UDP)):
        end, _ = ends.roles(server)
        was = [counters(end)[x] for x in fields]
        (asked, _), (header, data) = ask(ends, server, PORT_COUNTERS_EXTENDED)
        assert header == (right(asked) if server == "rurdma" else bytes(24))
        told = struct.unpack_from(">8Q", data, 8)
        assert list(told[:4]) == [was[0], was[1] + more, was[2], was[3] + 1]
        # Unicast, then multicast.
        assert told[4:] == ((told[2], told[3], 0, 0) if server == "rurdma" else (0, 0, 0, 0))


def test_counters_of_32_bits(ends):
    """rxe has how often the link went down, and we all else, too."""
    (asked, _), (header, ours) = ask(ends, "rurdma", PORT_COUNTERS)
    assert header == right(asked)
    _, (header, theirs) = ask(ends, "rxe", PORT_COUNTERS)
    assert header == bytes(24)
    # LinkDownedCounter.
    assert ours[7] == theirs[7] == 0
    assert all(struct.unpack_from(">4I", ours, 24))
    assert not any(theirs), "rxe counts more now"


def test_what_neither_has(ends):
    """The core refuses it for both, with the same answer."""
    got = []
    for server in ("rurdma", "rxe"):
        (asked, _), (header, data) = ask(ends, server, PORT_SAMPLES_CONTROL)
        status = struct.pack(">H", UNSUPPORTED)
        assert header == right(asked)[:4] + status + asked[6:]
        got.append(data)
    assert got[0] == got[1]
