# SPDX-License-Identifier: GPL-2.0
"""siw in the first namespace, which is the only place where it works, rurdma at
the other end of a veth."""

import contextlib
import os

import pytest
from ends import Puppet
from rvm import Node, module_loaded, run

HERE, THERE = "10.66.0.1", "10.66.0.2"


class Ends:
    """`siw` and `rurdma`: node (None: the first namespace), address, netdev, device."""

    def __init__(self, node):
        class End:
            def __init__(self, node, ip, netdev, dev):
                self.node, self.ip, self.netdev, self.dev = node, ip, netdev, dev

            def puppet(self):
                return Puppet(self.node)

        self.siw = End(None, HERE, "vsiw", "siw0")
        self.rurdma = End(node, THERE, "vrw", "rwi0")

    def roles(self, server):
        """The server's end and the client's."""
        return (self.siw, self.rurdma) if server == "siw" else (self.rurdma, self.siw)


def reload_rurdma(params=""):
    if module_loaded():
        run("modprobe -r rurdma")
    # Where it lies if not among the kernel's modules.
    ko = os.environ.get("RURDMA_KO")
    run(f"insmod {ko} {params}" if ko else f"modprobe rurdma {params}")


@contextlib.contextmanager
def siw_and_rurdma(params="mpa_peer_to_peer=0"):
    if run("modprobe siw", check=False).rc:
        pytest.fail("siw is not there: scripts/build siw modroot")
    reload_rurdma(params)
    try:
        with _ends() as e:
            yield e
    finally:
        reload_rurdma()


@contextlib.contextmanager
def _ends():
    with Node() as n:
        e = Ends(n)
        run(f"ip link add {e.siw.netdev} type veth peer name {e.rurdma.netdev} netns {n.name}")
        try:
            run(f"ip addr add {HERE}/24 dev {e.siw.netdev} && ip link set {e.siw.netdev} up")
            run(f"ip -n {n.name} addr add {THERE}/24 dev {e.rurdma.netdev}")
            run(f"ip -n {n.name} link set {e.rurdma.netdev} up")
            for ns, dev in (("", e.siw.netdev), (f"ip netns exec {n.name} ", e.rurdma.netdev)):
                run(f"{ns}ethtool -K {dev} tso off gso off gro off tx-udp-segmentation off", check=False)
            run(f"rdma link add {e.siw.dev} type siw netdev {e.siw.netdev}")
            n.link_add(e.rurdma.dev, e.rurdma.netdev)
            yield e
        finally:
            run(f"rdma link del {e.siw.dev}", check=False)
            run(f"ip link del {e.siw.netdev}", check=False)
