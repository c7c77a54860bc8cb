#!/bin/bash
# check.sh format | scripts | tidy MODULE... | generated PATH...
# The parts of `make verify` that take more than one command.
set -euo pipefail
cd "$(dirname "$0")/.."

# tracked PATTERN...: files of the repository that exist, new ones included.
tracked() { git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while read -r f; do [ ! -e "$f" ] || echo "$f"; done; }

check_format() {
  local changed
  changed=$(tracked '*.go' | xargs gofmt -l)
  [ -z "$changed" ] || { printf 'gofmt would change:\n%s\n' "$changed"; return 1; }
}

check_scripts() {
  local file
  tracked '*.sh' .ci/run | while read -r file; do bash -n "$file"; done
  if command -v shellcheck >/dev/null; then
    tracked '*.sh' .ci/run | xargs shellcheck -x -S warning -e SC2164
  fi
}

check_tidy() {
  local module
  for module in "$@"; do
    (cd "$module" && go mod tidy -diff) || { echo "in $module: run go mod tidy"; return 1; }
  done
}

fingerprint() { find "$@" -type f -print0 2>/dev/null | sort -z | xargs -0 sha256sum; }

# check_generated leaves the new files in place, to be committed.
check_generated() {
  local before after
  before=$(fingerprint "$@" || true)
  make generate
  after=$(fingerprint "$@")
  [ "$before" = "$after" ] || {
    echo "out of date, and generated anew; commit them:"
    diff <(echo "$before") <(echo "$after") | awk '/^[<>]/ {print "  " $3}' | sort -u
    return 1
  }
}

what=${1:-}
shift || true
case $what in
format | scripts | tidy | generated) "check_$what" "$@" ;;
*)
  echo "usage: check.sh format | scripts | tidy MODULE... | generated PATH..." >&2
  exit 2
  ;;
esac
