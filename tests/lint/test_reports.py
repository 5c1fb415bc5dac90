# SPDX-License-Identifier: GPL-2.0
"""What makes a test fail by the kernel log: the list is one, its two readers agree."""

import importlib.util
import subprocess

import pytest
from conftest import TOP

spec = importlib.util.spec_from_file_location("rvm", TOP / "tests/vm/rvm.py")
rvm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rvm)

REPORTS = [
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "BUG: KASAN: slab-use-after-free in kfree+0x10/0x20",
    "Oops: general protection fault, probably for non-canonical address",
    "WARNING: drivers/infiniband/core/iwcm.c:501 at destroy_cm_id+0x1a6/0x1c0",
    "WARNING: possible circular locking dependency detected",
    "INFO: trying to register non-static key.",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... }",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "ODEBUG: free active (active state 0) object: 00000000f1f1 object type: timer_list hint: x",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [kworker/0:1:12]",
    "INFO: task rping:801 blocked for more than 120 seconds.",
    "rust_kernel: panicked at drivers/infiniband/sw/rurdma/qp/mod.rs:1:1:",
    "unregister_netdevice: waiting for veth0 to become free. Usage count = 2",
]
HARMLESS = [
    "kasan: KernelAddressSanitizer initialized",
    "kmemleak: Automatic memory scanning thread started",
    "rurdma: loading out-of-tree module taints kernel.",
    "rcu: \tRCU restricting CPUs from NR_CPUS=8192 to nr_cpu_ids=2.",
    "traps: a.out[812] general protection fault ip:55d0 sp:7ffc error:0 in a.out",
]


TAKEN = "rurdma: d0: UDP port 4791 is taken in its network namespace, no link is made: remove the links of rxe"


def test_unasked(tmp_path):
    """What is bad luck for a person is a failure of a test that did not announce it, and of no run."""
    assert rvm.unasked([*HARMLESS, TAKEN], []) == [TAKEN]
    assert rvm.unasked([*HARMLESS, TAKEN], [TAKEN]) == []
    assert rvm.reports_of([TAKEN]) == []
    assert checked(tmp_path, [TAKEN])


def checked(tmp_path, lines):
    """Whether scripts/check-dmesg is content."""
    log = tmp_path / "console"
    log.write_text("".join(f"[    1.0] {x}\n" for x in lines))
    return subprocess.run([TOP / "scripts/check-dmesg", log], stderr=subprocess.PIPE, check=False).returncode == 0


@pytest.mark.parametrize("line", REPORTS, ids=lambda x: x[:40])
def test_report(tmp_path, line):
    assert rvm.reports_of([*HARMLESS, line, "behind it"]) == [line, "behind it"]
    assert not checked(tmp_path, [*HARMLESS, line])


def test_no_report(tmp_path):
    assert rvm.reports_of(HARMLESS) == []
    assert checked(tmp_path, HARMLESS)
