#!/bin/sh
# A purge (deb only) asks whether to delete the messages. If nobody can answer, it keeps them.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "$1" = purge ] && [ -d /var/lib/watchbox ]; then
	delete=false
	if [ -e /usr/share/debconf/confmodule ]; then
		. /usr/share/debconf/confmodule
		db_input high watchbox/delete-messages || true
		db_go || true
		db_get watchbox/delete-messages && delete=$RET
		db_purge
	fi
	if [ "$delete" = true ]; then
		rm -rf /var/lib/watchbox
	else
		echo "watchbox: the messages and tokens in /var/lib/watchbox are kept" >&2
	fi
fi
