# SPDX-License-Identifier: GPL-2.0
"""What rurdma is meant to reach, each as a ratio of figures of one run."""

import dataclasses

RDMA_PEERS = ("siw", "rxe")


@dataclasses.dataclass(frozen=True)
class Target:
    """The ratio of `test` of `driver` to that of a rival, of several the best one; without one, the figure itself."""

    what: str
    driver: str
    test: str
    size: int
    than: tuple  # of (driver, test)
    at_least: float | None = None
    at_most: float | None = None
    qps: int = 1
    than_qps: int = 1

    def ratio(self, median, mtu):
        """None where a figure is missing. `median`: {(driver, test, mtu, size, qps): value}"""
        ours = median.get((self.driver, self.test, mtu, self.size, self.qps))
        if not self.than:
            return ours
        theirs = [median.get((d, t, mtu, self.size, self.than_qps)) for d, t in self.than]
        theirs = [x for x in theirs if x]
        if ours is None or not theirs:
            return None
        return ours / (max(theirs) if self.at_most is None else min(theirs))

    def reached(self, ratio):
        return ratio >= self.at_least if self.at_most is None else ratio <= self.at_most

    def bound(self):
        return f"≥ {self.at_least:g}" if self.at_most is None else f"≤ {self.at_most:.2g}"


def _both(test):
    return tuple((d, test) for d in RDMA_PEERS)


def targets(crc, poller):
    """`crc`: whether iWARP has its CRC on. `poller`: whether rurdma's pollers are on."""
    tcp = 0.5 if crc else 0.9
    for op in ("write", "send"):
        test = f"{op}_bw"
        yield Target(f"{op} 64 KiB : TCP", "iwarp", test, 65536, (("tcp", "stream_bw"),), tcp)
        if not crc:
            yield Target(f"{op} 64 KiB : siw", "iwarp", test, 65536, (("siw", test),), 6)
    yield Target("read 64 KiB : own write", "iwarp", "read_bw", 65536, (("iwarp", "write_bw"),), 0.8)
    yield Target("read 64 KiB : siw", "iwarp", "read_bw", 65536, (("siw", "read_bw"),), 8)
    for op in ("write", "send", "read"):
        yield Target(f"{op} 64 KiB : rxe", "roce", f"{op}_bw", 65536, (("rxe", f"{op}_bw"),), 3)
    for d in ("iwarp", "roce"):
        yield Target("idle device, wakeups per second", d, "idle_wakeups", 0, (), at_most=0)
        if poller:
            # None, but that the programs look at the clock now and then. Without a poller each send is one.
            yield Target("system calls of a streamed send, 64 B", d, "send_syscalls", 64, (), at_most=0.001)
        for op in ("write", "send"):
            rate = f"{op}_rate"
            yield Target(f"{op} 64 B, messages/s : better of siw and rxe", d, rate, 64, _both(rate), 4)
        for test, name in (("send_lat", "typical"), ("send_lat_p99", "p99")):
            yield Target(f"send 64 B, {name} latency : better peer", d, test, 64, _both(test), at_most=0.7)
            tcp_test = test.replace("send", "pingpong")
            yield Target(f"send 64 B, {name} latency : TCP", d, test, 64, (("tcp", tcp_test),), at_most=1 / 3)
        for peer in RDMA_PEERS:
            than = ((peer, "read_lat"),)
            yield Target(f"read 64 B latency : {peer}", d, "read_lat", 64, than, at_most=0.6)
        yield Target("1024 QPs : 1 QP", d, "write_qps", 4096, ((d, "write_qps"),), 0.9, qps=1024)
        for suffix, how in (("", "polling"), ("_ev", "events")):
            test = f"send_cpu_byte{suffix}"
            than = (("tcp", "stream_cpu_byte"),)
            yield Target(f"CPU time per byte, send 64 KiB, {how} : TCP", d, test, 65536, than, at_most=1.2)
