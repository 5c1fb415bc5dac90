# SPDX-License-Identifier: GPL-2.0
"""The benchmark reads the output of others, and counts: both are tried here on what they have said."""

import types

import cases
import idle
import loss
import objects
import perftest
import pytest
import records
import run
import sockets
import table
import targets
import usage
import wire
from rvm import Failed

BW = """\
---------------------------------------------------------------------------------------
 #bytes     #iterations    BW peak[MiB/sec]    BW average[MiB/sec]   MsgRate[Mpps]
 64         38100            0.00               2.33   \t\t     0.038123
---------------------------------------------------------------------------------------
"""
LAT = """\
 #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]  99% percentile[usec]
 64      1000          12.31          201.22       13.09    \t       14.02       \t3.10\t\t19.50  \t\t88.01
"""


def test_perftest_bandwidth():
    assert perftest.bw_figures(BW, 64) == (38100, 38123)
    big = BW.replace(" 64  ", " 65536  ").replace("2.33", "59.10")
    assert perftest.bw_figures(big, 65536) == (38100, 59.10 * 16)


def test_perftest_latency():
    assert perftest.lat_figures(LAT, 64) == (1000, 13.09, 19.50)
    assert perftest.lat_figures(LAT.replace("3.10", "-nan"), 64) == (1000, 13.09, 19.50)


def test_perftest_not_a_number():
    with pytest.raises(Failed):
        perftest.bw_figures(BW.replace("0.038123", "nan"), 64)
    for figure in ("13.09", "19.50"):
        with pytest.raises(Failed):
            perftest.lat_figures(LAT.replace(figure, "-nan"), 64)


@pytest.mark.parametrize("text", ["", "Completion with error at client", BW.replace(" 64  ", " 32  ")])
def test_perftest_without_figures(text):
    with pytest.raises(Failed):
        perftest.bw_figures(text, 64)


def test_iperf3():
    text = '{"end": {"sum": {"bytes": 9}, "sum_received": {"bytes": 2000, "bits_per_second": 8000}}}'
    assert sockets.stream_figures(text) == (2000, 1000)
    assert sockets.stream_figures(f"iperf3: warning: UDP block size 1472 exceeds\n{text}") == (2000, 1000)


def test_sockperf():
    text = (
        "sockperf: \x1b[2;35mTotal 9999 observations\x1b[0m; each percentile contains 99.99 observations\n"
        "sockperf: ---> percentile 99.000 =   61.250\nsockperf: ---> percentile 50.000 =   33.001\n"
    )
    assert sockets.pingpong_figures(text) == (9999, 33.001, 61.25)
    with pytest.raises(Failed):
        sockets.pingpong_figures("sockperf: No valid observations found.")


def test_own_programs():
    assert objects.figure("81.250 connections/s\n-1.500 KiB/QP\n", "KiB/QP") == -1.5
    with pytest.raises(Failed):
        objects.figure("", "KiB/QP")


def test_counters():
    net = "Inter-|   Receive\n face |bytes\n    lo:     100  1 0\n v1: 4096 3 0\nv10: 7 1 0\n"
    assert wire.rx_bytes(net, "v1") == 4096
    assert usage.idle_seconds("cpu  1 2 3 400 100 6 7 0 0 0\ncpu0 0\n") == pytest.approx(500 * usage.TICK)
    hist = "# event histogram\n\n{ common_pid:        802 } hitcount:          3\n{ common_pid: 7 } hitcount: 40\n"
    assert usage.calls_by_thread(hist) == {802: 3, 7: 40}


def by_name(todo):
    return {str(wire): drivers for wire, drivers in todo.items()}


def test_loss():
    everything = by_name(loss.chosen(""))
    assert list(everything) == [*loss.WIRES, *(f"{wire}, offloads on" for wire in loss.WIRES if wire != "loss 0.1 %")]
    assert all(everything[wire] == list(loss.DRIVERS) for wire in loss.WIRES)
    assert everything["loss 1 %, offloads on"] == ["iwarp", "roce", "tcp"]
    assert list(by_name(loss.chosen("", "off"))) == list(loss.WIRES)
    some = {"whole": ["tcp"], "loss 0.1 %": ["iwarp"], "loss 1 %": ["iwarp"]}
    assert by_name(loss.chosen("iwarp loss or tcp whole", "off")) == some
    assert by_name(loss.chosen("iwarp loss", "on")) == {"loss 1 %, offloads on": ["iwarp"]}
    assert not loss.chosen("iwarp nosuch")
    assert not loss.chosen("rxe", "on")


WHOLE = loss.Wire("whole")


def test_loss_without_figures(monkeypatch):
    """Of ours it is a failure, of a peer it is told."""

    def broken(driver, pair, wire, mib):
        return {}["end"] if driver == "tcp" else float(loss.said(r"([\d.]+) MiB/s", "bulk: nothing"))

    monkeypatch.setattr(loss, "spoil", lambda pair, wire: None)
    monkeypatch.setattr(loss, "transfer", broken)
    got, bad = loss.over(WHOLE, dict.fromkeys(("iwarp", "siw", "tcp")), 1)
    assert got == {"iwarp": None, "siw": None, "tcp": None}
    assert len(bad) == 1 and bad[0].startswith("iwarp, whole: no ")
    # In the order of the table's columns: not tried is not failed.
    row = ["whole", *("failed" if d in got else "-" for d in loss.DRIVERS)]
    assert list(loss.table({WHOLE: got}, 1))[1].split() == row
    monkeypatch.setattr(loss, "transfer", lambda driver, *_: {"rxe": 2.0}.get(driver, 1.0))
    assert len(loss.over(WHOLE, dict.fromkeys(("roce", "siw", "rxe")), 1)[1]) == 1


def test_loss_without_the_bar():
    """Ours cannot be compared where rxe failed; where it failed everywhere, nothing is proven."""
    lossy = loss.Wire("loss 1 %")
    fine, broken = {"iwarp": 9.0, "roce": 8.0, "rxe": 1.0}, {"iwarp": 9.0, "roce": 8.0, "rxe": None}
    assert loss.compared({WHOLE: fine, lossy: fine}) == ([], [])
    said, bad = loss.compared({WHOLE: fine, lossy: broken})
    assert not bad and len(said) == 1 and "rxe failed" in said[0] and "loss 1 %" in said[0]
    said, bad = loss.compared({WHOLE: broken, lossy: broken, loss.Wire("whole", "on"): {"roce": 50.0}})
    assert len(said) == 2 and len(bad) == 1 and "every wire" in bad[0]
    # Who asks for ours alone has asked for no comparison.
    said, bad = loss.compared({WHOLE: {"roce": 9.0}})
    assert not bad and "nothing is compared" in said[0]


def test_idle():
    works = (
        "{ function: [ffffffffc0a1] siw_work [siw]                    } hitcount:          3\n"
        "{ function: [ffffffffc0a2] siw_other [siw] } hitcount: 4\n"
        "{ function: [ffffffff81a2] vmstat_update } hitcount: 9\n"
    )
    assert idle.of_module(works, "siw") == 7
    assert idle.of_module(works, "rurdma") == 0
    threads = "{ comm: siw_tx/0 } hitcount: 2\n{ comm: kworker/0:1 } hitcount: 8\n"
    assert idle.of_threads(threads, "siw") == 2


def test_per_operation():
    w = usage.Window(1000, busy=0.5, calls=20)
    assert usage.per_operation(w, 100) == (0.05, 2)
    with pytest.raises(Failed):
        usage.per_operation(w, 5000)


def test_a_peer_that_hangs():
    class Hangs:
        cmd, out = "ib_send_bw", "connected"

        def received(self):
            return 0

        def running(self):
            return True

    with pytest.raises(Failed, match="hangs"):
        usage.Usage(Hangs(), 1).watch(Hangs(), Hangs(), 0.05)


def test_what_a_run_fails_with():
    """It is one failure among the results, and the campaign goes on."""

    def nothing_measured(rig, driver, case):
        return [1 / 0]

    campaign = run.Campaign(None)
    campaign.run_one(types.SimpleNamespace(mtu=1500), 0, cases.Case("send_lat", nothing_measured, 64), "iwarp")
    assert campaign.bad() == ["iwarp 1500 send_lat 64"]


def made(driver, test, values, size=64, qps=1, mtu=1500):
    s = records.Series()
    for v in values:
        s.add(driver, mtu, records.Reading(test, size, qps, "us", v))
    return s.records()


def test_records():
    (r,) = made("iwarp", "send_lat", [3, 1, 2.123456])
    assert tuple(r) == records.FIELDS
    assert (r["median"], r["min"], r["max"], r["rounds"]) == (2.1235, 1, 3, 3)


def test_table():
    rows = made("iwarp", "send_lat", [10, 12]) + made("siw", "send_lat", [22]) + made("tcp", "pingpong_lat", [33])
    head, row = table.table(rows)
    assert head.split()[:2] == ["iwarp", "roce"]
    assert "64 B" in row and "11   ±9%" in row
    # iwarp:siw, roce:rxe, iwarp:tcp, roce:tcp
    assert row.split()[-4:] == ["0.50", "-", "0.33", "-"]


def test_target():
    rows = made("roce", "write_rate", [90]) + made("siw", "write_rate", [10]) + made("rxe", "write_rate", [20])
    lines = list(table.target_lines(rows, targets.targets(crc=True, poller=False)))
    assert len(lines) == 1 and "4.50  reached" in lines[0]
    rows = made("iwarp", "read_lat", [7]) + made("siw", "read_lat", [10])
    assert "0.70  missed" in "".join(table.target_lines(rows, targets.targets(crc=True, poller=False)))


def test_system_calls_are_judged_with_a_poller():
    """Without one, each send is one. And a figure is not cut off where the target begins."""
    rows = made("roce", "send_syscalls", [0.004])
    assert not list(table.target_lines(rows, targets.targets(crc=True, poller=False)))
    (line,) = table.target_lines(rows, targets.targets(crc=True, poller=True))
    assert line.split()[-4:] == ["≤", "0.001", "0.004", "missed"]
    assert [table.ratio(x) for x in (None, 0, 0.0996, 0.1, 12.345)] == ["-", "0.00", "0.1", "0.10", "12.35"]


def test_reason():
    hung = "exec ib_write_bw -q 1024 10.99.12.2: hangs\n-----\n #bytes\n 4096   16384    1.04\n\n"
    assert run.reason(hung) == "hangs; 4096 16384 1.04"
    assert run.reason("nothing crossed the wire") == "nothing crossed the wire"


def test_cases():
    short, all_of_them = cases.chosen(False), cases.chosen(True)
    assert set(short) < set(all_of_them)
    names = [str(c) + "".join(c.drivers) for c in all_of_them]
    assert len(names) == len(set(names))
    one = next(c for c in short if str(c) == "write_bw 64")
    assert cases.matches("iwarp bw 64", cases.label("iwarp", 1500, one))
    assert cases.matches("roce or iwarp send_bw or iwarp write_bw", cases.label("iwarp", 1500, one))
    assert not cases.matches("roce or siw", cases.label("iwarp", 1500, one))
