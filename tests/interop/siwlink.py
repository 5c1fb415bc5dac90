# SPDX-License-Identifier: GPL-2.0
"""siw, or rxe, in the first namespace, which is the only place where they work,
rurdma at the other end of a veth."""

import contextlib

import pytest
from ends import Puppet
from rvm import Node, module_loaded, run

HERE, THERE = "10.66.0.1", "10.66.0.2"
HERE6, THERE6 = "fd66::1", "fd66::2"


class Ends:
    """The peer, by its name, and `rurdma`: node (None: the first namespace), address, netdev, device."""

    def __init__(self, node, peer):
        class End:
            def __init__(self, node, ip, ip6, netdev, dev):
                self.node, self.ip, self.ip6, self.netdev, self.dev = node, ip, ip6, netdev, dev

            def puppet(self):
                return Puppet(self.node)

        self.peer = End(None, HERE, HERE6, f"v{peer}", f"{peer}0")
        self.rurdma = End(node, THERE, THERE6, "vrw", "rwi0")
        setattr(self, peer, self.peer)

    def roles(self, server):
        """The server's end and the client's."""
        return (self.rurdma, self.peer) if server == "rurdma" else (self.peer, self.rurdma)


def reload_rurdma(params=""):
    if module_loaded():
        run("modprobe -r rurdma")
    run(f"modprobe rurdma {params}")


@contextlib.contextmanager
def siw_and_rurdma(params="mpa_peer_to_peer=0"):
    if run("modprobe siw", check=False).rc:
        pytest.fail("siw is not there: scripts/build siw modroot")
    reload_rurdma(params)
    try:
        with _ends("siw", "rurdma") as e:
            yield e
    finally:
        reload_rurdma()


@contextlib.contextmanager
def rxe_and_rurdma():
    """RoCEv2."""
    run("modprobe rdma_rxe")
    try:
        with _ends("rxe", "rurdma_roce") as e:
            yield e
    finally:
        run("modprobe -r rdma_rxe")


@contextlib.contextmanager
def _ends(theirs, ours):
    with Node() as n:
        e = Ends(n, theirs)
        netdev = e.peer.netdev
        # A wildcard listener in the node's namespace is one of siw's too, which makes its socket there, bound to the
        # index that its netdev has here: that must not be one of the node's.
        run(f"ip link add {netdev} index 900 type veth peer name {e.rurdma.netdev} index 901 netns {n.name}")
        try:
            run(f"ip addr add {HERE}/24 dev {netdev} && ip link set {netdev} up")
            run(f"ip addr add {HERE6}/64 dev {netdev} nodad")
            run(f"ip -n {n.name} addr add {THERE}/24 dev {e.rurdma.netdev}")
            run(f"ip -n {n.name} addr add {THERE6}/64 dev {e.rurdma.netdev} nodad")
            run(f"ip -n {n.name} link set {e.rurdma.netdev} up")
            for ns, dev in (("", netdev), (f"ip netns exec {n.name} ", e.rurdma.netdev)):
                run(f"{ns}ethtool -K {dev} tso off gso off gro off tx-udp-segmentation off", check=False)
            run(f"rdma link add {e.peer.dev} type {theirs} netdev {netdev}")
            n.link_add(e.rurdma.dev, e.rurdma.netdev, ours)
            yield e
        finally:
            run(f"rdma link del {e.peer.dev}", check=False)
            run(f"ip link del {netdev}", check=False)
