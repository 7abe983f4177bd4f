#!/usr/bin/env bash
# ./dev deb: packs the programs that ./dev has built into dist/eventvirtual_VERSION_ARCH.deb. Called by ./dev.
#
# debhelper does the work (deploy/debian): what the programs need of Debian is found in them, their debug information
# goes into a package of its own.
set -euo pipefail

readonly SERVER=bazel-bin/server/eventvirtuald CLIENT=bazel-bin/client/evctl

say() { printf '== %s\n' "$*" >&2; }

lay_out() {
  local root="$1"
  install -D -m 0755 "$SERVER" "$root/usr/sbin/eventvirtuald"
  install -D -m 0755 "$CLIENT" "$root/usr/bin/evctl"
  install -D -m 0644 deploy/eventvirtuald.conf "$root/etc/eventvirtual/eventvirtuald.conf"
  install -d "$root/usr/share/bash-completion/completions" "$root/man" "$root/doc" "$root/examples/prometheus"
  "$CLIENT" completion bash >"$root/usr/share/bash-completion/completions/evctl"
  python3 deploy/reference.py man "$CLIENT" >"$root/man/evctl.1"
  python3 deploy/reference.py man "$SERVER" >"$root/man/eventvirtuald.8"
  python3 deploy/sbom.py "$SERVER" >"$root/doc/sbom.cdx.json"
  cp -r README.md CHANGELOG.md docs "$root/doc/"
  rm "$root/doc/docs/BUILD"
  cp -r deploy/opensips deploy/grafana/eventvirtual.json "$root/examples/"
  cp deploy/prometheus/alerts.yml deploy/prometheus/prometheus.yml "$root/examples/prometheus/"
}

work="" # where it is packed
main() {
  local version
  version=$(sed -n 's/.*kVersion\[\] = "\(.*\)";/\1/p' server/version.h)
  # Packed twice, the same tree gives the same package.
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  export SOURCE_DATE_EPOCH
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/eventvirtual"
  cp -r deploy/debian "$work/eventvirtual/debian"
  cp deploy/systemd/eventvirtuald.service "$work/eventvirtual/debian/eventvirtual.eventvirtuald.service"
  printf 'eventvirtual (%s-1) bookworm; urgency=medium\n\n  * %s\n\n -- eventvirtual <eventvirtual@localhost>  %s\n' \
    "$version" "Packed from $(git log -1 --format=%h): see changelog.gz." \
    "$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")" >"$work/eventvirtual/debian/changelog"
  lay_out "$work/eventvirtual/root"
  say "packing eventvirtual $version"
  (cd "$work/eventvirtual" && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps) >"$work/log" 2>&1 ||
    { tail -n 30 "$work/log" >&2 && exit 1; }
  mkdir -p dist
  rm -f dist/eventvirtual*.deb
  mv "$work"/*.deb dist/
  # What Debian's own packages are held to. It ends with an error for errors alone.
  lintian --fail-on error --allow-root dist/eventvirtual_*.deb
  ls dist/*.deb
}

main
