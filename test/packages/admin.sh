#!/bin/sh
# What an administrator does with the package, from the installation to the purge. It runs in a Debian system that
# systemd has booted. test/packages/run starts it and brings the packages.
set -eu
old=/test/old.deb
new=/test/new.deb
state=/var/lib/watchbox
export DEBIAN_FRONTEND=noninteractive

step() { echo "# $*"; }

# want TEXT COMMAND ... fails unless the command succeeds and prints the text.
want() {
	text=$1
	shift
	out=$("$@" 2>&1) || { echo "failed: $*: $out"; exit 1; }
	case $out in
	*"$text"*) ;;
	*) echo "$* prints \"$out\", want \"$text\""; exit 1 ;;
	esac
}

# fails COMMAND ... fails if the command succeeds.
fails() {
	if "$@" >/dev/null 2>&1; then
		echo "succeeds: $*"
		exit 1
	fi
}

property() { systemctl show --property "$1" --value watchbox; }

step install
apt-get install -y -qq "$old" >/dev/null
want watchbox id -un watchbox
want 'watchbox watchbox 700' stat -c '%U %G %a' $state
want inactive sh -c 'systemctl is-active watchbox || true' # its settings come first
test -s /usr/share/man/man1/watchbox-serve.1.gz
want watchbox bash -c '. /usr/share/bash-completion/completions/watchbox; complete -p watchbox'
want '' systemd-analyze verify --man=no watchbox.service
want '' systemd-analyze security --threshold=20 watchbox.service

step start
systemctl enable --now watchbox
want ready watchbox health
want active systemctl is-active watchbox
want watchbox stat -c %U "/proc/$(property MainPID)"
watchbox pub --retain home/kitchen 'before the upgrade'

step 'settings, tokens and a socket'
watchbox token create phone --subscribe '#' --publish '#' --token-file $state/tokens.json >/root/phone
cat >>/etc/watchbox/watchbox.env <<-END
	WATCHBOX_TOKEN_FILE=$state/tokens.json
	WATCHBOX_LISTEN=unix:/run/watchbox/hub.sock
	END
systemctl restart watchbox
export WATCHBOX_URL=unix:/run/watchbox/hub.sock
want ready watchbox health
fails watchbox get home/kitchen
want 'before the upgrade' watchbox get home/kitchen --token-file /root/phone

step 'the superuser edits the tokens while the service runs'
watchbox token create tablet --subscribe '#' --token-file $state/tokens.json >/root/tablet
watchbox token revoke phone --token-file $state/tokens.json
until watchbox get home/kitchen --token-file /root/tablet >/dev/null 2>&1; do sleep 0.1; done
until ! watchbox get home/kitchen --token-file /root/phone >/dev/null 2>&1; do sleep 0.1; done

step reload
pid=$(property MainPID)
systemctl reload watchbox
want active systemctl is-active watchbox
test "$pid" = "$(property MainPID)"

step 'the service may not write elsewhere'
want yes sh -c "grep -q '^CapBnd:.*0000000000000400$' /proc/$pid/status && echo yes"
want '1' sed -n 's/^NoNewPrivs:\t//p' "/proc/$pid/status"
want '2' sed -n 's/^Seccomp:\t//p' "/proc/$pid/status"
fails nsenter -t "$pid" -m touch /etc/watchbox/x

step 'a restart does not lose a message that a listener waits for'
watchbox token create writer --publish '#' --token-file $state/tokens.json >/root/writer
until watchbox pub stream one --token-file /root/writer 2>/dev/null; do sleep 0.1; done
watchbox sub stream --since all --count 2 --token-file /root/tablet >/root/heard &
sub=$!
until test -s /root/heard; do sleep 0.1; done

step upgrade
apt-get install -y -qq "$new" >/dev/null
want '99.0.0' dpkg-query -W -f '${Version}' watchbox
want active systemctl is-active watchbox
want ready watchbox health
test "$pid" != "$(property MainPID)"
want tokens.json grep WATCHBOX_TOKEN_FILE=/ /etc/watchbox/watchbox.env
want 'before the upgrade' watchbox get home/kitchen --token-file /root/tablet
watchbox pub stream two --token-file /root/writer
wait $sub
want 'one
two' cat /root/heard

step 'a wrong setting is not tried again'
echo WATCHBOX_MAX_AGE=soon >>/etc/watchbox/watchbox.env
fails systemctl restart watchbox
want failed sh -c 'systemctl is-active watchbox || true'
want 0 systemctl show --property NRestarts --value watchbox
want max-age journalctl -u watchbox -n 20 -o cat --no-pager
sed -i '$d' /etc/watchbox/watchbox.env
systemctl restart watchbox

step 'a kill is followed by a start'
pid=$(property MainPID)
kill -9 "$pid"
until test "$(property MainPID)" -gt 0 && test "$(property MainPID)" != "$pid" && systemctl -q is-active watchbox; do sleep 0.1; done
want 'before the upgrade' watchbox get home/kitchen --token-file /root/tablet

step 'systemd waits for a drain'
mkdir -p /etc/systemd/system/watchbox.service.d
printf '[Service]\nTimeoutStopSec=1s\n' >/etc/systemd/system/watchbox.service.d/timeout.conf
echo WATCHBOX_DRAIN_DELAY=3s >>/etc/watchbox/watchbox.env
systemctl daemon-reload
systemctl restart watchbox

step stop
systemctl stop watchbox
want success systemctl show --property Result --value watchbox
test ! -e /run/watchbox/hub.sock
want messages watchbox store check $state

step remove
apt-get remove -y -qq watchbox >/dev/null
test ! -e /usr/bin/watchbox
test ! -e /etc/systemd/system/multi-user.target.wants/watchbox.service
test -e /etc/watchbox/watchbox.env
test -e $state/tokens.json

step 'a purge without an answer keeps the messages'
apt-get purge -y -qq watchbox >/dev/null
test ! -e /etc/watchbox
test -e $state/tokens.json

step 'a purge deletes them if the administrator says so'
apt-get install -y -qq "$new" >/dev/null
systemctl start watchbox
unset WATCHBOX_URL
want 'before the upgrade' watchbox get home/kitchen
echo 'watchbox watchbox/delete-messages boolean true' | debconf-set-selections
apt-get purge -y -qq watchbox >/dev/null
test ! -e $state
test ! -e /etc/watchbox
test ! -e /usr/lib/systemd/system/watchbox.service
fails systemctl status watchbox

step rpm
rpm --install --nodeps /test/watchbox.rpm
want 'watchbox watchbox 700' stat -c '%U %G %a' $state
systemctl enable --now watchbox
want ready watchbox health
watchbox pub --retain home/kitchen rpm
rpm --upgrade --force --nodeps /test/watchbox.rpm
want active systemctl is-active watchbox
want rpm watchbox get home/kitchen
rpm --erase watchbox
fails systemctl is-active watchbox
test ! -e /usr/bin/watchbox
test -d $state

step passed
