#!/bin/bash
# fuzz.sh SECONDS [PATTERN] fuzzes each target whose name or package matches the
# pattern, one after the other, and prints how long each ran. What a run learns
# is kept in the cache, so that the next goes on from there; what fails is
# written to testdata/fuzz of its package, and `go test` runs it from then on.
# FUZZ_BLIND=1 builds without the instrumentation that finds what is interesting:
# a build of a tenth of the time, for runs of a second or less.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

seconds=$1
pattern=${2:-.}
corpus=$METASTORE_CACHE/fuzz
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT

instrument=(-fuzz=Fuzz)
[ "${FUZZ_BLIND:-0}" = 0 ] || instrument=()

targets=0 spent=0 failed=()
for dir in $(grep -rlE '^func Fuzz' --include='*_test.go' server | xargs -n1 dirname | sort -u); do
  names=$(grep -hoE '^func Fuzz\w+' "$dir"/*_test.go | cut -c 6- | sort)
  matching=$(for n in $names; do grep -qE "$pattern" <<<"$dir $n" && echo "$n"; done)
  [ -n "$matching" ] || continue
  test=$bin/$(tr / - <<<"$dir").test
  go test -c ${instrument[@]+"${instrument[@]}"} -tags "$GO_TAGS" -o "$test" "./$dir" || exit 1
  for name in $matching; do
    began=$(date +%s%N)
    out=$(cd "$dir" && "$test" -test.run='^$' -test.fuzz="^$name\$" -test.fuzztime="${seconds}s" -test.fuzzminimizetime=100x -test.fuzzcachedir="$corpus/$dir" -test.parallel="${FUZZ_PARALLEL:-1}" 2>&1)
    status=$?
    took=$((($(date +%s%N) - began) / 1000000))
    spent=$((spent + took)) targets=$((targets + 1))
    execs=$(grep -oE 'execs: [0-9]+' <<<"$out" | tail -1)
    interesting=$(grep -oE 'total: [0-9]+' <<<"$out" | tail -1)
    printf '%-26s %-22s %6d.%01d s  %s, corpus %s\n' "$dir" "$name" $((took / 1000)) $((took % 1000 / 100)) "${execs:-execs: 0}" "${interesting#total: }"
    # A run whose time is over in the wrong moment ends with just these words.
    if [ $status != 0 ] && { grep -q 'Failing input' <<<"$out" || ! grep -q '^ *context deadline exceeded$' <<<"$out"; }; then
      failed+=("$dir $name")
      echo "$out" | tail -n 40
    fi
  done
done
[ $targets -gt 0 ] || { echo "error: no fuzz target matches $pattern"; exit 1; }
printf 'fuzzed %d targets for %d.%01d minutes in all, %d failed\n' $targets $((spent / 60000)) $((spent % 60000 / 6000)) ${#failed[@]}
[ ${#failed[@]} = 0 ] || { printf '  failed: %s\n' "${failed[@]}"; exit 1; }
