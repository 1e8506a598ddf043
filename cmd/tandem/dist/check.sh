#!/usr/bin/env bash
# Makes dist twice from the commit that is checked out, in two places with nothing in common,
# and fails unless both are the same to the bit. Takes minutes: each installs what it builds with.
set -euo pipefail
top=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
one=$work/one two="$work/and/another with a space"

git clone -q "$top" "$one"
make -s -C "$one" dist
(
	umask 077
	export TZ=Asia/Tokyo LC_ALL=C.UTF-8 GOFLAGS=-race
	git clone -q "$top" "$two"
	make -s -C "$two" dist
)
diff "$one/dist/SHA256SUMS" "$two/dist/SHA256SUMS"
cat "$one/dist/SHA256SUMS"
