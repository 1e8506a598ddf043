#!/bin/sh
# Called when the files are gone: by dpkg with "remove" and then perhaps "purge", or with
# "upgrade", by rpm with the number of versions that stay. The user stays, as users do: files
# elsewhere may be its.
set -e
if [ -d /run/systemd/system ]; then systemctl --system daemon-reload >/dev/null || true; fi
if [ "$1" = purge ]; then
	if command -v deb-systemd-helper >/dev/null; then deb-systemd-helper purge tandem.service tandem.socket >/dev/null || true; fi
	rm -rf /etc/tandem /var/lib/tandem
fi
