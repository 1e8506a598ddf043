#!/usr/bin/env bash
# Makes what is handed out, from the sources here and the page in web/dist:
#
#   VERSION=v1.2.3 SOURCE_DATE_EPOCH=1700000000 build.sh DIRECTORY ARCHITECTURE…
#
# The same sources, version, time and Go give the same files to the bit, wherever they lie and
# whoever builds them: nothing of the machine, its clock or its umask goes in.
set -euo pipefail
umask 022
export TZ=UTC LC_ALL=C GOFLAGS= GOWORK=off

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
if [[ ! ${VERSION:-} =~ ^v[0-9] || ! ${SOURCE_DATE_EPOCH:-} =~ ^[0-9]+$ ]]; then
	echo "not in a git repository: say VERSION=v1.2.3 and SOURCE_DATE_EPOCH=SECONDS, the time of the sources" >&2
	exit 2
fi
out=$1 stage=$(mktemp -d)
shift
trap 'rm -rf "$stage"' EXIT
rm -rf "$out"
mkdir -p "$out"
out=$(cd "$out" && pwd)

# v1.2.3-rc.1 comes before v1.2.3 with Debian and Red Hat too: 1.2.3~rc.1.
plain=${VERSION#v}
PACKAGE_VERSION=${plain/-/\~}
PACKAGE_VERSION=${PACKAGE_VERSION//-/.}
export VERSION PACKAGE_VERSION SOURCE_DATE_EPOCH

# What is in the program by others asks for its licence to go with it.
licences() {
	go list -deps -f '{{with .Module}}{{if .Version}}{{.Path}} {{.Version}}	{{.Dir}}{{end}}{{end}}' ./cmd/tandem
	echo "Go $(go env GOVERSION)	$(go env GOROOT)"
	[ ! -d web/node_modules ] || npm --prefix web ls --omit=dev --all --parseable | tail -n +2 | while read -r dir; do
		echo "${dir##*/node_modules/}	$dir"
	done
}

licence_texts() {
	licences | sort -u | while IFS=$'\t' read -r name dir; do
		for file in "$dir"/LICENSE* "$dir"/LICENCE* "$dir"/COPYING* "$dir"/NOTICE*; do
			[ ! -f "$file" ] || { printf '==== %s\n\n' "$name"; tr -d '\r' <"$file"; echo; }
		done
	done
}

# Everything as it is to be, with one time.
fill() {
	install -m 0755 "$out/tandem_linux_$ARCH" "$stage/tandem"
	install -m 0644 README.md httpapi/python/tandem.py "$here/tandem.default" "$stage"
	for unit in tandem.service tandem.socket; do
		sed 's,@TANDEM@,/usr/bin/tandem,' "cmd/tandem/$unit" >"$stage/$unit"
	done
	for shell in bash zsh fish; do
		CGO_ENABLED=0 go run ./cmd/tandem completion "$shell" >"$stage/completion.$shell"
	done
	licence_texts >"$stage/LICENSES"
	touch -d "@$SOURCE_DATE_EPOCH" "$stage"/*
}

archive() {
	local name=tandem_${plain}_linux_$ARCH
	tar -C "$stage" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
		--transform "s,^,$name/," -cf - LICENSES README.md tandem tandem.py | gzip -9n >"$out/$name.tar.gz"
}

for ARCH in "$@"; do
	export ARCH STAGE=$stage
	CGO_ENABLED=0 GOOS=linux GOARCH="$ARCH" GOAMD64=v1 GOARM64=v8.0 \
		go build -trimpath -buildvcs=false -ldflags "-s -w -X main.linked=$VERSION" -o "$out/tandem_linux_$ARCH" ./cmd/tandem
	fill
	archive
	for packager in deb rpm; do
		go tool -modfile=.ci/dist.mod nfpm package --config "$here/nfpm.yaml" --packager $packager --target "$out" >/dev/null
	done
done
cd "$out"
sha256sum -- * >"$stage/SHA256SUMS"
install -m 0644 "$stage/SHA256SUMS" SHA256SUMS
