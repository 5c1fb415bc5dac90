# SPDX-License-Identifier: GPL-2.0
#
# The front door. "make help" lists what it opens.
#
# Everything is built in a Debian root file system of the project's own and run
# in a VM; the machine you stand on keeps its kernel and its packages (but see
# deps and install). Downloads and results are cached outside the checkout.

# Parallelism is the scripts' business: two of these at once would only fight.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

S := scripts
# One clock for all the scripts of a run.
export RURDMA_T0 := $(shell date +%s)
export KDIR KERNEL V W JOBS VM DEV K MIRROR OUT ROUNDS

.PHONY: all
all: deps ## module and provider for KDIR (default: the stock kernel that the project prepares)
	@$S/build

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
	@echo
	@echo 'Variables: KDIR=TREE  build against that prepared CONFIG_RUST tree'
	@echo '           KERNEL=newest|7.3  another series of the stock kernel (default 7.2)'
	@echo '           VM=stock|custom|debug|uml|arm64  the kernel of the VM'
	@echo '           K=PATTERN  only tests whose name matches      V=1  show all output'

.PHONY: deps
deps: ## says what the host lacks and installs it (debootstrap)
	@$S/deps

.PHONY: rootfs kernel
rootfs: deps ## the root file system: build environment and root of the VM
	@$S/rootfs
kernel: deps ## the stock kernel with Rust metadata
	@$S/kernel

.PHONY: module provider siw
module: deps ## the module alone
	@$S/build module modroot
provider: deps ## the rdma-core provider alone
	@$S/build provider
siw: deps ## siw for the stock kernel, as a peer
	@$S/build siw modroot

.PHONY: test lint host vm-test
test: deps ## host, lint and VM tiers; ends with "N passed, N failed, N skipped"
	@$S/test host lint vm
lint: deps ## rustfmt, clippy, where unsafe may stand, checkpatch, shellcheck, ruff, ...
	@$S/test lint
host: deps ## protocol core under cargo test, rings under loom, provider against a stand-in
	@$S/test host
vm-test: deps ## the tests that need the module, in the VM
	@$S/test vm

.PHONY: pyverbs interop consumers bench bench-report loss soak hostile wakeups fuzz
pyverbs: deps ## the packaged pyverbs suite, compared with tests/pyverbs/DEV.expected (DEV=iwarp|roce)
	@$S/test pyverbs
interop: deps ## rurdma against siw, rxe and a scripted peer
	@$S/test interop
consumers: deps ## programs and kernel users that know nothing of rurdma
	@$S/test consumers
bench: deps ## rurdma beside siw, rxe, TCP and UDP in one run: ratios (QUICK=1: the targets alone; POLL_US=N)
	@$S/bench run
bench-report: ## what the last 'make bench' has measured, as a page of Documentation
	@$S/bench-report
loss: deps ## 256 MiB by each driver over wires that lose, reorder, double and damage (OFFLOADS=off|on)
	@$S/bench loss
soak: deps ## kills, removals and unloads under traffic, ROUNDS=200 times
	@$S/test soak
hostile: deps ## a million mutations of the mapped rings over each transport, frames and packets
	@$S/test hostile
wakeups: deps ## ten million posts while the poller sleeps, wakes, goes: is one lost? (TRANSITIONS=N)
	@$S/test wakeups
fuzz: deps ## libFuzzer over each parser and state machine, FUZZ_SECONDS=3400 in all
	@$S/test fuzz

.PHONY: litmus arm64
litmus: deps ## the rings' ordering under the kernel's memory model (herd7, from Debian testing)
	@$S/litmus
arm64: deps ## module and provider for arm64, and tests of traffic there, emulated (builds a kernel: long)
	@$S/arm64

.PHONY: shell demo kunit debug-test
shell: all ## a shell in the VM, module loaded and links up
	@$S/vm -i bash /src/tests/vm/shell
demo: all ## from nothing to first RDMA traffic, with a table at the end
	@$S/demo
kunit: deps ## KUnit tests in a kernel built from virtme.conf
	@VM=custom $S/test kunit
debug-test: deps ## the VM tier under KASAN, lockdep, kmemleak (builds a kernel: long)
	@VM=debug VM_LIMIT=$${VM_LIMIT:-3500} $S/test debug
.PHONY: custom-kernel debug-kernel uml-kernel
custom-kernel: deps ## builds the kernel of virtme.conf (KUnit, siw, Rust with checks)
	@$S/custom-kernel custom
debug-kernel: deps ## builds the kernel of virtme-debug.conf (long)
	@$S/custom-kernel debug
uml-kernel: deps ## builds User Mode Linux, virtme-uml.conf: bench's second opinion (VM=uml)
	@$S/custom-kernel uml

.PHONY: abi-snapshot fmt
abi-snapshot: deps ## accepts the present rurdma-abi.h as the contract
	@$S/abi-snapshot
fmt: deps ## formats Rust and Python
	@$S/fmt

.PHONY: install uninstall
install: deps ## module and provider onto the machine you stand on (dkms.conf: for DKMS)
	@$S/install
uninstall: ## takes both away again
	@$S/install --remove

.PHONY: clean distclean
clean: ## removes build/
	@rm -rf build
distclean: clean ## removes the cache too (downloads, root file system, kernels)
	@$S/distclean
