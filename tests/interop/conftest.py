# SPDX-License-Identifier: GPL-2.0
"""rurdma and the drivers it must understand: siw in the first namespace, rurdma
in another one at the other end of a veth."""

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
from lab import bystander, harmless, lab

__all__ = [
    "bystander",
    "fresh_pair",
    "harmless",
    "kernel_log",
    "lab",
    "module",
    "netns",
    "pair",
    "pytest_configure",
    "pytest_sessionfinish",
    "rdma_exclusive",
    "rounds",
]
