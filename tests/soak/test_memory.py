# SPDX-License-Identifier: GPL-2.0
"""Memory: charged to the process that has it, and given back however the process ends."""

import re

import pytest
from rvm import Holdings, ring_memory, wait_until

pytestmark = pytest.mark.soak

HOLDINGS = "python3 /src/tests/soak/holdings.py"


@pytest.fixture(scope="module")
def pair(either):
    return either


def charges(text):
    """KiB that the process was charged for at each of its steps, locked and pinned together."""
    return {m[1]: int(m[2]) + int(m[3]) for m in re.finditer(r"^(\S+) (\d+) (\d+)$", text, re.M)}


def test_charged_and_given_back(pair):
    """Rings and pinned pages count as the process's locked memory for as long as it has them."""
    kib = charges(pair.b.run(f"{HOLDINGS} {pair.b.dev}").out)
    assert kib["start"] == 0
    assert kib["context"] > 0
    assert kib["mr"] - kib["context"] >= 1024
    # 4 × 500 sends of 96 bytes or more, as many receives, 4000 completions of 64.
    assert kib["rings"] - kib["mr"] >= (4 * 500 * 96 + 4000 * 64) // 1024
    assert kib["no-rings"] == kib["mr"]
    assert kib["no-mr"] == kib["context"]
    assert kib["end"] == 0


def test_limit_of_locked_memory(pair):
    """RLIMIT_MEMLOCK is kept, without CAP_IPC_LOCK."""
    out = pair.b.run(
        f"ulimit -l 512 && setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock {HOLDINGS} {pair.b.dev}", check=False
    )
    assert out.rc != 0 and "Cannot allocate memory" in out.out, out


def test_killed_holders_leave_nothing(pair, rounds):
    """SIGKILL of a process with objects of each kind: rings, pages and objects are gone."""
    before = Holdings()
    for i in range(rounds):
        with pair.b.start(f"exec {HOLDINGS} {pair.b.dev} hold") as holder:
            holder.wait_for("^rings|\nrings")
            if i == 0:
                assert ring_memory() > before.bytes
            holder.kill()
            holder.wait(30, check=False)
        wait_until(lambda: not pair.b.in_use(), 20, lambda: f"left over: {pair.b.in_use()}")
    before.returned()
