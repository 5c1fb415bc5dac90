# SPDX-License-Identifier: GPL-2.0
"""RoCE in super-packets: how long the frames on the wire are, and that everything arrives as it was sent.

Frames are counted where they come out of the veth. Transfers are those of vttraffic.c: WRITE, READ and SEND, each
verified.
"""

import contextlib
import itertools
import pathlib
import re
from types import SimpleNamespace

import pytest
from rvm import Pair, gid_index, run, wait_until

MTU = 1500
# A super-packet has up to 62 packets at this MTU; acknowledges and first packets go alone.
LONG = 3 * MTU
FAMILIES = ["ip", pytest.param("ip6", marks=pytest.mark.long)]
ICRC = pathlib.Path(__file__).resolve().parents[1] / "interop/icrc.py"


def transfer(p, size, count, qps=1, both=0, to=None, env=None):
    """`count` times WRITE, READ back, SEND of `size` bytes on each of `qps` connections."""
    args = ["7400", str(qps), str(size), str(count), str(both)]
    to = to or p.a.ip
    with p.a.start(["vttraffic", "server", to, *args]) as server:
        server.wait_for("listening")
        client = p.b.run(["vttraffic", "client", to, *args], timeout=280, check=False, env=env)
        assert client.rc == 0, f"{client.out}\nserver:\n{server.out}"
        server.wait()
        assert "verified" in client.out
        assert "verified" in server.out
    wait_until(lambda: not p.a.in_use() and not p.b.in_use(), 10)


def received(node):
    """What the node has received: frames of the veth and their bytes, IP's skbs, packets of the link."""
    (row,) = node.json(f"ip -s -j link show {node.netdev}")
    rx = row["stats64"]["rx"]
    snmp = node.run("cat /proc/net/snmp /proc/net/snmp6").out
    header, values = re.findall(r"^Ip: (.*)$", snmp, re.M)
    v4 = dict(zip(header.split(), map(int, values.split()), strict=True))["InReceives"]
    v6 = int(re.search(r"Ip6InReceives\s+(\d+)", snmp)[1])
    return {
        "bytes": rx["bytes"],
        "frames": rx["packets"],
        "skbs": v4 + v6,
        "packets": node.counter("rcvd_pkts"),
        "bad": node.counter("crc_errors"),
    }


@contextlib.contextmanager
def arrivals(node):
    """What comes to the node meanwhile, as `received`; and `mean`, bytes of a frame."""
    got = SimpleNamespace()
    before = received(node)
    yield got
    for k, v in received(node).items():
        setattr(got, k, v - before[k])
    got.mean = got.bytes / max(1, got.frames)
    print(f"{got.packets} packets in {got.frames} frames of {got.mean:.0f} bytes and {got.skbs} skbs")
    # Whoever cuts or collects, each packet keeps what its ICRC covers.
    assert got.bad == 0


def offload(p, what):
    for x in (p.a, p.b):
        x.run(f"ethtool -K {x.netdev} {what}")


@pytest.fixture(scope="module")
def pair(module):
    with Pair(kind="rurdma_roce") as p:
        p.settle(ip6=True)
        yield p


@pytest.fixture
def no_offloads(pair):
    """One of which every frame is one packet."""
    pair.offloads_off()
    yield pair
    offload(pair, "tso on gso on tx-udp-segmentation on gro off")


@pytest.mark.parametrize(("family", "count"), [pytest.param("ip", 32, marks=pytest.mark.long), ("ip6", 8)])
def test_super_packets(pair, family, count):
    """Many packets in each frame. Of IPv4: 32 MiB of WRITE, READ and SEND each."""
    with arrivals(pair.a) as a:
        transfer(pair, 1 << 20, count, to=getattr(pair.a, family))
    # What is written and sent comes to a, and requests and acknowledges for what is read.
    assert a.bytes > 2 * count << 20
    assert a.packets > 2 * count << 10
    assert a.mean > LONG


def test_many_qps(pair):
    """Each has its own."""
    with arrivals(pair.a) as a:
        transfer(pair, 100000, 8, qps=16, both=1)
    assert a.mean > LONG


def test_lengths(pair):
    """Messages that end anywhere, the last packet of a super-packet too."""
    transfer(pair, 0, 106, both=1)


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_cut_by_the_stack(no_offloads, family):
    """Without offloads each frame is a packet; the ICRCs are those of the packets."""
    p = no_offloads
    with arrivals(p.a) as a:
        transfer(p, 1 << 20, 4, to=getattr(p.a, family))
    assert a.bytes > 8 << 20
    assert a.frames >= a.packets
    assert a.mean < MTU


@pytest.mark.parametrize("family", FAMILIES)
def test_put_together_by_gro(no_offloads, family):
    """Packets on the wire, and several of them in what the socket gets."""
    p = no_offloads
    offload(p, "gro on")
    with arrivals(p.a) as a:
        transfer(p, 1 << 20, 8, to=getattr(p.a, family))
    assert a.mean < MTU
    assert a.frames > 3 * a.skbs
    assert a.frames >= a.packets


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_icrc_on_the_wire(no_offloads, family):
    """What the stack has cut has the ICRC that scapy computes, and no frame is longer than the MTU."""
    p = no_offloads
    pcap = pathlib.Path(f"/tmp/gso-{family}.pcap")
    # One of a test that failed would be there before tcpdump is.
    pcap.unlink(missing_ok=True)
    dump = ["tcpdump", "-i", p.a.netdev, "-U", "--immediate-mode", "-c", "300", "-w", pcap, "udp", "port", "4791"]
    with p.a.start(dump) as tcpdump:
        wait_until(lambda: pcap.exists() and pcap.stat().st_size >= 24, None, lambda: tcpdump.out)
        transfer(p, 1 << 20, 1, to=getattr(p.a, family))
        tcpdump.wait(60)
    out = run(["python3", "-B", ICRC, pcap], timeout=200).out
    assert out.startswith("300 packets, 0 "), out
    frames = run(f"tshark -n -r {pcap} -T fields -e frame.len -e ip.id -e infiniband.bth.opcode 2>/dev/null").out
    rows = [x.split("\t") for x in frames.splitlines()]
    assert max(int(x[0]) for x in rows) <= MTU + 14
    if family == "ip":
        # Of those in the middle of messages.
        ids = [int(x[1], 0) for x in rows if int(x[2] or "0", 0) == 7]
        steps = [(y - x) % 65536 for x, y in itertools.pairwise(ids)]
        assert steps.count(1) > len(steps) * 3 // 4, ids
    pcap.unlink()


@pytest.mark.long
@pytest.mark.parametrize("offloads", ["on", "off"])
def test_loss(module, offloads):
    """1 % of the frames get lost: whole super-packets, or single packets."""
    with Pair(kind="rurdma_roce") as p:
        p.settle(ip6=True)
        if offloads == "off":
            p.offloads_off()
        p.impair("limit 100000 loss 1%")
        with arrivals(p.a) as a:
            # Losses are found out after 0.27 s at the latest, not after 2.
            transfer(p, 1 << 20, 16 if offloads == "on" else 4, env={"VT_ACK_TIMEOUT": "16"})
        assert (a.mean > LONG) == (offloads == "on")
        dropped = "".join(x.run(f"tc -s qdisc show dev {x.netdev}").out for x in (p.a, p.b))
        assert sum(map(int, re.findall(r"dropped (\d+)", dropped))), dropped


def test_rping(pair):
    """rdma_cm's own, with READ and WRITE of 60000 bytes."""
    a, b = pair.a, pair.b
    with a.start(f"exec rping -s -a {a.ip} -C 20 -S 60000 -V") as server:
        wait_until(lambda: a.listens() or not server.running())
        b.run(f"rping -c -a {a.ip} -C 20 -S 60000 -V")
        server.wait()


@pytest.mark.parametrize("kind", ["uc", "ud"])
def test_other_services(pair, kind):
    """Datagrams, and what is not acknowledged, go together, too."""
    a, b = pair.a, pair.b
    # Datagrams are posted in lists.
    how = {"uc": "-s 65536 -n 100", "ud": "-s 1024 -n 384 -l 32"}[kind]
    cmd = f"ib_send_bw -F -c {kind.upper()} {how} -p 7601"
    with a.start(f"exec {cmd} -d {a.dev} -x {gid_index(a.dev, a.ip, a.name)}") as server:
        wait_until(lambda: a.run("ss -tlnH").out.strip() or not server.running())
        with arrivals(a) as got:
            b.run(f"{cmd} -d {b.dev} -x {gid_index(b.dev, b.ip, b.name)} {a.ip}")
            server.wait()
    assert got.mean > LONG


@pytest.mark.long
def test_knob(module):
    """roce_gso=0: packets leave one by one, whatever the netdev can do."""
    run("modprobe -r rurdma && modprobe rurdma roce_gso=0")
    try:
        with Pair(kind="rurdma_roce") as p:
            p.settle(ip6=True)
            for to in (p.a.ip, p.a.ip6):
                with arrivals(p.a) as a:
                    transfer(p, 1 << 20, 2, to=to)
                assert a.frames >= a.packets
                assert a.mean < MTU
    finally:
        run("modprobe -r rurdma && modprobe rurdma")
