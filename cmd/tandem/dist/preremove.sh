#!/bin/sh
# Called before the files go: by dpkg with "remove" or "upgrade", by rpm with the number of
# versions that stay.
set -e
case "$1" in
remove) # Debian keeps whether it is enabled, until it is purged
	if [ -d /run/systemd/system ]; then deb-systemd-invoke stop tandem.service tandem.socket >/dev/null || true; fi
	;;
0)
	if command -v systemctl >/dev/null; then systemctl --no-reload disable --now tandem.service tandem.socket >/dev/null 2>&1 || true; fi
	;;
esac
