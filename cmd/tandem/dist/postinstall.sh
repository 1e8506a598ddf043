#!/bin/sh
# Called once the files are there: by dpkg with "configure" (or "abort-…" when it goes back to
# what was), by rpm with the number of versions installed.
set -e

getent passwd tandem >/dev/null ||
	useradd --system --user-group --home-dir /var/lib/tandem --no-create-home --shell /usr/sbin/nologin tandem

# Even on a loopback address not every user of the machine is to be served.
install -d -m 0750 -o root -g tandem /etc/tandem
if [ ! -e /etc/tandem/tokens ]; then
	(umask 027 && od -An -vtx1 -N32 /dev/urandom | tr -d ' \n' >/etc/tandem/tokens.new && echo >>/etc/tandem/tokens.new)
	chgrp tandem /etc/tandem/tokens.new
	mv /etc/tandem/tokens.new /etc/tandem/tokens
	echo "tandem: the service asks for the token in /etc/tandem/tokens"
fi

if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload || true
fi
# A server that is running goes on: a restart would end its sessions.
case "$1" in
configure | abort-*) # Debian: on, unless an administrator has turned it off
	deb-systemd-helper unmask tandem.service >/dev/null || true
	if deb-systemd-helper --quiet was-enabled tandem.service; then
		deb-systemd-helper enable tandem.service >/dev/null || true
	else
		deb-systemd-helper update-state tandem.service >/dev/null || true
	fi
	if [ -d /run/systemd/system ]; then
		deb-systemd-invoke start tandem.service >/dev/null || true
	fi
	[ -z "$2" ] || updated=yes
	;;
1) # Red Hat: as the presets of the system say, and never started unasked
	if command -v systemctl >/dev/null; then systemctl --no-reload preset tandem.service >/dev/null 2>&1 || true; fi
	;;
*) updated=yes ;;
esac
if [ "${updated-}" ] && [ -d /run/systemd/system ] && systemctl --quiet is-active tandem.service; then
	echo "tandem: the old version goes on, and its sessions with it, until 'systemctl restart tandem'"
fi
