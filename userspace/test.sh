#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Run the provider against a stand-in for the module, under the address and
# undefined-behaviour sanitizers. Builds the provider first (see build.sh for
# where to run this and for the environment).
#
#   test.sh [SEED]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

RURDMA_KEEP=$tmp/where "$here/build.sh" "$tmp/out"
build=$(cat "$tmp/where")

# shellcheck disable=SC2046
${CC:-gcc} -std=gnu11 -g -O1 -Wall -Wextra -Werror -Wno-unused-parameter \
	-Wno-sign-compare -Wno-gnu-variable-sized-type-not-at-end -fsanitize=address,undefined \
	-fno-sanitize-recover=all -I "$build/include" \
	$(pkg-config --cflags libnl-3.0) \
	-I "$here/providers/rurdma" -I "$here/tests" -o "$tmp/test" \
	"$here"/providers/rurdma/*.c "$here"/tests/*.c -lpthread
# What the tests leave behind is nobody's leak.
ASAN_OPTIONS=detect_leaks=0 "$tmp/test" "$@"
