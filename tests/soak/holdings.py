# SPDX-License-Identifier: GPL-2.0
"""A process that takes objects of a device and gives them back, and says what it is charged for.

usage: holdings.py DEVICE [hold]        hold: keeps all and waits for its end
"""

import pathlib
import re
import sys
import time

from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.libibverbs_enums import ibv_access_flags, ibv_qp_type
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPCap, QPInitAttr

said = {}


def charged():
    """KiB of locked and of pinned memory."""
    text = pathlib.Path("/proc/self/status").read_text()
    return [int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M)[1]) for key in ("VmLck", "VmPin")]


def say(what, like=None):
    """What is charged; waits until it is what it was at the step `like`, if that comes true.

    An object goes when the last in the kernel who looks at it has done so, a moment after the call.
    """
    end = time.monotonic() + 20
    while like and charged() != said[like] and time.monotonic() < end:
        time.sleep(0.05)
    said[what] = charged()
    print(what, *said[what], flush=True)


say("start")
ctx = Context(name=sys.argv[1])
say("context")
pd = PD(ctx)
mr = MR(pd, 1 << 20, ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE)
say("mr")
cq = CQ(ctx, 4000)
cap = QPCap(max_send_wr=500, max_recv_wr=500, max_send_sge=4, max_recv_sge=4)
qps = [QP(pd, QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RC, scq=cq, rcq=cq, cap=cap)) for _ in range(4)]
say("rings")
if sys.argv[2:] == ["hold"]:
    time.sleep(600)
for qp in qps:
    qp.close()
cq.close()
say("no-rings", "mr")
mr.close()
say("no-mr", "context")
pd.close()
ctx.close()
say("end", "start")
