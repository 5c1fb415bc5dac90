#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""pyverbs' packaged suite over a link, compared with what is expected, exactly.

usage: run.py iwarp|roce [PATTERN]          (in the VM: make pyverbs DEV=iwarp)

RoCE runs as it comes, as one process. iWARP has a second pass, because the
suite looks for a GID whose low half is not zero, which an iWARP device does not
have, and skips all traffic and the whole CM without one: there, with the GID
named, runs what can work without the verbs that only InfiniBand has.
tests/pyverbs/DEV.expected has a line per test and pass; a test that passes
although it is expected not to is a difference like any other, and so is a skip
or a failure for another reason than the one that stands there.
"""

import fnmatch
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SUITE = pathlib.Path("/opt/pyverbs")
RESULTS = pathlib.Path("/results")
KINDS = {"iwarp": "rurdma", "roce": "rurdma_roce"}
# The second pass, see above.
NAMED_GID = (
    "tests.test_rdmacm",
    "tests.test_mr.MRTest.test_reg_mr_bad_flags",
    "tests.test_mr.MWTest.test_reg_mw_wrong_type",
)
LIMIT = 900


def sh(cmd):
    subprocess.run(cmd, shell=True, check=True)


def set_up(kind):
    """A link on one end of a veth; the other end only keeps it up."""
    sh("echo 32 >/proc/sys/vm/nr_hugepages")
    sh("rdma system set netns exclusive && ip netns add peer 2>/dev/null; ip netns list | grep -q peer")
    sh("ip link add v0 mtu 4500 type veth peer name v1 mtu 4500 netns peer")
    sh("ip addr add 10.88.0.1/24 dev v0 && ip link set v0 up && ip -n peer link set v1 up")
    sh(f"rdma link add rw0 type {kind} netdev v0 && rdma link show")


def expected(dev):
    """{(pass, test): (outcome, reason)} from the committed file."""
    want = {}
    for line in (HERE / f"{dev}.expected").read_text().splitlines():
        if line and not line.startswith("#"):
            n, outcome, test, *reason = line.split(None, 3)
            want[n, test] = (outcome, " ".join(reason))
    return want


def run_pass(n, args, work):
    log = RESULTS / f"pyverbs-{n}.tsv"
    log.unlink(missing_ok=True)
    cmd = [sys.executable, "-B", str(HERE / "record.py"), str(log), "--dev", "rw0", "-v", *args]
    print("+", " ".join(cmd), flush=True)
    try:
        rc = subprocess.run(cmd, cwd=work, timeout=LIMIT, check=False).returncode
    except subprocess.TimeoutExpired:
        rc = "time limit"
    got = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        outcome, test, reason = line.split("\t")
        got[str(n), test] = (outcome, reason)
    # unittest's words for failures, which are compared with what is expected, and for no test of that name.
    ended_well = rc in (0, 1, 5)
    if not ended_well:
        print(f"pass {n} ended with {rc}: the tests after the last one above have no result")
    return got, ended_well


def main():
    dev, pattern = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    set_up(KINDS[dev])
    work = pathlib.Path("/tmp/pyverbs")
    shutil.copytree(SUITE, work)
    narrow = ["-k", f"*{pattern}*"] if pattern else []
    got, ended_well = run_pass(1, narrow, work)
    if dev == "iwarp":
        second, second_ended_well = run_pass(2, ["--gid", "0", *narrow, *NAMED_GID], work)
        got |= second
        ended_well = ended_well and second_ended_well
    want = {k: v for k, v in expected(dev).items() if not pattern or fnmatch.fnmatch(k[1], f"*{pattern}*")}

    lines = [f"{n} {o} {t}{'  ' + r if r else ''}" for (n, t), (o, r) in sorted(got.items())]
    (RESULTS / "pyverbs.got").write_text("\n".join(lines) + "\n")
    passed = failed = skipped = 0
    for key in sorted(want.keys() | got.keys()):
        (w, why), g = want.get(key, ("absent", "")), got.get(key, ("no result", ""))
        if w != g[0] or why != g[1]:
            failed += 1
            print(f"DIFFERS  pass {key[0]}  {key[1]}: expected {w}  {why}, got {g[0]}  {g[1]}")
        elif w == "ok":
            passed += 1
        else:
            skipped += 1
            if w == "fail":
                print(f"accepted pass {key[0]}  {key[1]}: {why}")
    failed += not ended_well
    (RESULTS / "counts").write_text(f"{passed} {failed} {skipped}\n")
    print(f"{passed} as expected, {skipped} skipped or accepted as expected, {failed} differ")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
