#!/usr/bin/env bash
# Inside a bare Debian 12: try_package.sh alone | prepare-boot | booted. Called by .dev/bare.sh; ends at the first fault.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

say() { printf '   %s\n' "$*"; }
die() {
  printf '   FAILED: %s\n' "$*"
  ! [[ -d /run/systemd/system ]] || systemctl status --no-pager --lines=40 --full eventvirtuald
  exit 1
}

# expect WHAT COMMAND…: within 20 s.
expect() {
  local what="$1" end=$((SECONDS + 20))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "$what"
    sleep 0.1 # between two looks at another process
  done
  say "$what"
}

serves() { evctl events --timeout=5s; }

# What a user does first: one event from end to end.
deliver() {
  evctl subscribe E_TRY "flatstore:$1" --never_expires >/dev/null
  evctl raise E_TRY n=1 --wait=delivered >/dev/null || die "the event is not delivered"
  [[ "$(cat "$1")" == E_TRY,1 ]] || die "the event is not in the file"
  say "an event is delivered"
}

alone() {
  apt-get update -qq
  apt-get install -qq -y --no-install-recommends /root/eventvirtual_*.deb >/dev/null 2>/root/apt.log ||
    { cat /root/apt.log && die "the package does not install"; }
  say "it installs on a bare system, with $(dpkg-query -W -f='${Depends}' eventvirtual | tr ',' '\n' | wc -l) packages it depends on"
  [[ "$(stat -c '%U:%G %a' /etc/eventvirtual/eventvirtuald.conf)" == "root:eventvirtual 640" ]] ||
    die "others may read the configuration"
  install -d -o eventvirtual -g eventvirtual -m 0700 /var/lib/eventvirtual
  setpriv --reuid=eventvirtual --regid=eventvirtual --clear-groups \
    eventvirtuald --config=/etc/eventvirtual/eventvirtuald.conf 2>/root/server.log &
  expect "it serves" serves
  deliver /var/lib/eventvirtual/try
  kill "$!"
  wait "$!" || die "the stop is not in order"
  rm -rf /var/lib/eventvirtual
}

prepare_boot() {
  apt-get install -qq -y --no-install-recommends systemd dbus >/dev/null 2>/root/apt.log ||
    { cat /root/apt.log && die "systemd does not install"; }
  cat >/etc/systemd/system/try-package.target <<'UNIT'
[Unit]
Requires=try-package.service eventvirtuald.service
AllowIsolate=yes
UNIT
  cat >/etc/systemd/system/try-package.service <<'UNIT'
[Unit]
After=eventvirtuald.service
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /root/try_package.sh booted
ExecStopPost=/bin/sh -c 'systemctl exit "$EXIT_STATUS"'
StandardOutput=file:/root/boot.log
StandardError=file:/root/boot.log
TimeoutStartSec=300
UNIT
}

booted() {
  expect "systemd has started it, as the package asks" systemctl is-active eventvirtuald
  [[ "$(systemctl is-enabled eventvirtuald)" == enabled ]] || die "it is not started at boot"
  serves >/dev/null || die "systemd was told that it is ready before it was"
  exec 3<>/dev/tcp/127.0.0.1/7063 || die "nothing is shown at --http"
  printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
  head -n 1 <&3 | grep -q ' 200 ' || die "it is not ready"
  deliver /var/log/eventvirtual/try
  evctl subscribe E_TRY flatstore:/var/spool/try --ttl=1h >/dev/null
  evctl raise E_TRY n=2 --wait=delivered >/dev/null && die "it may write into a folder that is not its own"
  say "it writes into its own folders alone"
  evctl unsubscribe E_TRY flatstore:/var/spool/try >/dev/null
  local first
  first=$(systemctl show -p MainPID --value eventvirtuald)
  kill -9 "$first"
  expect "killed, it is started again" serves
  [[ "$(systemctl show -p MainPID --value eventvirtuald)" != "$first" ]] || die "it was not killed"
  [[ "$(evctl list | wc -l)" == 2 ]] || die "its subscription is gone"
  say "its subscription is there again"
  systemctl restart eventvirtuald || die "it cannot be restarted"
  [[ "$(systemctl show -p Result --value eventvirtuald)" == success ]] || die "the stop is not in order"
  [[ "$(evctl list | wc -l)" == 2 ]] || die "its subscription is gone"
  say "so it is after a restart"
  journalctl --unit=eventvirtuald --grep=msg=stopped --quiet | grep -q msg=stopped || die "its log is not in the journal"
  apt-get remove -qq -y eventvirtual >/dev/null 2>&1 || die "it cannot be removed"
  ! grep -qsx eventvirtuald /proc/[0-9]*/comm || die "removed, it still runs"
  [[ -e /var/lib/eventvirtual/journal.db && -e /etc/eventvirtual/eventvirtuald.conf ]] || die "removing took its data"
  apt-get purge -qq -y eventvirtual >/dev/null 2>&1 || die "it cannot be purged"
  [[ ! -e /var/lib/eventvirtual && ! -e /etc/eventvirtual ]] || die "purging left something"
  say "it goes, and takes its data when it is purged"
}

case "${1:-}" in
  alone) alone ;;
  prepare-boot) prepare_boot ;;
  booted) booted ;;
  *) die "alone, prepare-boot or booted" ;;
esac
