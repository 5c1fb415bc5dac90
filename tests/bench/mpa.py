# SPDX-License-Identifier: GPL-2.0
"""Whether an iWARP driver asks for MPA's CRC: by what it says to a listener that is no RDMA at all."""

from rvm import Failed

# As long as the head of a request: key, flags, revision, length of the private data.
LISTEN = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
c, _ = s.accept()
print("MPA", c.recv(20, socket.MSG_WAITALL).hex(), flush=True)
"""
KEY, FLAGS, CRC = b"MPA ID Req Frame", 16, 0x40


def crc_flag(text):
    """Whether it is set in the request that the listener has printed."""
    frame = bytes.fromhex(text)
    if not frame.startswith(KEY) or len(frame) <= FLAGS:
        raise Failed(f"no MPA request: {text}")
    return bool(frame[FLAGS] & CRC)


def asks_for_crc(rig, driver):
    a, b = rig.pairs[driver].a, rig.pairs[driver].b
    port = rig.port()
    with b.start(["python3", "-c", LISTEN, b.ip, str(port)]) as peer:
        peer.wait_for("listening", 20)
        # It is refused in the end, and says so.
        with a.start(rig.client(f"bconn -p {port} -n 3 {b.ip}")):
            return crc_flag(peer.wait_for(r"MPA (\w+)", 20)[1])
