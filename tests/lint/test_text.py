# SPDX-License-Identifier: GPL-2.0
"""C, shell and Python style; what no committed file may hold."""

import re

import pytest
from conftest import TOP, sh, tracked

# Spelled in pieces: this file is searched too.
REGISTRIES = ("deb." + "debian.org", "ftp." + "debian.org", "crates" + ".io/", "pypi" + ".org", "proxy." + "golang")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(home|work)/\w|(?<![\w.])/root/(?!\.?\s)\w")
BINARY = (".png", ".pcap", ".pcapng", ".bin", ".svg")


def scripts(*interpreters):
    found = []
    for f in tracked():
        if f.endswith(BINARY):
            continue
        head = (TOP / f).open(errors="replace").readline()
        run_by = head.startswith("#!") and any(head.split()[-1].endswith(i) for i in interpreters)
        if run_by or head.startswith("# shellcheck shell="):
            found.append(f)
    return found


# What differs on purpose: compile-time asserts and constant tables have no
# business with these; verbs return positive errnos and rdma-core has its own
# names for kernel macros.
KERNEL_IGNORE = "CONST_STRUCT,NEW_TYPEDEFS,EMBEDDED_FILENAME"
# Macros that only the kernel has, and habits of its own.
USER_IGNORE = (
    f"{KERNEL_IGNORE},USE_NEGATIVE_ERRNO,PREFER_KERNEL_TYPES,AVOID_EXTERNS,"
    "PREFER_DEFINED_ATTRIBUTE_MACRO,ARRAY_SIZE,EMBEDDED_FUNCTION_NAME,VOLATILE,MACRO_WITH_FLOW_CONTROL"
)


@pytest.mark.parametrize("where", ["kernel", "userspace"])
def test_checkpatch(ksrc, where):
    user = ("userspace/", "tests/")
    files = [f for f in tracked("*.c", "*.h") if f.startswith(user) == (where == "userspace")]
    assert files
    sh(
        *("perl", str(ksrc / "scripts/checkpatch.pl"), "--no-tree", "--terse", "--show-types"),
        *("--max-line-length=100", "--ignore", KERNEL_IGNORE if where == "kernel" else USER_IGNORE),
        *("-f", *files),
    )


def test_shellcheck():
    files = scripts("sh", "bash")
    sh("shellcheck", "-x", "-P", "SCRIPTDIR", *files)


def test_ruff_check():
    sh("ruff", "check", "--no-cache", "--config", "tests/ruff.toml", "scripts", "tests")


def test_ruff_format():
    sh("ruff", "format", "--no-cache", "--config", "tests/ruff.toml", "--check", "scripts", "tests")


def test_no_registry_hosts_no_machine_paths():
    found = []
    for f in tracked():
        # A lock file names its registry because cargo writes it so.
        if f.endswith(BINARY) or f.endswith("Cargo.lock"):
            continue
        for n, line in enumerate((TOP / f).read_text(errors="replace").splitlines(), 1):
            if any(r in line for r in REGISTRIES) or MACHINE_PATHS.search(line):
                found.append(f"{f}:{n}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_spdx():
    """Every source file says its licence in the first two lines."""
    missing = []
    for f in tracked("*.rs", "*.c", "*.h", "*.py", "*.sh", "*Makefile", "*Kbuild", "*Kconfig", "scripts/*"):
        if f.endswith((".txt", ".json")) or f.endswith("__init__.py"):
            continue
        head = (TOP / f).read_text(errors="replace").splitlines()[:2]
        if not any("SPDX-License-Identifier" in x for x in head):
            missing.append(f)
    assert not missing, "\n".join(missing)


def merge_leftovers(name, text):
    """Lines that a merge left behind. A line of equals signs may belong to a title of reStructuredText."""
    lines = text.splitlines()

    def at(n):
        return lines[n] if 0 <= n < len(lines) else ""

    def of_title(n):
        # Below the title and as long, or one of two around it.
        around = at(n) in (at(n - 2), at(n + 2))
        return name.endswith(".rst") and (around or len(at(n - 1)) == len(at(n)))

    mark = re.compile(r"[<>|]{7}(?: |$)")
    line = re.compile("={3,}$" if name.endswith(".rst") else "={7}$")
    return [n + 1 for n, x in enumerate(lines) if mark.match(x) or (line.match(x) and not of_title(n))]


def test_no_merge_leftovers():
    found = [
        f"{f}:{n}"
        for f in tracked()
        if not f.endswith((*BINARY, ".patch", ".diff"))
        for n in merge_leftovers(f, (TOP / f).read_text(errors="replace"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text,found",
    [
        ("Testing\n=======\n\ntext\n", []),
        ("=========\n rurdma\n=========\n", []),
        ("   * - 6.3\n=======\n   * - 6.4\n", [2]),
        ("text\n\n=======\ntext\n", [3]),
        ("A title that is too long\n=====\n", [2]),
        ("<" * 7 + " ours\na\n" + "|" * 7 + " base\n" + "=" * 7 + "\nb\n" + ">" * 7 + " theirs\n", [1, 3, 4, 6]),
        ("==== ====\na    b\n==== ====\n", []),
    ],
)
def test_merge_leftovers_are_found(text, found):
    assert merge_leftovers("x.rst", text) == found


ADDRESS = r"[^<>@\s]+@[\w-]+(\.[\w-]+)+"


def maintained(letter):
    """The values of a letter in the kernel's format of MAINTAINERS."""
    title, *entry = (TOP / "MAINTAINERS").read_text().splitlines()
    assert re.fullmatch(r"[A-Z0-9 \[\]]+", title)
    fields = [x.split(":\t", 1) for x in entry]
    assert all(len(x) == 2 and x[0] in "MRLSWQBCPTFXNK" for x in fields), entry
    values = [v for k, v in fields if k == letter]
    assert values, f"no {letter}:"
    return values


def test_maintained_files():
    """What is maintained is there, and all that would go into the kernel is maintained."""
    files = maintained("F")
    assert not [x for x in files if not (TOP / x).exists() or x.endswith("/") != (TOP / x).is_dir()]
    ours = tracked("Documentation/*", "include/*", "drivers/*")
    assert ours
    assert not [x for x in ours if not any(x == f or (f.endswith("/") and x.startswith(f)) for f in files)]


def test_lists_have_addresses():
    assert not [x for x in maintained("L") if not re.fullmatch(rf"{ADDRESS}( \(.*\))?", x)]
    assert set(maintained("S")) <= {"Supported", "Maintained", "Odd Fixes", "Orphan", "Obsolete"}


@pytest.mark.xfail(strict=True, reason="the project has no public address yet")
def test_maintainers_have_addresses():
    assert not [x for x in maintained("M") if not re.fullmatch(rf"[^<>@]+ <{ADDRESS}>", x)]


def test_no_trailing_space():
    found = []
    for f in tracked():
        if f.endswith((*BINARY, ".patch", ".diff")):
            continue
        for n, line in enumerate((TOP / f).read_text(errors="replace").splitlines(), 1):
            if line != line.rstrip() and not line.startswith((" ", "+")):
                found.append(f"{f}:{n}")
    assert not found, "\n".join(found)
