#!/bin/sh
# Creates the user of the service, before files that belong to it are unpacked.
set -e
if ! id -u watchbox >/dev/null 2>&1; then
	if command -v useradd >/dev/null; then
		groupadd --system --force watchbox
		useradd --system --gid watchbox --no-create-home --home-dir /var/lib/watchbox --shell /usr/sbin/nologin watchbox
	else # Alpine
		addgroup -S watchbox
		adduser -S -D -H -h /var/lib/watchbox -s /sbin/nologin -G watchbox watchbox
	fi
fi
