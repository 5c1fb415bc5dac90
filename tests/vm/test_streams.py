# SPDX-License-Identifier: GPL-2.0
"""Streams are placed by a worker on another CPU, exchanges where they arrive; see Documentation, "Streams"."""

import pathlib

import pytest
from rvm import Pair, wait_until
from test_traffic import transfer
from vm_fixtures import KINDS

CPU1 = pathlib.Path("/sys/devices/system/cpu/cpu1/online")
BOTH = pytest.mark.parametrize("kind", KINDS)


def perftest(p, tool, args):
    """A run of a perftest program from b to a. What the receivers of either end have left to workers meanwhile."""
    before = [x.counter("streamed") for x in (p.a, p.b)]
    cmd = f"{tool} -R -F {args}"
    with p.a.start(f"exec {cmd}") as server:
        wait_until(lambda: p.a.listens())
        p.b.run(f"{cmd} {p.a.ip}", timeout=120)
        server.wait()
    return [x.counter("streamed") - n for x, n in zip((p.a, p.b), before, strict=True)]


@pytest.fixture(scope="module", params=KINDS)
def ends(request, module):
    with Pair(kind=request.param) as p:
        yield p.settle()


@pytest.mark.parametrize("tool", ["ib_write_bw", "ib_send_bw", "ib_read_bw"])
def test_stream_has_a_worker(ends, tool):
    """Most of it, at the end that it is placed at."""
    to_server, to_client = perftest(ends, tool, "-s 65536 -n 1000")
    placed = to_client if tool == "ib_read_bw" else to_server
    assert placed > 100, (to_server, to_client)
    assert ends.a.counter("stream_dropped") + ends.b.counter("stream_dropped") == 0


@pytest.mark.parametrize("args", ["ib_send_lat -s 64", "ib_write_lat -s 8192", "ib_read_lat -s 64"])
def test_exchange_has_none(ends, args):
    """It is executed where it arrives, but for the beginning, where something was streamed before."""
    tool, args = args.split(maxsplit=1)
    assert max(perftest(ends, tool, f"{args} -n 1000")) <= 32


@pytest.mark.skipif(not CPU1.exists(), reason="this machine cannot take its second CPU away")
class TestCpus:
    def test_one_has_to_do(self, ends):
        """With one CPU there is no worker, and yet traffic."""
        CPU1.write_text("0")
        try:
            assert perftest(ends, "ib_write_bw", "-s 65536 -n 300") == [0, 0]
        finally:
            CPU1.write_text("1")

    @pytest.mark.parametrize("tool", ["ib_write_bw", "ib_read_bw"])
    def test_come_and_go(self, ends, tool, rounds):
        """While a stream runs, which goes on."""
        cmd = f"{tool} -R -F -s 65536 --run_infinitely -D 1"
        with ends.a.start(f"exec {cmd}"):
            wait_until(lambda: ends.a.listens())
            with ends.b.start(f"exec {cmd} {ends.a.ip}") as client:
                receives = ends.b if tool == "ib_read_bw" else ends.a
                try:
                    for _ in range(min(rounds, 20)):
                        was, streamed = receives.rx_bytes(), receives.counter("streamed")
                        CPU1.write_text("0")
                        wait_until(lambda w=was: receives.rx_bytes() > w + (4 << 20), 30)
                        CPU1.write_text("1")
                        wait_until(lambda s=streamed: receives.counter("streamed") > s + 50, 30)
                    assert client.running(), client.out
                finally:
                    CPU1.write_text("1")


@BOTH
@pytest.mark.parametrize("qps", [1, pytest.param(40, marks=pytest.mark.long)])
def test_streams_are_intact(module, kind, qps):
    """Both directions at once, of one connection and of more than there are lanes; what is placed is verified."""
    with Pair(kind=kind) as p:
        p.settle()
        transfer(p, 1 << 18, 24 if qps == 1 else 2, qps=qps, both=1)
        assert p.a.counter("streamed") + p.b.counter("streamed") > 0


@BOTH
def test_streams_over_a_bad_wire(module, kind):
    """Losses among super-packets, which a stream has."""
    with Pair(kind=kind) as p:
        p.settle().impair("loss 1% delay 100us")
        transfer(p, 1 << 20, 4, env={"VT_ACK_TIMEOUT": "14"} if kind == "rurdma_roce" else None)
        assert p.a.counter("streamed") + p.b.counter("streamed") > 0
