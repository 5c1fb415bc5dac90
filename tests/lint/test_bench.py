# SPDX-License-Identifier: GPL-2.0
"""The benchmark reads the output of others, and counts: both are tried here on what they have said."""

import contextlib
import itertools
import re
import types

import about
import cases
import idle
import loss
import mpa
import objects
import perftest
import pytest
import records
import report
import rig
import run
import sockets
import table
import targets
import tracing
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
    assert perftest.lat_figures(LAT, 64) == (1000, 13.09, 14.02, 19.50)
    assert perftest.lat_figures(LAT.replace("3.10", "-nan"), 64) == (1000, 13.09, 14.02, 19.50)


def test_perftest_not_a_number():
    """Nor is 0 a figure: it is what perftest says where it knows no clock."""
    for figure in ("nan", "0.000000"):
        with pytest.raises(Failed):
            perftest.bw_figures(BW.replace("0.038123", figure), 64)
    for figure in ("13.09", "19.50"):
        with pytest.raises(Failed):
            perftest.lat_figures(LAT.replace(figure, "-nan"), 64)


@pytest.mark.parametrize("text", ["", "Completion with error at client", BW.replace(" 64  ", " 32  ")])
def test_perftest_without_figures(text):
    with pytest.raises(Failed):
        perftest.bw_figures(text, 64)


def test_perftest_listener():
    """An id that is bound, or of another port, is no listener."""
    row = "link rw1/1 cm-id {}qp-type RC state {} ps TCP pid 71 comm ib_write_bw src-addr 10.0.2.2:{}\n"
    assert perftest.listener(row.format("", "LISTEN", 18024), 18024) == 71
    others = row.format("lqpn 2 ", "CONNECT", 18024) + row.format("", "LISTEN", 180240)
    assert perftest.listener(others, 18024) is None
    assert perftest.listener(row.format("", "ADDR_BOUND", 18024) + row.format("", "LISTEN", 18025), 18024) is None


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
    for few in ("sockperf: No valid observations found.", text.replace("Total 9999", "Total 7")):
        with pytest.raises(sockets.TooFew):
            sockets.pingpong_figures(few)
    with pytest.raises(Failed, match="no percentiles"):
        sockets.pingpong_figures("sockperf: ERROR: Can`t connect socket")


def test_few_round_trips(monkeypatch):
    """Then there is more time for them."""
    asked = []

    def slow(rig, driver, size, seconds):
        asked.append(seconds)
        if len(asked) < 3:
            raise sockets.TooFew("7")
        return 30.0, 60.0

    monkeypatch.setattr(sockets, "_pingpong", slow)
    assert [x.value for x in sockets.pingpong(FakeRig(), "udp", cases.Case("pingpong", None, 64))] == [30.0, 60.0]
    assert asked == sorted(set(asked))


def test_own_programs():
    assert objects.figure("81.250 connections/s\n-1.500 KiB/QP\n", "KiB/QP") == -1.5
    with pytest.raises(Failed):
        objects.figure("", "KiB/QP")


def test_counters():
    net = "Inter-|   Receive\n face |bytes\n    lo:     100  1 0\n v1: 4096 3 0\nv10: 7 1 0\n"
    assert wire.rx_bytes(net, "v1") == 4096
    assert usage.idle_seconds("cpu  1 2 3 400 100 6 7 0 0 0\ncpu0 0\n") == pytest.approx(500 * usage.TICK)


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


STATS = """\
entries: 2
overrun: 30
commit overrun: 0
bytes: 128
oldest event ts:     7.100000
now ts:     9.200000
dropped events: 1
read events: 4
"""
TRACE = """\
# tracer: nop
 kworker/0:1-12 [000] d..2. 7.100001: workqueue_execute_start: work struct 00000000a1: function siw_work [siw]
 <idle>-0 [000] ..s1. 7.100002: timer_expire_entry: timer=00000000a2 function=siw_late [siw] now=4 baseclk=4
 <idle>-0 [001] d.h1. 7.100003: hrtimer_expire_entry: hrtimer=00000000a3 function=tick_nohz_handler now=9
 kworker/0:1-12 [000] d..2. 7.100004: workqueue_execute_start: work struct 00000000a4: function vmstat_update
 kworker/0:1-12 [000] d..2. 7.100005: sched_waking: comm=siw_tx/0 pid=71 prio=120 target_cpu=000
 siw_tx/0-71 [000] d..2. 7.100006: sched_waking: comm=kworker/0:1 pid=12 prio=120 target_cpu=000
"""


def test_events(tmp_path):
    (cpu := tmp_path / "per_cpu/cpu0").mkdir(parents=True)
    (tmp_path / "trace").write_text(TRACE)
    trace = tracing.Trace(tmp_path)
    (cpu / "stats").write_text(STATS)
    assert trace.count() == 37
    with pytest.raises(Failed, match="more events"):
        trace.text()
    (cpu / "stats").write_text(STATS.replace("30", "0"))
    assert trace.text() == TRACE


def test_idle():
    assert (idle.of_module(TRACE, "siw"), idle.of_module(TRACE, "rurdma")) == (2, 0)
    assert (idle.of_threads(TRACE, "siw"), idle.of_threads(TRACE, "rurdma")) == (1, 0)
    with pytest.raises(Failed, match="names"):
        idle.of_module(TRACE.replace("siw_work [siw]", "0xffffffffc0a1"), "siw")


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
    campaign.run_one(FakeRig(), 0, cases.Case("send_lat", nothing_measured, 64), "iwarp")
    assert campaign.bad() == ["iwarp 1500 send_lat 64"]


def test_bytes_that_go_astray_end_it():
    def strays(rig, driver, case):
        with rig.crossing(types.SimpleNamespace(netdev="v")) as crossed:
            crossed.payload = 2 * FakeRig.CARRIED

    with pytest.raises(run.Aborted, match=r"siw 1500 send_bw 64: the payload does not go over .* have crossed"):
        run.Campaign(None).run_one(FakeRig(), 0, cases.Case("send_bw", strays, 64), "siw")


def test_nothing_moved():
    with pytest.raises(Failed, match="moved nothing"), FakeRig().crossing(None):
        pass


class FakeRig(rig.Rig):
    """Ends that are not there, and wires that carry whatever the programs say."""

    CARRIED = 1 << 40

    def __init__(self, mtu=1500):
        super().__init__((), mtu, 1, (0, 1))
        end = types.SimpleNamespace(ip="192.0.2.1", dev="dev", netdev="v", start=self.start, run=self.run)
        self.pairs = {d: types.SimpleNamespace(a=end, b=end) for d in rig.DRIVERS}
        self.asked = []
        carried = iter(range(self.CARRIED, self.CARRIED**2, self.CARRIED))
        self._wire = types.SimpleNamespace(received=lambda: next(carried))

    def wire(self, node):
        return self._wire

    def ask_for_crc(self, on):
        self.asked.append(on)

    def start(self, cmd):
        return contextlib.nullcontext()

    def run(self, cmd, **kw):
        return None


def made(driver, test, values, size=64, qps=1, mtu=1500):
    s = records.Series()
    for v in values:
        s.add(driver, mtu, records.Reading(test, size, qps, "us", v), "on")
    return s.records()


def test_records():
    (r,) = made("iwarp", "send_lat", [3, 1, 2.123456])
    assert tuple(r) == records.FIELDS
    assert (r["median"], r["min"], r["max"], r["rounds"], r["crc"]) == (2.1235, 1, 3, 3, "on")


def test_table():
    rows = made("iwarp", "send_lat", [10, 12]) + made("siw", "send_lat", [22]) + made("tcp", "pingpong_lat", [33])
    head, row = table.table(rows)
    assert head.split()[:2] == ["iwarp", "roce"]
    assert "64 B" in row and "11   ±9%" in row
    # iwarp:siw, roce:rxe, iwarp:tcp, roce:tcp
    assert row.split()[-4:] == ["0.50", "-", "0.33", "-"]


def test_table_without_crc():
    """Beside iWARP without its CRC stand siw, which has none, and TCP; not those who always have one."""
    rows = made("iwarp", "send_bw_nocrc", [30]) + made("siw", "send_bw", [10]) + made("tcp", "stream_bw", [60])
    rows += made("rxe", "send_bw", [5])
    by = {test: of_row for test, *_, of_row in table.rows(rows)}
    assert [d for d, r in by["send_bw_nocrc"].items() if r] == ["iwarp", "siw", "tcp"]
    assert [d for d, r in by["send_bw"].items() if r] == ["siw", "rxe", "tcp"]


def judged(rows, what, driver, **kw):
    """(ratio, verdict) of one target."""
    (got,) = [x for x in table.judged(rows, targets.targets(**kw)) if x[0].what == what and x[0].driver == driver]
    return got[1:]


def test_target():
    what = "write 64 B, messages/s, one QP : better of siw and rxe"
    rows = made("roce", "write_rate", [90]) + made("siw", "write_rate", [10]) + made("rxe", "write_rate", [20])
    assert judged(rows, what, "roce") == (4.5, "reached")
    rows = made("iwarp", "read_lat", [9]) + made("siw", "read_lat", [10])
    assert judged(rows, "read 64 B latency : siw", "iwarp") == (0.9, "missed by 50 %")
    rows = made("iwarp", "read_bw", [2], 65536) + made("iwarp", "write_bw", [5], 65536)
    assert judged(rows, "read 64 KiB, CRC on : own write", "iwarp") == (0.4, "missed by 50 %")


def test_target_without_figures():
    """It is not reached, whatever else there is; nor is the best of two rivals known by one of them."""
    what = "write 64 B, messages/s, one QP : better of siw and rxe"
    rows = made("roce", "write_rate", [1e9]) + made("siw", "write_rate", [1])
    assert judged(rows, what, "roce") == (None, "NOT MEASURED: no rxe write_rate")
    assert judged(rows + made("rxe", "write_rate", [0]), what, "roce")[0] is None
    lines = list(table.target_lines([], targets.targets()))
    assert all("NOT MEASURED" in x for x in lines)
    assert lines[-1].startswith("Targets: 0 reached, 0 missed,")
    assert len(list(table.target_lines([], targets.targets(), unmeasured=False))) == 1


def test_targets_depend_on_the_machine():
    def least(mtu, **kw):
        return {t.at_least for t in targets.targets(**kw) if t.what == "send 64 KiB : rxe" and t.mtu == mtu}

    assert (least(1500), least(9000)) == ({3}, {2})
    assert (least(1500, uml=True), least(9000, uml=True)) == ({6}, {2})


def test_like_is_compared_with_like():
    """siw's setting of the CRC is that of ours beside it."""
    for siw_crc, test in ((False, "write_bw_nocrc"), (True, "write_bw")):
        (t,) = [x for x in targets.targets(siw_crc=siw_crc) if x.what.startswith("write") and x.what.endswith("siw")]
        assert t.ours.test == test


def test_system_calls():
    """They are judged whether there is a poller or not. And a figure is not cut off where the target begins."""
    what = "system calls of a streamed send, 64 B"
    assert judged(made("roce", "send_syscalls", [0.004]), what, "roce") == (0.004, "missed")
    assert judged(made("roce", "send_syscalls", [0]), what, "roce") == (0, "reached")
    assert [table.ratio(x) for x in (None, 0, 0.0996, 0.1, 12.345)] == ["-", "0.00", "0.1", "0.10", "12.35"]


def perftest_says(program):
    """What a run of perftest prints at its end."""
    size, n = (int(re.search(rf" -{o} (\d+)", program)[1]) for o in "sn")
    qps = re.search(r" -q (\d+)", program)
    n *= int(qps[1]) if qps else 1
    if "_lat" in program:
        return f" {size} {n} 1 2 3 4 5 6 7\n"
    return f" {size} {n} 100 100 0.1\n"


@pytest.fixture
def no_programs(monkeypatch):
    """The programs say what they usually do."""
    window = usage.Window(1000, busy=0.5, calls=20)

    def exchange(rig, driver, program, usage=None, limit=0):
        if usage:
            usage.cpu = usage.syscalls = window
        return perftest_says(program)

    def stream(rig, driver, size, seconds, usage=None):
        if usage:
            usage.cpu = usage.syscalls = window
        return 10, 10, 100

    def pingpong(rig, driver, case):
        return [records.Reading(f"pingpong_lat{x}", case.size, 1, "us", 1) for x in ("", "_p99")]

    def idle_for(rig, driver, case):
        return [records.Reading("idle_wakeups", 0, 1, "1/s", 0)]

    monkeypatch.setattr(perftest, "exchange", exchange)
    monkeypatch.setattr(perftest, "per_operation", lambda window, wire: (1e-6, 1))
    monkeypatch.setattr(sockets, "_stream", stream)
    monkeypatch.setattr(sockets, "pingpong", pingpong)
    monkeypatch.setattr(idle, "wakeups", idle_for)


@pytest.mark.parametrize("quick", [True, False])
def test_all_targets_are_measured(no_programs, quick):
    """By the quick list as well, MTU for MTU."""
    o = types.SimpleNamespace(k="")
    campaign = run.Campaign(o, {"asks_for_crc": {"siw": False}})
    rigs = {}
    for mtu, case, driver in cases.chosen(quick):
        if case.name not in ("connect", "mr_reg"):
            campaign.run_one(rigs.setdefault(mtu, FakeRig(mtu)), 0, case, driver)
    assert not campaign.failures
    got = campaign.series.records()
    bad = [v for *_, v in table.judged(got, targets.targets()) if v.startswith("NOT MEASURED")]
    assert not bad
    assert {r["crc"] for r in got if r["test"].endswith("_nocrc")} == {"off"}
    assert {(r["driver"], r["crc"]) for r in got if not r["test"].endswith("_nocrc")} == {
        *(("iwarp", "on"), ("roce", "on"), ("rxe", "on")),
        *(("siw", "off"), ("tcp", "none"), ("udp", "none")),
    }
    assert {False, True} == set(rigs[1500].asked)


def test_over_too_early(no_programs, monkeypatch):
    """Then it is tried with more, and the runs of bandwidth stay as they are."""
    asked = []

    def watch(n, watched):
        asked.append(n)
        if len(asked) < 3:
            raise usage.TooShort("over")
        watched.cpu = watched.syscalls = usage.Window(1000, busy=0.5, calls=20)

    def exchange(rig, driver, program, watched, limit=0):
        watch(int(re.search(r" -n (\d+)", program)[1]), watched)
        return perftest_says(program)

    def stream(rig, driver, size, seconds, watched):
        watch(seconds, watched)
        return 10, 10, 100

    monkeypatch.setattr(perftest, "exchange", exchange)
    monkeypatch.setattr(sockets, "_stream", stream)
    fake, key = FakeRig(), ("iwarp", "send", 64)
    fake.rates[key] = 1000
    perftest.resources(fake, "iwarp", cases.Case("send_cpu", None, 64, "send"))
    assert [n // asked[0] for n in asked] == [1, 3, 9]
    assert fake.rates[key] == 1000
    asked.clear()
    assert len(sockets.resources(fake, "tcp", cases.Case("stream_cpu", None, 64))) == 3
    assert len(asked) == 3 and asked == sorted(set(asked))


def test_receives():
    """Over iWARP a client that sleeps is never to wait for the server's receives."""
    case = cases.Case("send_cpu_ev", None, 64, "send", events=True)
    assert perftest.resources_run(case, 10000).endswith(" -r 10001 -N -e")
    assert perftest.resources_run(case, 50000).endswith(" -r 16384 -N -e")
    assert perftest.resources_run(case, 10).endswith(" -r 11 -N -e")
    assert perftest.resources_run(cases.Case("send_cpu", None, 64, "send"), 20000).endswith(" -r 16384 -N")


def test_request_of_mpa():
    head = b"MPA ID Req Frame".hex()
    assert mpa.crc_flag(f"{head}50020000")
    assert not mpa.crc_flag(f"{head}10020000")
    for text in ("", head, head.replace("52", "51") + "50020000"):
        with pytest.raises(Failed):
            mpa.crc_flag(text)


INFO = {
    "date": "2026-11-01",
    "kernel": "7.2",
    "machine": "VM",
    "cpus": 2,
    "programs": "perftest 1",
    "revision": "abc",
    "command": "make bench",
    "quick": False,
    "only": "",
    "rounds": 2,
    "poll_us": 0,
    "pin": (0, 1),
    "asks_for_crc": {"siw": False, "iwarp": True},
    "aborted": "",
    "failures": {"siw 1500 x": "1 times, `hangs`"},
}


def test_what_figures_hold_for():
    head = "\n".join(about.lines(INFO))
    assert "siw: MPA CRC off, as its requests say" in head and "make bench" in head
    assert "QUICK" not in head and "ABORTED" not in head
    assert "QUICK" in "\n".join(about.lines(INFO | {"quick": True}))
    assert "not seen" in "\n".join(about.lines(INFO | {"asks_for_crc": {"siw": None}}))
    assert about.machine("model name\t: Some CPU\n", "7.2.12-rurdma-uml") == "User Mode Linux (Some CPU)"
    assert "emulated" in about.machine("model name\t: QEMU TCG CPU version 2.5+\n", "7.2.12+deb13-amd64")


def test_page():
    """All borders of a table are as wide as its rows need, and no cell begins a list."""
    rows = made("iwarp", "send_lat", [10, 12]) + made("siw", "send_lat", [22]) + made("tcp", "pingpong_lat", [33])
    text = "\n".join(report.page(rows, INFO))
    assert "missed by" not in text and "reached, " in text
    borders = [x for x in text.splitlines() if re.fullmatch("=+(  =+)+", x)]
    assert len(borders) == 6
    assert not re.search(r"  -(  |$)", text, re.M)
    (row,) = [x for x in text.splitlines() if x.startswith("send_lat")]
    assert "0.50" in row and "11 ±9%" in row
    titles = [(a, b) for a, b in itertools.pairwise(text.splitlines()) if a and re.fullmatch("=+", b)]
    assert titles and all(len(a) == len(b) for a, b in titles)


def test_reason():
    hung = "exec ib_write_bw -q 1024 10.99.12.2: hangs\n-----\n #bytes\n 4096   16384    1.04\n\n"
    assert run.reason(hung) == "hangs; 4096 16384 1.04"
    ended = "exec ib_write_bw 10.99.12.2: exit code -6\nCouldn't create QP\nUnable\n ----\nfree(): double free\n"
    assert run.reason(ended) == "exit code -6; Couldn't create QP; Unable"
    assert run.reason("nothing crossed the wire") == "nothing crossed the wire"


def test_cases():
    quick, everything = cases.chosen(True), cases.chosen(False)
    assert set(quick) < set(everything)
    names = [cases.label(driver, mtu, case) for mtu, case, driver in everything]
    assert len(names) == len(set(names))
    assert {mtu for mtu, *_ in quick} == {1500, 9000}
    one = next(c for _, c, _ in quick if str(c) == "write_bw 64")
    assert cases.matches("iwarp bw 64", cases.label("iwarp", 1500, one))
    assert cases.matches("roce or iwarp send_bw or iwarp write_bw", cases.label("iwarp", 1500, one))
    assert not cases.matches("roce or siw", cases.label("iwarp", 1500, one))
    assert {c.variant for _, c, d in cases.chosen(False, "nocrc") if d == "iwarp"} == {"_nocrc"}
    assert {d for *_, d in cases.chosen(False, "nocrc")} == {"iwarp"}


def test_programs_have_cpus_of_their_own():
    fake = FakeRig()
    assert (fake.client("x -y"), fake.server("x")) == ("exec taskset -c 0 x -y", "exec taskset -c 1 x")
    fake.pin = None
    assert fake.client("x") == "exec x"
