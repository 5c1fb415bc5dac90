# SPDX-License-Identifier: GPL-2.0
"""make install and make uninstall, on this machine: the VM."""

import os
import pathlib

import pytest
from rvm import module_loaded, run

RELEASE = os.uname().release
MODULES = pathlib.Path(f"/usr/lib/modules/{RELEASE}")
INSTALLED = MODULES / "updates/rurdma.ko"
PROVIDER = pathlib.Path("/usr/lib/x86_64-linux-gnu/libibverbs")
DRIVER = pathlib.Path("/etc/libibverbs.d/rurdma.driver")
# The VM has what "make" built, without having built it.
INSTALL = "bash /src/scripts/install"


@pytest.fixture
def bare_machine():
    """A machine that has neither module nor provider; put back afterwards."""
    if module_loaded():
        run("modprobe -r rurdma")
    # The VM's modules are the host's, read-only, and depmod walks through all
    # of them: those that are needed will do.
    files = "modules.builtin* modules.order"
    files += " $(modprobe --show-depends -a dummy rurdma ib_uverbs rdma_ucm | sed -n 's/^insmod //p' | sort -u)"
    run(
        f"mkdir -p /run/bare && mount -t tmpfs tmpfs /run/bare && cd {MODULES} && "
        f"tar -c -P --transform='s,^.*/{RELEASE}/,,' {files} | tar -x -C /run/bare && "
        f"mount --move /run/bare {MODULES}"
    )
    kept = {f: f.read_bytes() for f in (*PROVIDER.glob("librurdma-rdmav*.so"), DRIVER) if f.exists()}
    for f in (INSTALLED, *kept):
        f.unlink(missing_ok=True)
    run(f"depmod {RELEASE}")
    yield
    run("modprobe -r rurdma", check=False)
    run(f"umount {MODULES}")
    for f, data in kept.items():
        f.write_bytes(data)


@pytest.fixture
def machine_owner_key():
    """As DKMS makes one; the environment in which the tool to sign with is found."""
    tool = next(pathlib.Path("/cache").glob("kernel-*/build/scripts/sign-file"))
    keys = pathlib.Path("/var/lib/dkms")
    run(f"mkdir -p {keys}")
    run(
        "openssl req -new -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=rurdma-test/ -outform DER "
        f"-keyout {keys}/mok.key -out {keys}/mok.pub"
    )
    yield {"KDIR": str(tool.parents[1])}
    run(f"rm -r {keys}")


def test_install_uninstall(bare_machine, machine_owner_key):
    if not pathlib.Path(f"/src/build/module-{RELEASE}").exists():
        pytest.skip("built into another directory than build/ (OUT=)")
    assert run("modprobe rurdma", check=False).rc != 0
    out = run(f"{INSTALL} --no-build", timeout=300, env=machine_owner_key).out
    assert "rdma link add" in out, "does not say what comes next"
    assert INSTALLED.exists()
    assert run(f"modinfo -F signer {INSTALLED}").out.strip() == "rurdma-test"
    assert DRIVER.exists()
    assert list(PROVIDER.glob("librurdma-rdmav*.so"))
    # Loaded by its alias, as on any machine.
    assert run("modprobe -R rdma-link-rurdma").out.strip() == "rurdma"
    run("ip link add inst0 type dummy && ip link set inst0 up && rdma link add inst0 type rurdma netdev inst0")
    try:
        assert "inst0" in run("ibv_devices").out
        busy = run(f"{INSTALL} --remove", check=False)
        assert busy.rc != 0 and "modprobe -r rurdma" in busy.out
    finally:
        run("ip link del inst0; modprobe -r rurdma", check=False)
    run(f"{INSTALL} --remove", timeout=300)
    assert not INSTALLED.exists()
    assert not DRIVER.exists()
    assert not list(PROVIDER.glob("librurdma-rdmav*.so"))
    assert run("modprobe rurdma", check=False).rc != 0


def test_wrong_kernel_is_refused(tmp_path):
    (tmp_path / "include/config").mkdir(parents=True)
    (tmp_path / "include/config/kernel.release").write_text("1.2.3-other\n")
    r = run(INSTALL, check=False, env={"KDIR": str(tmp_path)})
    assert r.rc != 0
    assert RELEASE in r.out and "1.2.3-other" in r.out
