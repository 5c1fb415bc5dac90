# SPDX-License-Identifier: GPL-2.0
"""The tables of verbs and transports in rurdma.rst, against what a device of each type answers (vtverbs.c).

tests/host/tests/verbs.rs compares the first of them with the code that decides.
"""

import pathlib
import re

import pytest
from vm_fixtures import BOTH

VT = "vtverbs"
# Its second half would be unproven in most runs otherwise, and the device is asked within a second.
pytestmark = BOTH
TEXT = pathlib.Path(__file__).parents[2] / "Documentation/infiniband/rurdma.rst"
# Those that kernel users alone have are not for a process to ask for.
OF_A_PROCESS = {"yes": "yes", "no": "no", "kernel": "no"}


@pytest.fixture(scope="module")
def node(either):
    return either.a


@pytest.fixture
def transport(node):
    """The name of its columns."""
    return "iWARP" if re.search(r"transport:\s+iWARP", node.run(f"ibv_devinfo -d {node.dev}").out) else "RoCEv2"


def table(head):
    """The rows of the table whose first column is headed so: {row: {column: cell}}."""
    lines = iter(TEXT.read_text().splitlines())
    header = next(x for x in lines if x.startswith(f"{head} "))
    columns = [m.span() for m in re.finditer("=+", next(lines))]
    names = [header[a:b].strip() for a, b in columns]
    rows = {}
    for line in lines:
        if line.startswith("==="):
            break
        first, *cells = (line[a:b].strip() for a, b in columns)
        assert first not in rows
        rows[first] = dict(zip(names[1:], cells, strict=True))
    assert rows
    return rows


def answers(out):
    got = re.findall(r"^(.+) = (yes|no)$", out, re.M)
    assert len(got) == len(dict(got))
    return dict(got)


def test_table_of_verbs(vt, transport):
    """A device has what the table says, and has not what it denies: EOPNOTSUPP."""
    said = {verb: cells[transport] for verb, cells in table("verb").items()}
    assert answers(vt("verbs_there_are").out) == said


def test_table_of_work_requests(vt, transport):
    """A QP can be made for what the table grants to processes, and for nothing else."""
    said = {}
    for request, cells in table("work request").items():
        for kind in ("RC", "UC", "UD"):
            cell = cells.get(f"{transport} {kind}", "no")
            # ibv_qp_init_attr_ex has no flags for these.
            if request in ("RDMA_READ_WITH_INV", "REG_MR"):
                assert cell in ("kernel", "no")
                continue
            said[f"{kind} {request}"] = OF_A_PROCESS[cell]
    assert answers(vt("requests_there_are").out) == said
