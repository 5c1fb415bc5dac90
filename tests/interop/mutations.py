# SPDX-License-Identifier: GPL-2.0
"""What peers say that play by no rules, drawn from a seed that stands in the output of the test's round."""

import os
import random

import pytest


@pytest.fixture
def seeds(rounds, request):
    """A random generator for each round; the output of a test that fails names its seed."""

    def each():
        for i in range(rounds):
            seed = f"{request.node.name}/{os.environ.get('RURDMA_SEED', '1')}/{i}"
            print(f"seed {seed}")
            yield random.Random(seed)

    return each()


def mutate(rng, frame):
    """One to three bytes changed, or some taken out, put in or cut off."""
    u = bytearray(frame)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(u))
        how = rng.randrange(8)
        if how == 0:
            del u[at:]
        elif how == 1:
            del u[at : at + rng.randint(1, 4)]
        elif how == 2:
            u[at:at] = rng.randbytes(rng.randint(1, 4))
        else:
            u[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, u[at] ^ 1 << rng.randrange(8), rng.randrange(256)])
        if not u:
            u = bytearray(1)
    return bytes(u)


def noise(rng):
    return rng.randbytes(rng.choice([1, 7, 20, 64, 600, 5000]))
