# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Shared by every script behind the make targets: where things are, how they
# are reported, and how a command is run in the root file system.
#
# Names used everywhere:
#   TOP     the checkout                      (inside the root fs: /src)
#   CACHE   what is kept between runs         (inside the root fs: /cache)
#   OUT     what this checkout builds         (inside the root fs: /out)
#   ROOTFS  Debian trixie, compilers included (inside the root fs: /)

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${RURDMA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/rurdma}
OUT=${OUT:-$TOP/build}
SUITE=trixie
JOBS=${JOBS:-$(nproc)}

# The kernel that is known to work, and the series it belongs to.
# shellcheck disable=SC2034
KERNEL_SERIES=7.2 KERNEL_PIN=7.2.12-1~bpo13+1

t0=${RURDMA_T0:-$(date +%s)}
export RURDMA_T0=$t0

elapsed() {
	local s=$(($(date +%s) - t0))
	printf '%d:%02d' $((s / 60)) $((s % 60))
}

step() { printf '==> [%s] %s\n' "$(elapsed)" "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || die "this needs root (chroot, mounts, debootstrap): run it as root or with sudo"
}

# need_space MIB: fails before a long step does.
need_space() {
	mkdir -p "$CACHE"
	local free
	free=$(df -Pm "$CACHE" | awk 'NR==2 {print $4}')
	[ "$free" -ge "$1" ] ||
		die "$CACHE has $free MiB free, $1 MiB are needed: make room, or point XDG_CACHE_HOME elsewhere"
}

# logged NAME CMD...: output goes to a log, a sign of life every ten seconds
# to the terminal, and the end of the log too if the command fails.
logged() {
	local log=$CACHE/log/$1.log rc=0 pid n=0
	shift
	mkdir -p "$CACHE/log"
	if [ -n "${V:-}" ]; then
		"$@" 2>&1 | tee "$log" >&2 || rc=$?
	else
		"$@" >"$log" 2>&1 </dev/null &
		pid=$!
		while kill -0 "$pid" 2>/dev/null; do
			sleep 0.2
			n=$((n + 1))
			[ $((n % 50)) -ne 0 ] || note "[$(elapsed)] $(tail -n1 "$log" | tr -d '\r' | cut -c1-90)"
		done
		wait "$pid" || rc=$?
	fi
	if [ "$rc" -ne 0 ]; then
		tail -n 30 "$log" >&2
		note "full log: $log"
	fi
	return "$rc"
}

# key FILE-OR-STRING...: what something was made from, as a short name.
key() {
	local a
	for a in "$@"; do
		if [ -f "$a" ]; then cat "$a"; else printf '%s\n' "$a"; fi
	done | sha256sum | cut -c1-12
}

# with_lock NAME CMD...: one maker at a time; others wait and find it made.
with_lock() {
	local name=$1
	shift
	mkdir -p "$CACHE"
	(
		if ! flock -n 9; then
			note "another run holds '$name', waiting for it"
			flock 9
		fi
		"$@" 9>&-
	) 9>"$CACHE/.lock-$name"
}

# The package list and everything else the root file system is made from.
rootfs_key() {
	key "$SUITE" "$TOP/scripts/packages.txt" "$TOP/scripts/rootfs-setup"
}

ROOTFS=$CACHE/rootfs-$(rootfs_key)
export TOP CACHE OUT JOBS ROOTFS

# in_root [-w] [-b HOST:GUEST]... CMD...: runs CMD in the root file system, in
# its own mount and pid namespace. Without -w the root is read-only, so that
# any number of these (and of VMs) can run side by side. IN_ROOT_LIMIT=SECONDS
# ends it, and all it started, after that time (code 137).
in_root() {
	local ro=1
	local -a binds=()
	while [ $# -gt 0 ]; do
		case $1 in
		-w) ro= ;;
		-b)
			binds+=("$2")
			shift
			;;
		*) break ;;
		esac
		shift
	done
	need_root
	[ -d "$ROOTFS/usr" ] || die "no root file system yet: run 'make rootfs'"
	mkdir -p "$OUT"
	RO=$ro timeout --foreground -s KILL "${IN_ROOT_LIMIT:-0}" unshare -m -p -f --kill-child "$TOP/scripts/enter" "${#binds[@]}" "${binds[@]}" "$@"
}

# What a kernel tree is made by, beside the kernel: the recipe, and the compilers.
kernel_recipe() {
	key "$TOP/scripts/kernel-prepare" "$ROOTFS/.toolchain"
}

# point FILE DIRECTORY: says which directory of the cache is in force. At once: other runs read it.
point() {
	echo "$2" >"$1.$$"
	mv "$1.$$" "$1"
}

# kernel_env stock|custom|debug|uml|arm64: sets KREL (release), KTOP (directory in the
# cache) for that kernel; scripts/kernel and scripts/custom-kernel write the
# pointers.
kernel_env() {
	local ptr name=$1 target=$1-kernel
	case $name in
	stock) target=kernel ptr=$CACHE/kernel-${KERNEL:-$KERNEL_SERIES}-$(kernel_recipe).current ;;
	arm64) target=arm64 ptr=$CACHE/kernel-arm64.current ;;
	custom | debug | uml) ptr=$CACHE/kernel-$name.current ;;
	*) die "VM=$name: there are stock, custom, debug, uml and arm64" ;;
	esac
	[ -f "$ptr" ] || die "the $name kernel is not there yet: run 'make $target'"
	KTOP=$CACHE/$(cat "$ptr")
	KREL=$(cat "$KTOP/release")
	export KTOP KREL
}

# need_kernel: makes the kernel that VM= says if it is not there, and says
# where it is (kernel_env).
need_kernel() {
	"$TOP/scripts/kernel" >/dev/null
	case ${VM:-stock} in
	stock) ;;
	*) "$TOP/scripts/custom-kernel" "$VM" ;;
	esac
	kernel_env "${VM:-stock}"
}
