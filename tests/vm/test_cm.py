# SPDX-License-Identifier: GPL-2.0
"""Connections: listening, connecting, refusing, ending, and what strangers do; see vtcm.c and vtlisten.c."""

import contextlib
import pathlib
import re

import pytest
from rvm import Pair, run, wait_until


@pytest.fixture(scope="module")
def p(module):
    with Pair() as pair:
        # An address in the network from which no answer ever comes.
        hole = pair.a.ip.rsplit(".", 1)[0] + ".99"
        pair.a.run(f"ip neigh replace {hole} lladdr 02:00:00:00:00:99 dev {pair.a.netdev}")
        pair.hole = hole
        yield pair


@pytest.fixture
def cm(p):
    """Runs a test of vtcm.c, or of another program, in the first node; afterwards nothing of it is left."""

    def call(name, *args, addr=None, vt="vtcm", **kw):
        return p.a.run([vt, name, addr or p.a.ip, *args], **kw)

    yield call
    wait_until(lambda: not p.a.in_use(), 30, lambda: f"left over: {p.a.in_use()}")


# --- listening ---


def test_listen_on_an_address(cm):
    """A listener on one address, a connection, messages both ways."""
    cm("connects")


def test_listen_on_an_ipv6_address(cm, p):
    """The same with IPv6."""
    cm("connects", addr=p.a.ip6)


def test_listen_on_a_link_local_address(cm, p):
    """The same with a link-local address and its scope."""
    out = wait_until(lambda: p.a.run(f"ip -o -6 addr show dev {p.a.netdev} scope link -tentative").out)
    cm("connects", addr=out.split()[3].split("/")[0] + "%" + p.a.netdev)


def test_listen_on_the_wildcard(cm, p):
    """0.0.0.0, and :: for IPv6."""
    cm("wildcard")
    cm("wildcard", addr=p.a.ip6)


def test_listen_on_the_wildcard_of_both_families(cm, p):
    """:: takes IPv4 too."""
    cm("wildcard_many", p.a.ip, p.a.ip6)


def test_listen_for_ipv6_only(cm, p):
    """RDMA_OPTION_ID_AFONLY: IPv4 is refused."""
    cm("wildcard", "v6only", addr=p.a.ip6)
    cm("wildcard", "v6only")


def test_address_in_use(cm):
    """A second listener on an address and port: EADDRINUSE."""
    cm("address_in_use")


def test_port_is_shared_with_tcp(cm):
    """The port of a listener cannot be had by a TCP program, nor the other way around."""
    cm("port_is_tcp")


def test_backlog(cm):
    """Eight requests wait until they are accepted."""
    cm("backlog")


@pytest.mark.parametrize("answer", ["accept", "reject"])
def test_backlog_full(cm, answer):
    """Ten ask for two places: eight are REJECTED at once, nobody hangs, and later ones are served."""
    cm("backlog_full", answer, vt="vtlisten")


def test_listener_destroyed_with_requests(cm):
    """Those who wait are refused, or give up: those that iw_cm has not shown yet it forgets."""
    cm("listener_destroyed")


# --- requests ---


def test_private_data_of_every_length(cm):
    """0 to 255 bytes, both ways."""
    cm("private_data")


def test_reject_with_private_data(cm):
    """The initiator gets REJECTED and the responder's bytes."""
    cm("reject")


def test_connect_refused(cm):
    """Nobody listens: REJECTED, ECONNREFUSED."""
    cm("refused")


def test_request_destroyed(cm):
    """A request that is dropped without an answer is refused."""
    cm("request_destroyed")


def test_initiator_gives_up(cm):
    """The initiator goes at any time of the handshake."""
    cm("initiator_gives_up")


def test_depths_are_negotiated(cm):
    """IRD and ORD arrive, and are no more than the peer has."""
    cm("depths")


def test_connect_twice(cm):
    """A connection that is there does not suffer from calls that make no sense."""
    cm("connect_twice")


def test_qp_of_another_connection(cm):
    """A QP that has a connection gets no second one."""
    cm("qp_of_another")


def test_unknown_qp(cm):
    """A QP number that does not exist: EINVAL."""
    cm("unknown_qp")


def test_connect_timeout(cm, p):
    """To an address that never answers: ETIMEDOUT; nobody else waits for that."""
    cm("timeout", p.hole)


def test_connecting_destroyed(cm, p):
    """It need not be waited for."""
    cm("timeout_destroyed", p.hole)


def test_exit_while_connecting(cm, p):
    """The same for the end of a process."""
    cm("timeout_exit", p.hole)


# --- the end ---


def test_disconnect_by_the_initiator(cm):
    """DISCONNECTED at both ends, once; QPs in error."""
    cm("disconnect_active")


def test_disconnect_by_the_responder(cm):
    """The same."""
    cm("disconnect_passive")


def test_disconnect_by_both(cm):
    """The same."""
    cm("disconnect_both")


def test_destroyed_by_the_peer(cm):
    """The peer destroys its end without a word."""
    cm("destroyed_by_peer")


def test_many_connections(cm):
    """One after the other; nothing is left of them."""
    cm("many", "30")


def test_peer_vanishes(module, tmp_path):
    """The cable is cut: the end that is left can be destroyed at once."""
    go = tmp_path / "go"
    with Pair() as p:
        with (
            p.a.start(["vtcm", "silent_server", p.a.ip, "7300"]) as server,
            contextlib.ExitStack() as stack,
        ):
            server.wait_for("listening")
            client = stack.enter_context(p.b.start(["vtcm", "silent_client", p.a.ip, "7300", str(go)]))
            client.wait_for("ready")
            p.b.run(f"ip link set {p.b.netdev} down")
            go.touch()
            client.wait(30)
        wait_until(lambda: not p.b.in_use(), 30)


# --- strangers ---


def test_stranger_sends_garbage(cm):
    """Is shown out; nobody is told, the next one is served."""
    cm("stranger_garbage")


def test_stranger_speaks_http(cm):
    """The same for a program that took the wrong port."""
    cm("stranger_http")


def test_stranger_closes(cm):
    """At once, after half a request, with a reset."""
    cm("stranger_closes")


def test_stranger_is_silent(cm):
    """Others are served meanwhile; it may not stay for ever."""
    cm("stranger_silent")


def test_strangers_without_number(cm):
    """More than a listener has room for: those who come later wait, and are served."""
    cm("strangers_many")


def test_private_data_longer_than_the_core_takes(cm, p):
    """512 bytes on the wire, 255 arrive; that there were more is counted."""
    before = p.a.counter("private_data_cut")
    cm("connects")
    assert p.a.counter("private_data_cut") == before
    cm("stranger_long_private_data")
    assert p.a.counter("private_data_cut") == before + 1


# --- knobs ---


def test_tos(module):
    """RDMA_OPTION_ID_TOS is in the packets of the connection."""
    with Pair() as p:
        with p.a.start(f"exec tcpdump --immediate-mode -l -n -v -i {p.a.netdev} -c 40 tcp 2>&1") as dump:
            dump.wait_for("listening on")
            with p.a.start("exec ucmatose -p 7310") as server:
                wait_until(lambda: p.a.listens())
                p.b.run(f"ucmatose -s {p.a.ip} -p 7310 -t 0x28")
                server.wait()
            dump.kill(2)
            dump.wait(check=False)
        sent = re.findall(r"tos (0x[0-9a-f]+).*\n\s+" + re.escape(p.b.ip), dump.out)
        assert sent, dump.out
        # The lowest two bits are for ECN.
        assert {int(t, 16) & ~3 for t in sent} == {0x28}


# What tcpdump -v says of a packet: its header, the port that it is from, its flags. (IPv6: no class is class 0.)
PACKET = re.compile(r"IP6? \((.*?)\)\s+\S+\.(\d+) > \S+\.\d+: Flags \[(\S+)\]")


@pytest.mark.parametrize(
    "family,end,where",
    [
        ("ip", "active", ""),
        ("ip6", "active", ""),
        ("ip", "passive", ""),
        ("ip6", "passive", ""),
        ("ip", "passive", "0.0.0.0"),
        # One socket for both families.
        ("ip", "passive", "::"),
        ("ip6", "passive", "::"),
    ],
)
def test_tos_of_each_end(cm, p, family, end, where):
    """RDMA_OPTION_ID_TOS of an initiator and of a listener, in IPv4's TOS and IPv6's traffic class."""
    addr = getattr(p.a, family)
    # A connection of the host with itself.
    with p.a.start("exec tcpdump --immediate-mode -l -n -v -i lo tcp 2>&1") as dump:
        dump.wait_for("listening on")
        out = cm("tos", end, "0x48", where or addr, addr=addr, vt="vtlisten").out
        port = re.search(r"port (\d+)", out)[1]
        # Both have closed their end.
        wait_until(lambda: len([m for m in PACKET.finditer(dump.out) if "F" in m[3]]) >= 2)
        dump.kill(2)
        dump.wait(check=False)
    sent = {"active": set(), "passive": set()}
    for header, source, flags in PACKET.findall(dump.out):
        # A reset is its own affair: TCP answers with what came.
        if "R" not in flags:
            said = re.search(r"(?:tos|class) (0x[0-9a-f]+)", header)
            sent["passive" if source == port else "active"].add(int(said[1] if said else "0", 16) & ~3)
    assert sent == {"active": {0}, "passive": {0}, end: {0x48}}, dump.out


def test_rping_same_host(p):
    """An unmodified program, and a server of the same host."""
    with p.a.start("exec rping -s -C 10 -p 7320") as server:
        wait_until(lambda: p.a.listens())
        p.a.run(f"rping -c -a {p.a.ip} -C 10 -p 7320 -V")
        server.wait()


SNIFF = (
    "import socket; s = socket.create_server(('', 7330)); print('listening', flush=True); "
    "c, _ = s.accept(); print('MPA', c.recv(20, socket.MSG_WAITALL).hex(), flush=True)"
)


def request(p):
    """(flags without that of the model, revision) of the request that an initiator sends."""
    with p.a.start(["python3", "-c", SNIFF]) as tcp:
        tcp.wait_for("listening")
        p.b.run(["vtcm", "silent_client", p.a.ip, "7330", "/nosuch"], check=False)
        frame = bytes.fromhex(tcp.wait_for(r"MPA (\w+)").group(1))
    assert frame[:16] == b"MPA ID Req Frame"
    return frame[16] & 0xC0, frame[17]


@pytest.mark.long
def test_mpa_knobs():
    """The module's parameters, as an initiator's request shows them; both ends agree each time."""
    for params, crc, revision in (("", 0x40, 2), ("mpa_crc=0", 0, 2), ("mpa_revision=1 mpa_peer_to_peer=0", 0x40, 1)):
        run("modprobe -r rurdma")
        run(f"modprobe rurdma {params}")
        with Pair() as p:
            assert request(p) == (crc, revision)
            p.a.run(["vtcm", "disconnect_active", p.a.ip])
    run("modprobe -r rurdma && modprobe rurdma")


def test_mpa_crc_while_loaded(module):
    """mpa_crc can be written; who connects afterwards goes by it, and both ends agree."""
    knob = pathlib.Path("/sys/module/rurdma/parameters/mpa_crc")
    assert knob.read_text().strip() == "Y"
    try:
        with Pair() as p:
            for value, crc in (("0", 0), ("1", 0x40), ("N", 0)):
                knob.write_text(value)
                assert request(p) == (crc, 2)
                p.a.run(["vtcm", "disconnect_active", p.a.ip])
    finally:
        knob.write_text("1")
