# SPDX-License-Identifier: GPL-2.0
"""librdmacm's tools, rsockets and perftest between two namespaces."""

import hashlib
import os
import pathlib
from contextlib import nullcontext

import pytest
from ends import both, perftest, run_at, serve
from rvm import poll_us, wait_until

LONG = pytest.mark.long
PRELOAD = "/usr/lib/x86_64-linux-gnu/rsocket/librspreload.so"


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    """A file of 3 MiB and a bit, and its digest."""
    f = tmp_path_factory.mktemp("blob") / "blob"
    f.write_bytes(os.urandom(3 * 1024 * 1024 + 4321))
    return f


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [100, *(pytest.param(n, marks=LONG) for n in (23, 1460, 65535))])
def test_rping_verifies(pair, size):
    a, b = pair.a, pair.b
    args = f"-a {a.ip} -C 8 -S {size} -V"
    both(a, b, f"rping -s {args}", f"rping -c {args}")


@LONG
def test_rping_ipv6(pair):
    a, b = pair.a, pair.b
    args = f"-a {a.ip6} -C 5 -S 2000 -V"
    both(a, b, f"rping -s {args}", f"rping -c {args}")


def test_rping_persistent_server(pair):
    a, b = pair.a, pair.b
    with serve(a, f"rping -s -P -a {a.ip}") as s:
        for _ in range(3):
            b.run(f"rping -c -a {a.ip} -C 5 -V")
        with b.start(f"rping -c -a {a.ip} -C 20 -V") as one, b.start(f"rping -c -a {a.ip} -C 20 -S 3000 -V") as two:
            one.wait()
            two.wait()
        assert s.running(), s.out
    wait_until(lambda: not a.resources("qp") and not b.resources("qp"), message="QPs left")


def test_ucmatose(pair):
    a, b = pair.a, pair.b
    for args in ("-c 1", "-c 8 -C 20 -S 5000", "-c 3 -C 5 -m"):
        server, client = both(a, b, f"ucmatose -b {a.ip} {args}", f"ucmatose -s {a.ip} {args}")
        assert "return status 0" in server
        assert "return status 0" in client


@LONG
def test_ucmatose_ipv6(pair):
    a, b = pair.a, pair.b
    _, client = both(a, b, "ucmatose -b ::0", f"ucmatose -s {a.ip6}")
    assert "return status 0" in client


@LONG
@pytest.mark.xfail(
    strict=True,
    reason="cmtime listens with one number as an RDMA and as a TCP port of its own, which are the same on iWARP; "
    "it also waits for IB's CONNECT_RESPONSE. siw fails in the same way",
)
def test_cmtime(pair):
    a, b = pair.a, pair.b
    with serve(a, f"cmtime -b {a.ip} -c 5"):
        b.run(f"cmtime -s {a.ip} -c 5")


def test_rdma_client_server(pair):
    a, b = pair.a, pair.b
    server, client = both(a, b, f"rdma_server -s {a.ip}", f"rdma_client -s {a.ip}")
    assert "rdma_server: end 0" in server
    assert "rdma_client: end 0" in client


@LONG
def test_rdma_xclient_xserver(pair):
    a, b = pair.a, pair.b
    server, client = both(a, b, "rdma_xserver -c r", f"rdma_xclient -s {a.ip} -c r")
    assert "end 0" in server
    assert "end 0" in client


@pytest.mark.parametrize("mode", ["-T b", pytest.param("-T n", marks=LONG), pytest.param("-T a", marks=LONG)])
def test_rstream(pair, mode):
    a, b = pair.a, pair.b
    args = f"{mode} -T v -I 5 -C 20 -S 6000"
    # With -T a the client takes POLLHUP for an error though the last data is there, too (rstream's do_poll()). With the
    # poller the server's shutdown mostly comes together with that.
    with poll_us(0) if mode == "-T a" else nullcontext():
        both(a, b, f"rstream -b {a.ip} {args}", f"rstream -s {a.ip} {args}")


@LONG
def test_rstream_resolve_ipv6(pair):
    a, b = pair.a, pair.b
    both(a, b, f"rstream -b {a.ip6} -T v -I 5 -C 20", f"rstream -s {a.ip6} -T r -T v -I 5 -C 20")


@pytest.mark.parametrize("mode", ["-T b", pytest.param("-T n", marks=LONG), pytest.param("-T a", marks=LONG)])
def test_riostream(pair, mode):
    a, b = pair.a, pair.b
    args = f"{mode} -T v -I 5 -C 5 -S 6000"
    both(a, b, f"riostream -b {a.ip} {args}", f"riostream -s {a.ip} {args}")


def test_rcopy(pair, blob, tmp_path):
    a, b = pair.a, pair.b
    copy = tmp_path / "copy"
    with serve(a, "rcopy") as s:
        b.run(f"rcopy {blob} {a.ip}:{copy}")
        assert digest(copy) == digest(blob), s.out


def test_rspreload(pair, blob, tmp_path):
    """A TCP program that knows of no RDMA carries a file over it, and no TCP of its own.

    The library is for the program alone: a shell that redirects calls dup2() before the library is
    ready, and dies of it.
    """
    a, b = pair.a, pair.b
    copy, rdma = tmp_path / "copy", f"LD_PRELOAD={PRELOAD} plaintcp"
    with serve(a, f"{rdma} {a.ip} 7000 >{copy}") as s:
        b.run(f"{rdma} -c {a.ip} 7000 <{blob}")
        s.wait()
    assert digest(copy) == digest(blob)


def tx_bytes(node):
    return int(node.run(f"cat /sys/class/net/{node.netdev}/statistics/tx_bytes").out)


def test_rspreload_iperf3(pair):
    """iperf3 has its control and its data over RDMA; the summary that it wants from TCP's own counters it cannot have.

    Not every program can: nc calls accept4(), which the library does not stand in for, and for socat its
    select() tells of other descriptors than are ready.
    """
    a, b = pair.a, pair.b
    env = {"LD_PRELOAD": PRELOAD}
    before, sent = a.counter("accepted"), tx_bytes(b)
    with serve(a, f"iperf3 -s -1 -B {a.ip}", env=env):
        with b.start(f"iperf3 -c {a.ip} -t 4", env=env):
            wait_until(lambda: a.counter("accepted") == before + 2, message="no connections for control and data")
            wait_until(lambda: tx_bytes(b) - sent > 4 << 20, message="no data")


@LONG
@pytest.mark.parametrize("tool", ["ib_send_bw", "ib_write_bw", "ib_read_bw"])
def test_perftest_bw(pair, tool):
    rows = perftest(pair.a, pair.b, pair.a.ip, tool, "-n 200 -s 16384")
    assert rows[-1][:2] == [16384, 200]


@LONG
@pytest.mark.parametrize("tool", ["ib_send_lat", "ib_write_lat", "ib_read_lat"])
def test_perftest_lat(pair, tool):
    rows = perftest(pair.a, pair.b, pair.a.ip, tool, "-n 200")
    assert rows[-1][:2] == [2, 200]


@LONG
def test_perftest_bidirectional(pair):
    rows = perftest(pair.a, pair.b, pair.a.ip, "ib_write_bw", "-n 200 -s 8192 -b")
    assert rows[-1][:2] == [8192, 200]


@LONG
def test_perftest_events_inline_many_sizes(pair):
    """Completion events instead of polling, inline sends, all sizes up to 8 MiB."""
    perftest(pair.a, pair.b, pair.a.ip, "ib_send_lat", "-n 100 -e -I 256 -s 200")
    rows = perftest(pair.a, pair.b, pair.a.ip, "ib_write_bw", "-a -n 10")
    assert [r[0] for r in rows] == [2.0**i for i in range(1, 24)]


@LONG
def test_perftest_data_validation(pair):
    """Where the packaged perftest has the option."""
    a, b = pair.a, pair.b
    if "data_validation" not in run_at(b, "ib_write_bw --help", check=False).out:
        pytest.skip("this perftest has no --data_validation")
    perftest(a, b, a.ip, "ib_write_bw", "-n 50 -s 8192 --data_validation")


@LONG
def test_perftest_srq_and_qps(pair):
    perftest(pair.a, pair.b, pair.a.ip, "ib_send_bw", "-n 100 -s 4096 --use-srq")
    perftest(pair.a, pair.b, pair.a.ip, "ib_write_bw", "-n 100 -s 4096 -q 4")


@LONG
@pytest.mark.parametrize("kind", ["FETCH_AND_ADD", "CMP_AND_SWAP"])
def test_perftest_atomics(pair, kind):
    for tool in ("ib_atomic_bw", "ib_atomic_lat"):
        rows = perftest(pair.a, pair.b, pair.a.ip, tool, f"-n 200 -A {kind}")
        assert rows[-1][:2] == [8, 200]


@LONG
def test_perftest_write_with_imm(pair):
    rows = perftest(pair.a, pair.b, pair.a.ip, "ib_write_bw", "-n 200 -s 16384 --write_with_imm")
    assert rows[-1][:2] == [16384, 200]
