#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Build the rdma-core provider as an overlay on the distribution's own rdma-core
# source, of the very version that is installed: providers use a private ABI.
#
#   build.sh OUTDIR
#
# Run it as root inside the Debian root file system that the provider is for.
# OUTDIR receives librurdma-rdmavNN.so and rurdma.driver. install.sh, next to
# this file, says where they go.
#
# RURDMA_CACHE        caches (default /cache, where scripts/enter mounts it, else
#                     ${XDG_CACHE_HOME:-~/.cache}/rurdma)
# RDMA_CORE_VERSION   Debian source version (default: that of libibverbs1)
# CC                  compiler (default gcc)
# RURDMA_KEEP         a file to write the name of the build directory to
#
# The first run fetches the source with apt's own settings and checks it against
# apt's signed index; later ones need no network.
set -eu

say() { echo "provider: $*"; }
die() { echo "provider: $*" >&2; exit 1; }

[ $# -eq 1 ] || die "usage: build.sh OUTDIR"
mkdir -p "$1"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

for tool in cmake ninja python3 pkg-config tar xz sha256sum flock "${CC:-gcc}"; do
	command -v "$tool" >/dev/null || die "$tool is missing"
done

version=${RDMA_CORE_VERSION:-$(dpkg-query -W -f '${source:Version}' libibverbs1 2>/dev/null || true)}
[ -n "$version" ] || die "libibverbs1 is not installed, and RDMA_CORE_VERSION is not set"

if [ -z "${RURDMA_CACHE:-}" ]; then
	if [ -d /cache ] && [ -w /cache ]; then
		RURDMA_CACHE=/cache
	else
		RURDMA_CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/rurdma
	fi
fi
cache=$RURDMA_CACHE/rdma-core-$version
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

# 1. The source.
fetch() {
	dir=$cache/download
	mkdir -p "$dir/lists/partial"

	# A deb-src twin of every binary source that apt knows.
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 2>/dev/null | sort -u |
		sed 's/^/deb-src /' >"$dir/sources.list"
	[ -s "$dir/sources.list" ] || die "apt has no package sources"

	set -- -q -o "Dir::Etc::sourcelist=$dir/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null \
		-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir"
	apt-get "$@" -o APT::Update::Error-Mode=any update >"$dir/log" 2>&1 || {
		cat "$dir/log" >&2
		die "the package index cannot be fetched"
	}
	apt-get "$@" source --only-source --print-uris "rdma-core=$version" \
		2>"$dir/log" | grep "^'" | tr -d "'" >"$dir/uris" || {
		cat "$dir/log" >&2
		die "no source of rdma-core $version; set RDMA_CORE_VERSION to one there is"
	}

	# Not every mirror carries .dsc files: the tarballs are enough.
	: >"$dir/sums"
	while read -r uri file _ sum; do
		case $file in
		*.orig.tar.* | *.debian.tar.*) ;;
		*) continue ;;
		esac
		case $sum in
		SHA256:*) ;;
		*) die "no SHA-256 for $file" ;;
		esac
		say "fetching $file"
		/usr/lib/apt/apt-helper -q download-file "$uri" "$dir/$file" \
			"$sum" >"$dir/log" 2>&1 || {
			cat "$dir/log" >&2
			die "$file cannot be fetched"
		}
		echo "${sum#SHA256:}  $file" >>"$dir/sums"
	done <"$dir/uris"
	(cd "$dir" && grep -q 'orig\.tar' sums && sha256sum --quiet -c sums) ||
		die "the source of rdma-core $version is incomplete"
	rm -rf "$dir/lists"
}

if [ ! -e "$cache/src/.complete" ]; then
	if ! (cd "$cache/download" && sha256sum --quiet -c sums) 2>/dev/null; then
		fetch
	fi

	rm -rf "$cache/src"
	mkdir -p "$cache/src"
	tar -xf "$cache"/download/*.orig.tar.* -C "$cache/src" --strip-components=1
	for deb in "$cache"/download/*.debian.tar.*; do
		[ -e "$deb" ] && tar -xf "$deb" -C "$cache/src"
	done
	if [ -e "$cache/src/debian/patches/series" ]; then
		command -v patch >/dev/null || command -v git >/dev/null ||
			die "patch is missing"
		sed 's/#.*//; /^[[:space:]]*$/d' "$cache/src/debian/patches/series" |
		while read -r p _; do
			p=$cache/src/debian/patches/$p
			if command -v patch >/dev/null; then
				patch -s -p1 -d "$cache/src" <"$p"
			else
				(cd "$cache/src" && git apply "$p")
			fi
		done
	fi

	# The overlay's hooks.
	cd "$cache/src"
	sed -i 's|^\([[:space:]]*\)rdma/siw-abi.h$|\1rdma/rurdma-abi.h\n&|' \
		kernel-headers/CMakeLists.txt
	sed -i 's|^add_subdirectory(providers/siw)$|add_subdirectory(providers/rurdma)\n&|' \
		CMakeLists.txt
	if [ "$(grep -c rurdma-abi.h kernel-headers/CMakeLists.txt)" -ne 2 ] ||
		! grep -q providers/rurdma CMakeLists.txt; then
		die "rdma-core $version has another layout than expected"
	fi
	touch .complete
fi

# 2. The overlay: only what changed, so that ninja does no more than it must.
src=$cache/src
dst=$src/providers/rurdma
mkdir -p "$dst"
install -C -m 644 "$root/include/uapi/rdma/rurdma-abi.h" \
	"$src/kernel-headers/rdma/rurdma-abi.h"
for old in "$dst"/*; do
	[ -e "$here/providers/rurdma/${old##*/}" ] || rm -f "$old"
done
for new in "$here"/providers/rurdma/*.[ch]; do
	install -C -m 644 "$new" "$dst/"
done
{
	cat "$here/providers/rurdma/CMakeLists.txt"
	# rdma-core's own flags have -Wall -Wextra, less what its headers need.
	# shellcheck disable=SC2016
	echo 'target_compile_options(rurdma-rdmav${IBVERBS_PABI_VERSION} PRIVATE -Werror)'
} >"$cache/CMakeLists.txt"
install -C -m 644 "$cache/CMakeLists.txt" "$dst/"

# 3. One library.
pabi=$(sed -n 's/^set(IBVERBS_PABI_VERSION "\([0-9]*\)")$/\1/p' "$src/CMakeLists.txt")
[ -n "$pabi" ] || die "rdma-core $version does not tell its private ABI"
lib=librurdma-rdmav$pabi.so
build=$cache/build-$(basename "${CC:-gcc}")

log=$cache/build.log
set -- -GNinja -DNO_PYVERBS=1 -DNO_MAN_PAGES=1 -DCMAKE_INSTALL_PREFIX=/usr \
	-DCMAKE_SKIP_RPATH=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
if [ "$*" != "$(cat "$build/.arguments" 2>/dev/null)" ]; then
	rm -rf "$build"
	CC=${CC:-gcc} cmake -S "$src" -B "$build" "$@" >"$log" 2>&1 || {
		cat "$log" >&2
		die "cmake failed"
	}
	echo "$*" >"$build/.arguments"
fi
ninja -C "$build" "lib/$lib" >"$log" 2>&1 || {
	grep -v '^\[' "$log" >&2
	die "the build failed"
}

install -C -m 644 "$build/lib/$lib" "$out/$lib"
echo "driver rurdma" >"$out/rurdma.driver"
[ -z "${RURDMA_KEEP:-}" ] || echo "$build" >"$RURDMA_KEEP"
say "$out/$lib (rdma-core $version, ${CC:-gcc})"
