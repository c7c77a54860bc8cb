#!/bin/bash
# apt.sh PACKAGE... installs the Debian packages that are missing, and says so.
set -euo pipefail

missing=()
for package in "$@"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || {
  echo "error: please install these (Debian's names): ${missing[*]}" >&2
  exit 1
}
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
install() { DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; }

echo "installing with apt-get: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! install >"$log" 2>&1; then
  "${as_root[@]}" apt-get update -qq >>"$log" 2>&1 || true
  install >>"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    echo "error: apt-get could not install: ${missing[*]}" >&2
    exit 1
  }
fi
