# SPDX-License-Identifier: GPL-2.0
"""What a driver does while nobody asks anything of it: its timers, its work items, its threads that wake up.

Links are up, no program has them open. What the kernel's tracepoints see while nothing runs has the name of a function,
with the module that it belongs to, or that of a thread, which begins as that of its driver. Both transports of rurdma
are one module, and have the figure of the module.
"""

import re
import time

from peers import MODULES
from records import Reading
from rvm import Failed
from tracing import tracing

BY_FUNCTION = ("timer/timer_expire_entry", "timer/hrtimer_expire_entry", "workqueue/workqueue_execute_start")
BY_THREAD = "sched/sched_waking"
FUNCTION = r"(?:timer_expire_entry|workqueue_execute_start): .*\bfunction[= ]"


def of_module(text, module):
    """Events of a module's functions."""
    if re.search(rf"{FUNCTION}0x", text):
        raise Failed("the kernel does not know the names of functions")
    return len(re.findall(rf"{FUNCTION}\S+ \[{module}\]", text))


def of_threads(text, name):
    """How often one was woken whose name begins so."""
    return len(re.findall(rf"sched_waking: comm={name}", text))


def wakeups(rig, driver, case):
    module = MODULES.get(driver, "rurdma")
    with tracing(*BY_FUNCTION, BY_THREAD) as trace:
        start = time.monotonic()
        time.sleep(2 * rig.seconds)
        text, seconds = trace.text(), time.monotonic() - start
    n = of_module(text, module) + of_threads(text, module.removeprefix("rdma_"))
    return [Reading("idle_wakeups", 0, 1, "1/s", n / seconds)]
