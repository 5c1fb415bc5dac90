#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Compare the layout of the user/kernel contract, as the C compiler sees it, with
# the committed userspace/abi.snapshot: structures may only grow at their end,
# and no constant may change, unless the ABI version does.
#
#   abi-check.sh            prints the differences; exit status 1 if there are any
#   abi-check.sh --update   takes the present layout as the snapshot
#
# CC: the compiler (default cc)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
header=$here/../include/uapi/rdma/rurdma-abi.h
snapshot=$here/abi.snapshot
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A program that prints every constant, structure and member of the header.
awk '
BEGIN {
	print "#include <stdio.h>"
	print "#include <stddef.h>"
	print "#include \"rurdma-abi.h\""
	print "int main(void) {"
}
{
	while ((a = index($0, "/*")) && (b = index(substr($0, a), "*/")))
		$0 = substr($0, 1, a - 1) substr($0, a + b + 1)
}
/\/\*/ { comment = 1 }
comment { if (/\*\//) comment = 0; next }
/^#define[ \t]+RURDMA_[A-Z0-9_]+[ \t]+[0-9]/ {
	printf "printf(\"%s = %%#llx\\n\", (unsigned long long)%s);\n", $2, $2
}
/^enum [a-z_]+ \{/ { in_enum = 1; next }
/^struct [a-z_]+ \{/ {
	name = $2
	printf "printf(\"struct %s: %%zu bytes\\n\", sizeof(struct %s));\n", name, name
	next
}
/^}/ { in_enum = 0; name = "" }
in_enum && /^[ \t]+RURDMA_/ {
	c = $1
	sub(/[,=].*/, "", c)
	printf "printf(\"%s = %%#llx\\n\", (unsigned long long)%s);\n", c, c
}
name != "" && /;/ {
	line = $0
	sub(/;.*/, "", line)
	sub(/\[.*/, "", line)
	n = split(line, w, /[ \t]+/)
	printf "printf(\"  %%4zu %%4zu %s\\n\", offsetof(struct %s, %s), sizeof(((struct %s *)0)->%s));\n", w[n], name, w[n], name, w[n]
}
END { print "return 0; }" }
' "$header" >"$tmp/abi.c"

${CC:-cc} -Wall -Wextra -Werror -I "$(dirname "$header")" -o "$tmp/abi" "$tmp/abi.c"
"$tmp/abi" >"$tmp/abi.txt"
grep -q '^struct rurdma_cqe:' "$tmp/abi.txt" || {
	echo "abi-check: the header could not be read" >&2
	exit 1
}

if [ "${1:-}" = --update ]; then
	cp "$tmp/abi.txt" "$snapshot"
	exit 0
fi

if ! diff -u "$snapshot" "$tmp/abi.txt"; then
	echo "abi-check: the contract changed. If that is meant, and old providers" >&2
	echo "abi-check: still work: userspace/abi-check.sh --update" >&2
	exit 1
fi
echo "abi-check: $(grep -c '^struct' "$snapshot") structures, $(grep -c ' = ' "$snapshot") constants as they were"
