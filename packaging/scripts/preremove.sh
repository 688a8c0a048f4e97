#!/bin/sh
# Stops the service before it is removed, but not before an upgrade. The argument of an upgrade is "upgrade" or
# "failed-upgrade" (deb) or 1 (rpm).
set -e
case $1 in
upgrade | failed-upgrade | 1) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl disable --now watchbox.service
fi
