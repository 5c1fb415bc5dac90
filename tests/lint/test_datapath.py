# SPDX-License-Identifier: GPL-2.0
"""Where data pass, nobody sleeps for memory: softirq may not, and the kernel may need the data path to free some."""

import re

import pytest
from conftest import TOP
from test_rust import DRIVER, strip

# What runs for a message: files, and directories of them. transport/iwarp/cm/ makes connections in a workqueue.
DATA_PATH = (
    "ah.rs",
    "counters.rs",
    "cq.rs",
    "cq/",
    "doorbell.rs",
    "kapi/ipi.rs",
    "kapi/net/page.rs",
    "kapi/net/skb.rs",
    "kapi/net/socket.rs",
    "kapi/net/udp.rs",
    "kapi/net/udp_tx.rs",
    "kapi/rdma/av.rs",
    "kapi/rdma/cq.rs",
    "kapi/rdma/kick.rs",
    "kapi/rdma/lease.rs",
    "kapi/rdma/memory.rs",
    "kapi/rdma/object.rs",
    "kapi/rdma/qp.rs",
    "kapi/rdma/ring.rs",
    "kapi/rdma/srq.rs",
    "kapi/rdma/stats.rs",
    "kapi/sync/",
    "kapi/table.rs",
    "kapi/timer.rs",
    "mcast.rs",
    "mr/",
    "mw.rs",
    "qp/",
    "rq.rs",
    "srq.rs",
    "transport/iwarp/mod.rs",
    "transport/iwarp/rx.rs",
    "transport/iwarp/rx/",
    "transport/iwarp/stream.rs",
    "transport/iwarp/tx.rs",
    "transport/iwarp/tx/",
    "transport/roce/",
    "ucontext.rs",
)
C_FILES = ("helpers_net.c", "helpers_roce.c")

VERB, LINK = "a verb that makes an object, in process context", "a link, or the module, is set up"
# What stands in these files and is done before or after the data: why it may sleep.
SET_UP = {
    "counters.rs": {"Counters::new": LINK, "Traffic::new": LINK},
    "cq.rs": {"Cq::make": VERB},
    "doorbell.rs": {"Poller::start": LINK},
    "kapi/ipi.rs": {"CpuCall::new": VERB},
    "kapi/net/socket.rs": {"Socket::from_raw": "a connection begins, in the work of its manager"},
    "kapi/rdma/lease.rs": {"Lease::new": VERB},
    "kapi/rdma/memory.rs": {
        "Memory::make": VERB,
        "Memory::over": VERB,
        "Memory::fast": VERB,
        "Memory::pin": VERB,
    },
    "kapi/rdma/object.rs": {"Handle::new": VERB},
    "kapi/table.rs": {
        "ObjTable::insert": VERB,
        "ObjTable::reserve": VERB,
        "Reserved::fill": VERB,
        "give_back_later": "a verb that destroys an object, in process context",
    },
    "mcast.rs": {
        "Groups::new": LINK,
        "Groups::attach": "a verb, in process context",
        "Groups::detach": "a verb, in process context",
        "Groups::replace": "part of these two",
    },
    "mr/mod.rs": {"Mr::enter": VERB},
    "mw.rs": {"Mw::enter": VERB},
    "qp/create.rs": {"Qp::make": VERB},
    "qp/number.rs": {"init": LINK},
    "qp/sent.rs": {"Sent::new": VERB},
    "srq.rs": {"Srq::make": VERB},
    "transport/iwarp/stream.rs": {
        "Stream::new": VERB,
        "StreamQp::start": "a connection begins, in the work of its manager",
    },
    "transport/iwarp/tx.rs": {"Tx::new": VERB},
    "transport/roce/connected.rs": {"Connected::new": VERB},
    "transport/roce/lanes.rs": {"Lanes::new": LINK, "Lane::new": LINK},
    "transport/roce/ns.rs": {"init": LINK, "begin": LINK, "List::enter": LINK, "Links::add": LINK},
    "transport/roce/qp.rs": {"RoceQp::new": VERB},
    "ucontext.rs": {"Ucontext::create": VERB, "Ucontext::take_slot": VERB},
}

SLEEPS = re.compile(r"\bGFP_(?:KERNEL|USER|HIGHUSER)\w*")
ITEM = re.compile(
    r"\bfn\s+(?P<fn>\w+)|\bimpl\b\s*(?:<(?:[^<>]|<[^<>]*>)*>)?\s*(?:[\w:]+(?:<[^{]*?>)?\s+for\s+)?(?P<type>\w+)|[][(){};]"
)


def sleepers(text):
    """Functions (`Type::name`, or `name`) that may sleep for memory, and in which lines."""
    code = strip(text)
    found = {}
    # What is open: the name of a function or of an impl's type, or nothing, and parentheses before it.
    scopes, name, depth, at = [], None, 0, 0
    for m in [*ITEM.finditer(code), None]:
        end = m.start() if m else len(code)
        for hit in SLEEPS.finditer(code, at, end):
            line = code.count("\n", 0, hit.start()) + 1
            if not re.match(r"\s*(?:pub\s+)?use\b", code.splitlines()[line - 1]):
                owner = "::".join(n for n, _ in scopes if n) or "(no function)"
                found.setdefault(owner, []).append(line)
        if not m:
            break
        at = m.end()
        if m[0] == "{":
            scopes.append((name, depth))
            name, depth = None, 0
        elif m[0] == "}":
            _, depth = scopes.pop()
        elif m[0] in "([":
            depth += 1
        elif m[0] in ")]":
            depth -= 1
        elif depth:
            # Of an argument.
            continue
        elif m[0] == ";":
            name = None
        elif m["fn"]:
            name = m["fn"]
        elif not name and not any(n for n, _ in scopes):
            name = m["type"]
    return found


def test_data_path_does_not_sleep_for_memory():
    found, used = [], set()
    for f in sorted((TOP / DRIVER).rglob("*.rs")):
        rel = str(f.relative_to(TOP / DRIVER))
        if not rel.startswith(DATA_PATH):
            continue
        for fn, lines in sleepers(f.read_text()).items():
            used.add((rel, fn))
            if fn not in SET_UP.get(rel, {}):
                found += [f"{rel}:{n}: {fn}" for n in lines]
    for rel in C_FILES:
        code = strip((TOP / DRIVER / rel).read_text())
        found += [f"{rel}:{n}" for n, line in enumerate(code.splitlines(), 1) if SLEEPS.search(line)]
    assert not found, "GFP_KERNEL in the data path:\n" + "\n".join(found)
    stale = {(f, fn) for f, fns in SET_UP.items() for fn in fns} - used
    assert not stale, f"excused, but not there: {sorted(stale)}"


def test_data_path_exists():
    """No entry of the list has become one of nothing."""
    gone = [x for x in (*DATA_PATH, *C_FILES) if not (TOP / DRIVER / x).exists()]
    assert not gone


@pytest.mark.parametrize(
    "text,found",
    [
        ("use kernel::alloc::flags::GFP_KERNEL;\nfn a() { x(GFP_ATOMIC) }\n", {}),
        ("impl Tx {\n    fn a(&self) {\n        x(GFP_KERNEL)?;\n    }\n}\n", {"Tx::a": [3]}),
        ("impl<T: Send> Deref for Tx<'_, T> {\n fn b() { if c { x(GFP_KERNEL) } }\n}\nfn d() {}", {"Tx::b": [2]}),
        ("fn a() {}\nfn b() {\n    // GFP_KERNEL\n    x(bindings::GFP_KERNEL_ACCOUNT)\n}\n", {"b": [4]}),
        ("fn a(f: impl Fn(u32), b: [u8; 4]) -> impl Fn() { x(GFP_KERNEL) }\n", {"a": [1]}),
        ("const F: Flags = GFP_KERNEL;\n", {"(no function)": [1]}),
    ],
)
def test_sleepers_are_found(text, found):
    assert sleepers(text) == found
