#!/bin/sh
# Restarts the service after an upgrade, if it runs. A new installation is not started: its settings come first.
set -e
if [ "$1" = configure ] && [ -e /usr/share/debconf/confmodule ]; then
	. /usr/share/debconf/confmodule # loads the question of postremove.sh
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart watchbox.service || echo "watchbox: the restart failed: see journalctl -u watchbox" >&2
fi
