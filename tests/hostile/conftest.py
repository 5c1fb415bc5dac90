# SPDX-License-Identifier: GPL-2.0
"""Processes that write whatever they like."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

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
