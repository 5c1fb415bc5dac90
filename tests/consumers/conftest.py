# SPDX-License-Identifier: GPL-2.0
"""Programs and kernel users that know nothing of rurdma."""

import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "vm"), str(TESTS / "interop")]

from fixtures import (
    fresh_pair,
    kernel_log,
    module,
    netns,
    pair,
    pytest_configure,
    pytest_sessionfinish,
    rdma_exclusive,
    rounds,
)

__all__ = [
    "fresh_pair",
    "kernel_log",
    "module",
    "netns",
    "pair",
    "pytest_configure",
    "pytest_sessionfinish",
    "rdma_exclusive",
    "rounds",
]
