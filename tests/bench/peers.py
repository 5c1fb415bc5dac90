# SPDX-License-Identifier: GPL-2.0
"""Pairs of links that are measured side by side in one VM, each over a veth of its own."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

from rvm import Pair, Proc, run

# What `rdma link add` calls the drivers that we measure.
KINDS = {"iwarp": "rurdma", "roce": "rurdma_roce", "siw": "siw", "rxe": "rxe"}
MODULES = {"siw": "siw", "rxe": "rdma_rxe"}


class Near:
    """The first namespace; wears the clothes of a Node."""

    name = None

    def run(self, cmd, **kw):
        return run(cmd, **kw)

    def start(self, cmd, **kw):
        return Proc(cmd, **kw)


class NearPair:
    """Two links of siw or rxe on the ends of one veth.

    Both work in the first namespace only, so both ends are there, and rules see
    to it that packets cross the veth all the same.
    """

    # One rule for the local table is enough, however many pairs there are.
    pairs = 0

    def __init__(self, driver, mtu=1500):
        self.driver, self.mtu = driver, mtu
        self.a, self.b = Near(), Near()
        # The rules of two drivers must not meet.
        self.net = list(KINDS).index(driver) + 10
        for i, x in enumerate((self.a, self.b), 1):
            x.netdev, x.dev, x.ip = f"{driver}v{i}", f"{driver}{i}", f"10.99.{self.net}.{i}"

    def _ends(self):
        """(end, the other, table and preference of its rules, its MAC, the other's MAC)"""
        macs = [f"02:00:00:99:{self.net:02}:0{i}" for i in (1, 2)]
        for i, (x, y) in enumerate(((self.a, self.b), (self.b, self.a))):
            yield x, y, 2 * self.net + i, macs[i], macs[1 - i]

    def __enter__(self):
        a, b = self.a, self.b
        run(f"modprobe {MODULES[self.driver]}")
        run(f"ip link add {a.netdev} mtu {self.mtu} type veth peer name {b.netdev} mtu {self.mtu}")
        for x, y, n, mac, _ in self._ends():
            run(
                f"ip link set {x.netdev} address {mac} && ip addr add {x.ip}/32 dev {x.netdev} && "
                f"sysctl -qw net.ipv4.conf.{x.netdev}.accept_local=1 net.ipv4.conf.{x.netdev}.rp_filter=0 && "
                f"ip link set {x.netdev} up && ip rule add pref {n} iif {x.netdev} lookup local && "
                f"ip rule add pref {40 + n} to {y.ip} iif lo lookup {100 + n} && "
                # rdma_cm asks which netdev leads to a peer, without an input interface.
                f"ip rule add pref {80 + n} to {y.ip} oif {x.netdev} lookup {100 + n}"
            )
        for x, y, n, _, mac in self._ends():
            run(
                f"ip route add {y.ip}/32 dev {x.netdev} src {x.ip} table {100 + n} && "
                f"ip neigh replace {y.ip} lladdr {mac} dev {x.netdev} nud permanent"
            )
        if not NearPair.pairs:
            # Local addresses are looked up last: else nothing would leave.
            run("sysctl -qw net.ipv4.conf.all.rp_filter=0; ip rule add pref 200 lookup local && ip rule del pref 0")
        NearPair.pairs += 1
        for x in (a, b):
            run(f"rdma link add {x.dev} type {KINDS[self.driver]} netdev {x.netdev}")
        return self

    def __exit__(self, *exc):
        NearPair.pairs -= 1
        if not NearPair.pairs:
            run("ip rule add pref 0 lookup local; ip rule del pref 200", check=False)
        for _, _, n, _, _ in self._ends():
            run("; ".join(f"ip rule del pref {p + n}" for p in (0, 40, 80)), check=False)
        run(f"ip link del {self.a.netdev}", check=False)

    def offloads_off(self):
        for x in (self.a, self.b):
            run(f"ethtool -K {x.netdev} tso off gso off gro off tx-udp-segmentation off", check=False)


def linked(driver, mtu=1500):
    """A pair of links of that driver; "tcp": a pair without."""
    if driver in MODULES:
        return NearPair(driver, mtu)
    return Pair(mtu, links=driver in KINDS, kind=KINDS.get(driver))
