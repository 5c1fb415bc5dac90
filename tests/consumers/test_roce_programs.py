# SPDX-License-Identifier: GPL-2.0
"""Programs of the distribution that know RoCE and nothing of rurdma: pingpongs, perftest, librdmacm's, qperf, UCX,
libfabric."""

import collections
import contextlib
import re
import struct

import pytest
from capture import Capture
from ends import both
from rvm import Pair, gid_index, huge_pages, pingpong_is_intact, run, wait_until

LONG = pytest.mark.long
PORT = 7600


@pytest.fixture(scope="module")
def roce(module):
    with Pair(kind="rurdma_roce") as p:
        p.settle(ip6=True)
        for x in (p.a, p.b):
            x.gid = gid_index(x.dev, x.ip, x.name)
        yield p


def both_end(roce, program, env=None, timeout=120):
    """A server in a, a client in b; both end well. `{0.dev}` and the like are those of the end.

    Returns what the client says.
    """
    a, b = roce.a, roce.b
    with a.start(f"exec {program.format(a)}", env=env) as s:
        wait_until(lambda: a.serves() or not s.running(), message=lambda: f"{program}: does not listen\n{s.out}")
        try:
            out = b.run(f"{program.format(b)} {a.ip}", env=env, timeout=timeout).out
        except AssertionError as e:
            raise AssertionError(f"{e}\n--- server\n{s.out}") from None
        # Not before it ends by itself.
        pingpong_is_intact(s.wait().out)
    return out


@LONG
@pytest.mark.parametrize(
    "program",
    [
        "ibv_rc_pingpong -c",
        "ibv_rc_pingpong -c -e -N",
        "ibv_rc_pingpong -c -t",
        "ibv_uc_pingpong -c",
        "ibv_ud_pingpong -c",
        "ibv_srq_pingpong -c",
    ],
)
def test_pingpong(roce, program):
    both_end(roce, program + " -n 300 -d {0.dev} -g {0.gid}")


def tools():
    """All of perftest: each service that a program has, with rdma_cm and without."""
    for op, services in (("send", "RC UC UD"), ("write", "RC UC"), ("read", "RC"), ("atomic", "RC")):
        for service in services.split():
            for what in ("bw", "lat"):
                # perftest itself has no UC with rdma_cm.
                for cm in ("",) if service == "UC" else ("", " -R"):
                    yield f"ib_{op}_{what} -c {service}{cm}"
    for cm in ("", " -R"):
        yield f"ib_send_bw --use-srq{cm}"
        yield f"ib_send_lat --use-srq{cm}"
        yield f"ib_write_bw --write_with_imm{cm}"
        yield f"ib_atomic_bw -A CMP_AND_SWAP{cm}"
        yield f"ib_write_bw -q 8{cm}"
    for service in ("UC", "UD"):
        yield f"ib_send_bw -c {service} --use-srq"
    yield "ib_send_bw -r 4096 -l 32"
    yield "ib_write_bw -b"
    yield "ib_send_lat -I 60 -s 60"
    # As RPC systems do. The receive queue is no deeper than there are messages.
    yield "ib_send_bw -c UD -r 4096 -l 32 -I 60 -s 60 -n 4096 --use_hugepages"


@LONG
@pytest.mark.parametrize("program", tools())
def test_perftest(roce, program):
    if "--write_with_imm" in program and "--write_with_imm" not in run("ib_write_bw --help", check=False).out:
        pytest.skip("this perftest has no --write_with_imm")
    size_of = "" if "-s " in program or "atomic" in program else "-s 1024"
    count = "" if "-n " in program else "-n 320"
    where = "" if "-R" in program else "-d {0.dev} -x {0.gid}"
    # One for each end's buffer, and some more.
    with huge_pages(8) if "--use_hugepages" in program else contextlib.nullcontext():
        out = both_end(roce, f"{program} {size_of} {where} -F {count} -p {PORT}")
    size, done = re.search(r"^\s*(\d+)\s+(\d+)\s+[\d.]+", out, re.M).groups()
    assert int(size) == int((re.search(r"-s (\d+)", f"{program} {size_of}") or [0, 8])[1]), out
    assert int(done) >= int(re.search(r"-n (\d+)", f"{program} {count}")[1]), out


def counted(node):
    """What the link has counted of packets. The core keeps what it has read for some milliseconds."""
    wait_until(lambda: not node.in_use())
    got = {}
    for what in ("xmit", "rcv"):
        for kind in ("unicast", "multicast"):
            path = f"/sys/class/infiniband/{node.dev}/ports/1/counters/{kind}_{what}_packets"
            got[f"{kind}_{what}"] = int(node.run(f"cat {path}").out)
    return got


@contextlib.contextmanager
def risen(node):
    """{counter: by how much}, afterwards."""
    before, rise = counted(node), {}
    yield rise
    rise |= {k: v - before[k] for k, v in counted(node).items()}


@LONG
@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("server", ["a", "b"])
def test_udaddy(roce, server, family):
    """Datagrams by rdma_cm, and an answer to each, over several QPs: (2 * 4 * 25) messages."""
    s = getattr(roce, server)
    c, address = s.peer, getattr(s, family)
    args = "-c 4 -C 25 -S 1000"
    with risen(s) as rise:
        said = both(s, c, f"udaddy -b {address} {args}", f"udaddy -s {address} {args}")
    for out in said:
        assert "data transfers complete" in out and "return status 0" in out, out
    # Besides them: what makes the four connections.
    for way in ("unicast_xmit", "unicast_rcv"):
        assert rise[way] >= 4 * 25, rise


@LONG
@pytest.mark.parametrize("sender", ["a", "b"])
def test_mckey(roce, sender):
    """A group of rdma_cm's: it is heard by two processes at the other end, by QPs that are in it, each message once.

    IPv4: the core refuses groups of IPv6.
    """
    s = getattr(roce, sender)
    r, args = s.peer, "-m 239.7.7.10 -C 50 -S 1000"
    receiver = f"exec stdbuf -oL mckey {args} -b {r.ip}"
    with risen(s) as sent, risen(r) as got:
        with r.start(receiver) as one, r.start(receiver) as two:
            for p in (one, two):
                wait_until(lambda p=p: "joined" in p.out or not p.running(), message=lambda p=p: p.out)
            out = s.run(f"mckey {args} -s -b {s.ip}").out
            # One that hears less waits for the rest.
            for x in (out, one.wait().out, two.wait().out):
                assert "data transfers complete" in x and "return status 0" in x, x
    assert sent["multicast_xmit"] == got["multicast_rcv"] == 50, (sent, got)


QPERF = [
    *("rc_bi_bw", "rc_bw", "rc_lat", "rc_rdma_read_bw", "rc_rdma_read_lat", "rc_rdma_write_bw"),
    *("rc_rdma_write_lat", "rc_rdma_write_poll_lat", "rc_compare_swap_mr", "rc_fetch_add_mr"),
    *("ver_rc_compare_swap", "ver_rc_fetch_add"),
]


def qperf(roce, args, test):
    a, b = roce.a, roce.b
    with a.start("exec qperf") as server:
        wait_until(lambda: ":19765" in a.run("ss -tlnH").out)
        # It asks for 64 MiB before it counts what has come, which takes more than a second in an emulated VM.
        out = b.run(f"qperf -t {5 if 'read_bw' in test else 1} {args}").out
        assert server.running(), server.out
    assert re.search(rf"^{test}:\n +\w+ += +[1-9]", out, re.M), out


@LONG
@pytest.mark.parametrize("test", QPERF)
def test_qperf(roce, test):
    """With rdma_cm, which qperf has for RC."""
    qperf(roce, f"-cm 1 {roce.a.ip} {test}", test)


# What the core says to who names no GID: EINVAL, for UC with the peer, for UD with the address handle.
WITHOUT_GID = {
    "uc_bw": "failed to modify QP to RTR: Invalid argument",
    "ud_bw": "failed to create address handle: Invalid argument",
}


@LONG
@pytest.mark.parametrize("test", WITHOUT_GID)
def test_qperf_without_cm(roce, test):
    """qperf 0.4.11 names no GID, without which no RoCE device reaches anybody, and has no rdma_cm for UC and UD.

    Should it get further one day, this fails, and the test belongs to those above.
    """
    a, b = roce.a, roce.b
    with a.start("exec qperf") as server:
        wait_until(lambda: ":19765" in a.run("ss -tlnH").out)
        got = b.run(f"qperf -t 1 {a.ip} {test}", check=False)
        assert got.rc != 0 and WITHOUT_GID[test] in got.out, f"{got}\n--- server\n{server.out}"


UCX = {"UCX_IB_GPU_DIRECT_RDMA": "n", "UCX_LOG_LEVEL": "warn"}


def by_service(capture):
    """{service of IBTA: bytes of frames}, of a capture of IPv4. The service is in the upper bits of the opcode."""
    capture.stop()
    data, at, got = capture.file.read_bytes(), 24, collections.Counter()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    while at + 16 <= len(data):
        n = struct.unpack_from(order + "I", data, at + 8)[0]
        # Behind Ethernet, IP without options and UDP.
        got[data[at + 16 + 42] >> 5] += n
        at += 16 + n
    return got


RC, UD = 0, 3


@LONG
@pytest.mark.parametrize("transport", ["rc_verbs", "ud_verbs"])
@pytest.mark.parametrize("test", ["tag_lat", "tag_bw", "stream_bw", "ucp_put_bw", "ucp_get", "ucp_am_bw", "ucp_fadd"])
def test_ucx(roce, transport, test):
    """ucx_perftest (-P 0: not by MPI); TCP is shut out, so it is RDMA or nothing.

    That it is the transport that was asked for, the wire shows: UCX meets over UD, and goes on by it if need be.
    """
    a, b = roce.a, roce.b
    env = {**UCX, "UCX_TLS": transport + ",ud_verbs", "UCX_IB_GID_INDEX": str(a.gid)}
    size = 8 if "fadd" in test else 10000
    args = f"-t {test} -s {size} -n 500 -w 20"
    with Capture(a.netdev, a.name, "udp port 4791") as capture:
        with a.start("exec ucx_perftest -P 0", env={**env, "UCX_NET_DEVICES": f"{a.dev}:1"}) as server:
            wait_until(lambda: ":13337" in a.run("ss -tlnH").out, message=lambda: server.out)
            env |= {"UCX_NET_DEVICES": f"{b.dev}:1"}
            out = b.run(f"ucx_perftest -P 0 {args} {a.ip}", env=env, timeout=120).out
            server.wait(60)
        seen = by_service(capture)
    assert re.search(r"^Final: +500 ", out, re.M), out
    # Of short messages the headers are most: no packet has less than 64 bytes.
    assert seen[RC if transport == "rc_verbs" else UD] >= 500 * max(size, 64), seen
    assert transport == "rc_verbs" or not seen[RC], seen


@LONG
@pytest.mark.parametrize("endpoint", ["msg", "rdm", "dgram"])
def test_libfabric(roce, endpoint):
    """fi_pingpong over the verbs provider; its own check of the content."""
    a, b = roce.a, roce.b
    provider = "verbs;ofi_rxm" if endpoint == "rdm" else "verbs"
    program = f"fi_pingpong -p '{provider}' -e {endpoint} -c -I 100 -S 1024 -d "
    # Its name of a device of datagrams is another one.
    suffix = "-dgram" if endpoint == "dgram" else ""
    with a.start(f"exec {program} {a.dev}{suffix}") as server:
        wait_until(lambda: ":47592" in a.run("ss -tlnH").out or not server.running(), message=lambda: server.out)
        out = b.run(f"{program} {b.dev}{suffix} {a.ip}", timeout=120).out
        server.wait()
    assert re.search(r"^1k +100 ", out, re.M), out
