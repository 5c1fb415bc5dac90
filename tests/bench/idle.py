# SPDX-License-Identifier: GPL-2.0
"""What a driver does while nobody asks anything of it: its timers, its work items, its threads that wake up.

Links are up, no program has them open. What the kernel's tracepoints count while nothing runs is by function, with the
module that it belongs to, or by thread, whose name begins as that of its driver. The two transports of rurdma are one
module: both have the figure of the module.
"""

import contextlib
import pathlib
import re
import time

from peers import MODULES
from records import Reading

EVENTS = pathlib.Path("/sys/kernel/tracing/events")
BY_FUNCTION = ("timer/timer_expire_entry", "timer/hrtimer_expire_entry", "workqueue/workqueue_execute_start")
BY_THREAD = "sched/sched_waking"


def of_module(text, module):
    """Hits of a histogram by function that are of a module's functions."""
    return sum(int(n) for n in re.findall(rf"\[{module}\] *\}} +hitcount: +(\d+)", text))


def of_threads(text, name):
    """Hits of a histogram by thread, of those whose name begins so."""
    return sum(int(n) for n in re.findall(rf"comm: {name}\S* *\}} +hitcount: +(\d+)", text))


@contextlib.contextmanager
def histogram(event, keys):
    trigger, line = EVENTS / event / "trigger", f"hist:keys={keys}"
    trigger.write_text(line)
    try:
        yield EVENTS / event / "hist"
    finally:
        trigger.write_text(f"!{line}")


def wakeups(rig, driver, case):
    module = MODULES.get(driver, "rurdma")
    with contextlib.ExitStack() as stack:
        functions = [stack.enter_context(histogram(e, "function.sym")) for e in BY_FUNCTION]
        threads = stack.enter_context(histogram(BY_THREAD, "comm"))
        start = time.monotonic()
        time.sleep(2 * rig.seconds)
        n = sum(of_module(f.read_text(), module) for f in functions)
        n += of_threads(threads.read_text(), module.removeprefix("rdma_"))
        seconds = time.monotonic() - start
    return [Reading("idle_wakeups", 0, 1, "1/s", n / seconds)]
