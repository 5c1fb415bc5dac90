#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Put what build.sh made where libibverbs looks for it.
#
#   install.sh OUTDIR [DESTDIR]
#   install.sh --uninstall [DESTDIR]
#
# To try a provider without installing it: RDMAV_DRIVERS=OUTDIR/librurdma
set -eu

die() { echo "provider: $*" >&2; exit 1; }

# Where the installed libibverbs has its providers.
libdir() {
	for d in "$1"/usr/lib/*-linux-gnu*/libibverbs "$1"/usr/lib64/libibverbs \
		"$1"/usr/lib/libibverbs; do
		if [ -d "$d" ]; then
			echo "$d"
			return
		fi
	done
	die "no directory of libibverbs providers below ${1:-/}usr (package ibverbs-providers)"
}

if [ "${1:-}" = --uninstall ]; then
	rm -f "$(libdir "${2:-}")"/librurdma-rdmav*.so \
		"${2:-}/etc/libibverbs.d/rurdma.driver"
	exit 0
fi

[ -e "${1:-}/rurdma.driver" ] || die "usage: install.sh OUTDIR [DESTDIR]"
dir=$(libdir "${2:-}")
install -m 644 "$1"/librurdma-rdmav*.so "$dir/"
install -D -m 644 "$1/rurdma.driver" "${2:-}/etc/libibverbs.d/rurdma.driver"
