# SPDX-License-Identifier: GPL-2.0
"""The second and third law: unsafe has one home, the protocol does no I/O."""

import re

from conftest import TOP, sh, tracked

DRIVER = "drivers/infiniband/sw/rurdma/"
# Where `unsafe` and `bindings::` may stand.
HOMES = (f"{DRIVER}kapi/", f"{DRIVER}bindings/", f"{DRIVER}bindings.rs", f"{DRIVER}proto/ring.rs")
# The one file of the protocol core that may choose between kernel and std
# (atomics); everywhere else `kernel::` needs a `cfg` that names CONFIG_RUST.
PROTO_KERNEL = (f"{DRIVER}proto/sync.rs",)


def strip(text, keep_comments=False):
    """Blanks comments, strings and char literals, line structure kept."""
    token = re.compile(
        r"""//[^\n]*|/\*.*?\*/|b?r(?P<h>\#*)"(?:.*?)"(?P=h)|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'""",
        re.S,
    )

    def blank(m):
        s = m.group(0)
        if keep_comments and s.startswith(("//", "/*")):
            return s
        return re.sub(r"[^\n]", " ", s)

    return token.sub(blank, text)


def sources(prefix=DRIVER):
    return [f for f in tracked("*.rs") if f.startswith(prefix)]


def hits(files, pattern):
    found = []
    for f in files:
        for n, line in enumerate(strip((TOP / f).read_text()).splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{f}:{n}: {line.strip()}")
    return found


def test_rustfmt(ksrc):
    files = [f for f in tracked("*.rs") if "generated" not in f]
    assert files
    sh("rustfmt", "--check", "--edition", "2021", "--config-path", str(ksrc / ".rustfmt.toml"), *files)


def test_clippy(kbuild):
    """The kernel's own set of lints, through kbuild; warnings count."""
    out = "/out/clippy"
    # Kbuild does not redo what is up to date, and then says nothing.
    sh("rm", "-f", *[f"{out}/{DRIVER}{o}" for o in ("rurdma_main.o", ".rurdma_main.o.cmd")])
    sh("mkdir", "-p", out)
    log = sh(
        *("make", "-C", str(kbuild), f"M={TOP}", f"MO={out}", "CLIPPY=1", "W=1"),
        *("CONFIG_RDMA_RURDMA=m", "modules"),
    )
    warned = [x for x in log.splitlines() if "warning:" in x and "Skipping BTF" not in x]
    assert not warned, log[-8000:]


def test_unsafe_has_one_home():
    files = [f for f in sources() if not f.startswith(HOMES)]
    assert not hits(files, r"\bunsafe\b"), "unsafe outside kapi/, bindings.rs and proto/ring.rs"


def test_bindings_have_one_home():
    files = [f for f in sources() if not f.startswith(HOMES)]
    assert not hits(files, r"\bbindings\s*::"), "bindings:: outside kapi/"


def test_unsafe_is_explained():
    """A SAFETY comment before each unsafe block or impl, `# Safety` on each unsafe fn."""
    missing = []
    for f in sources():
        if "generated" in f:
            continue
        code = strip((TOP / f).read_text()).splitlines()
        text = strip((TOP / f).read_text(), keep_comments=True).splitlines()
        for i, line in enumerate(code):
            m = re.search(r"\bunsafe\s*(\{|impl\b|fn\b|extern\b|$)", line)
            if not m:
                continue
            # A function pointer type or a signature in a trait is no block.
            if re.search(r"[:(<,=]\s*(Option<)?unsafe\s+(extern|fn)", line):
                continue
            above = "\n".join(text[max(0, i - 14) : i + 1])
            ok = "SAFETY:" in above
            if m.group(1) in ("fn", "extern"):
                above = "\n".join(text[max(0, i - 30) : i + 1])
                # Callbacks in C's hands have no Rust caller to address.
                ok = "# Safety" in above or "SAFETY:" in above or m.group(1) == "extern"
            if not ok:
                missing.append(f"{f}:{i + 1}: {line.strip()}")
    assert not missing, "no SAFETY comment:\n" + "\n".join(missing)


def without_tests(lines):
    """Blanks each item under `#[cfg(test)]` or `#[cfg(loom)]`, by its braces."""
    out = list(lines)
    i = 0
    while i < len(out):
        if re.search(r"^\s*#!?\[cfg\(.*\b(test|loom)\b", out[i]) and "not(" not in out[i]:
            depth, seen = 0, False
            while i < len(out):
                code = re.sub(r"#!?\[.*\]", "", out[i])
                for c in code:
                    depth += (c in "{([") - (c in "})]")
                    seen = seen or c == "{"
                out[i] = ""
                if depth <= 0 and (code.rstrip().endswith((";", ",")) or (seen and code.strip())):
                    break
                i += 1
        i += 1
    return out


def test_protocol_is_pure():
    """proto/ knows neither kernel nor std, apart from its tests and its model."""
    found = []
    for f in sources(f"{DRIVER}proto/"):
        if f in PROTO_KERNEL:
            continue
        lines = without_tests(strip((TOP / f).read_text()).splitlines())
        raw = (TOP / f).read_text().splitlines()
        for n, line in enumerate(lines):
            bare = line.replace("::kernel::macros::kunit_tests", "")
            if re.search(r"\b(kernel|std|alloc)\s*::", bare) and not any(
                "CONFIG_RUST" in x for x in raw[max(0, n - 2) : n + 1]
            ):
                found.append(f"{f}:{n + 1}: {line.strip()}")
    assert not found, "\n".join(found)


def test_unit_tests_suit_kunit():
    """Its assert!() and assert_eq!() take no message, and assert_eq!() has no comparison as its first argument,
    which shows only when a kernel with KUnit is built."""
    nested = r"(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*"
    found = []
    for f in sources():
        text = (TOP / f).read_text()
        if "kunit_tests" in text:
            for m in re.finditer(rf"\bassert(?:_eq)?!\({nested},\s*\"", text):
                found.append(f"{f}:{text[: m.start()].count(chr(10)) + 1}")
            for m in re.finditer(rf"\bassert_eq!\(({nested})\)", text):
                if re.search(r"\s(?:[=!]=|[<>]=?|&&|\|\|)\s", re.sub(rf"\({nested}\)", "", m[1]).partition(",")[0]):
                    found.append(f"{f}:{text[: m.start()].count(chr(10)) + 1}")
    assert not found, "\n".join(found)


def test_files_are_short():
    long = []
    for f in tracked("*.rs", "*.c", "*.h", "*.py"):
        n = len((TOP / f).read_text().splitlines())
        if n > 800:
            long.append(f"{f}: {n} lines")
    assert not long, "a file over ~800 lines wants to be two:\n" + "\n".join(long)
