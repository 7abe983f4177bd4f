#!/usr/bin/env bash
# ./dev bare: does the last commit work on a Debian 12 that has nothing installed? Needs root. Called by ./dev.
# `--package` instead of commands, for ./dev deb --try: does the package in dist/ install there, start, and go again?
#
# Everything happens in mount and process namespaces of its own: when this script ends, however it ends, the kernel
# takes the mounts away and ends what was left running inside.
set -euo pipefail

readonly TREE="$PWD"
readonly BASE="${CACHE:?}/bare"
readonly TARBALL="$BASE/debian12.tar" # the bare system, made once
readonly ROOT="$BASE/root"            # unpacked afresh each time

say() { printf '== %s\n' "$*" >&2; }

# This machine's own sources, so that a mirror or a proxy that it needs serves the new root too.
debian_sources() {
  # shellcheck disable=SC2016 # apt-get's own placeholders
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
    grep -E '/? bookworm(-updates|-security)? main$' | sort -u
}

make_tarball() {
  local mirror work
  mirror=$(debian_sources | awk '$3 == "bookworm" { print $2; exit }')
  [[ -n "$mirror" ]] || { say "apt knows no source of Debian 12 (bookworm main) here: try apt-get update" && exit 1; }
  work=$(mktemp -d "$BASE/make-XXXXXX")
  say "making a bare Debian 12 (once; into $TARBALL)"
  debootstrap --variant=minbase bookworm "$work/root" "$mirror" >"$BASE/debootstrap.log" ||
    { tail -n 20 "$BASE/debootstrap.log" >&2 && exit 1; }
  rm -rf "$work"/root/var/cache/apt/archives/*.deb
  tar -C "$work/root" -cf "$TARBALL.new" .
  mv "$TARBALL.new" "$TARBALL"
  rm -rf "$work"
}

# What a machine needs to reach its package sources is the machine's, not the project's.
copy_network_setup() {
  debian_sources >"$ROOT/etc/apt/sources.list"
  apt-config dump | grep -iE '^Acquire::(https?|ftp)::.*(proxy|cainfo)' >"$ROOT/etc/apt/apt.conf.d/00machine" || true
  cp /etc/resolv.conf /etc/hosts "$ROOT/etc/"
  if [[ -d /usr/local/share/ca-certificates ]]; then
    mkdir -p "$ROOT/usr/local/share"
    cp -rL /usr/local/share/ca-certificates "$ROOT/usr/local/share/"
  fi
}

mount_system() {
  # Its own mount point, as the root of a machine is: some tests remount it in a namespace of theirs.
  mount --bind "$ROOT" "$ROOT"
  mount -t proc proc "$ROOT/proc"
  mount -t sysfs -o ro sysfs "$ROOT/sys"
  mkdir -p "$ROOT/dev/pts" "$ROOT/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$ROOT/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
  # Downloaded packages outlive the root, so that the next run does not fetch them again.
  mkdir -p "$BASE/archives/partial"
  mount --bind "$BASE/archives" "$ROOT/var/cache/apt/archives"
}

in_root() {
  local name network=()
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY GOPROXY GOSUMDB PIP_INDEX_URL npm_config_registry; do
    [[ -v "$name" ]] && network+=("$name=${!name}")
  done
  env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${network[@]}" \
    chroot "$ROOT" bash -c "cd /root/eventvirtual && $1" </dev/null
}

# The package, first without an init system, as in a container, then under systemd as process 1.
try_package() {
  cp "$TREE"/dist/eventvirtual_*.deb "$TREE/.dev/try_package.sh" "$ROOT/root/"
  mkdir "$ROOT/root/eventvirtual"
  say "the package alone"
  in_root 'bash /root/try_package.sh alone'
  say "the package under systemd"
  in_root 'bash /root/try_package.sh prepare-boot'
  mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup" # of the namespace that was made for this script
  # systemd ends with the status of what it was booted for. The root is moved, not changed: from within a chroot the kernel
  # makes no user namespace, which the unit asks for (PrivateUsers).
  local status=0
  # shellcheck disable=SC2016 # the inner shell's own
  unshare --pid --fork --kill-child --mount --uts --ipc --mount-proc="$ROOT/proc" bash -c '
    cd "$1" && mkdir -p .outside && pivot_root . .outside && umount -l /.outside &&
      exec env -i container=bare PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
        --unit=try-package.target --show-status=false --log-target=null' boot "$ROOT" </dev/null >/dev/null 2>&1 || status=$?
  cat "$ROOT/root/boot.log"
  return "$status"
}

main() {
  mkdir -p "$BASE"
  [[ -e "$TARBALL" ]] || make_tarball
  rm -rf "$ROOT"
  mkdir -p "$ROOT"
  tar -C "$ROOT" -xf "$TARBALL"
  copy_network_setup
  mount_system
  if [[ "${1:-}" == --package ]]; then
    try_package
    return
  fi
  # The clone is made out here: a bare system has no git, and what was downloaded needs none.
  git clone -q "$TREE" "$ROOT/root/eventvirtual"
  say "in a bare Debian 12: $(git -C "$TREE" log -1 --format='%h %s')"
  local command
  for command in "$@"; do
    say "$command"
    local begin=$SECONDS
    in_root "$command"
    say "$command: passed after $((SECONDS - begin)) s"
  done
}

if [[ "${1:-}" != --inside ]]; then
  ((EUID == 0)) || { echo "./dev bare needs root, for debootstrap and chroot: sudo ./dev bare" >&2 && exit 1; }
  mkdir -p "${CACHE:?}"
  [[ $# -eq 0 || "$1" == --package ]] || set -- "./dev $*"
  (($# > 0)) || set -- './dev run --once' './dev test'
  exec 9>"$CACHE/bare.lock"
  flock -n 9 || { say "another ./dev bare runs: two would share one root" && exit 1; }
  unshare --mount --propagation private --cgroup --pid --fork --kill-child bash "${BASH_SOURCE[0]}" --inside "$@" 9>&- ||
    { say "failed; the root is left to look at: $ROOT" && exit 1; }
  rm -rf "$ROOT"
  exit
fi
shift
main "$@"
