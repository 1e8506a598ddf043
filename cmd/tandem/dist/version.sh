#!/usr/bin/env bash
# Prints the version of what is checked out here: its tag, or the name that Go gives to a commit
# (which "go build" does not find out in a git worktree), and +dirty where something was
# changed since. Prints nothing where this is not the top of a repository, as in an unpacked
# tarball, whatever repository lies around it.
set -euo pipefail
cd "$(dirname "$0")/../../.."

top=$(git rev-parse --show-toplevel 2>/dev/null) && [ "$top" -ef . ] || exit 0
if ! version=$(git describe --tags --exact-match --match 'v[0-9]*.*.*' 2>/dev/null); then
	commit=$(TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --abbrev=12 --format=%cd-%h)
	last=$(git describe --tags --abbrev=0 --match 'v[0-9]*.*.*' 2>/dev/null || true)
	case $last in
	'') version=v0.0.0-$commit ;;
	*-*) version=$last.0.$commit ;;                          # between v1.2.3-rc.1 and v1.2.3
	*) version=${last%.*}.$((${last##*.} + 1))-0.$commit ;; # between v1.2.3 and v1.2.4
	esac
fi
[ -z "$(git status --porcelain)" ] || version+=+dirty
echo "$version"
