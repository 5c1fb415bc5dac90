# SPDX-License-Identifier: GPL-2.0
"""Runs the packaged suite as it is and records each test's outcome.

usage: record.py OUTPUT ARGUMENTS-OF-run_tests.py

A line per test, written when it ends, so that a crash in the middle loses
nothing: outcome, test, reason (TAB-separated).
"""

import pathlib
import runpy
import sys
import unittest

out = pathlib.Path(sys.argv[1]).open("a", buffering=1)  # noqa: SIM115  # for the life of the process
seen = set()


def wrap(method, outcome, reason):
    plain = getattr(unittest.TextTestResult, method)

    def recording(self, test, *args):
        # The child of a test that forks reports to its parent alone.
        if test.id() not in seen:
            seen.add(test.id())
            out.write(f"{outcome}\t{test.id()}\t{reason(*args)}\n")
        return plain(self, test, *args)

    setattr(unittest.TextTestResult, method, recording)


def last_line(err):
    text = str(err[1]).strip()
    return text.splitlines()[-1] if text else err[0].__name__


wrap("addSuccess", "ok", lambda: "")
wrap("addSkip", "skip", lambda why: " ".join(why.split()))
wrap("addFailure", "fail", last_line)
wrap("addError", "fail", last_line)

sys.argv = ["tests/run_tests.py", *sys.argv[2:]]
sys.path[0] = "tests"
runpy.run_path("tests/run_tests.py", run_name="__main__")
