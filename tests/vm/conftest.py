# SPDX-License-Identifier: GPL-2.0
"""The VM tier: fixtures.py has what its tests are given."""

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
