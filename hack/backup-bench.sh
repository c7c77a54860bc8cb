#!/bin/bash
# backup-bench.sh KEYS ROUNDS measures bin/metastore: a backup of a store of so
# many keys (32 B, with values of 256 B), puts beside it and without, and the
# time from the backup to a serving member, beside that from the same snapshot
# by etcdutl to a serving etcd. Medians of interleaved rounds; CPU is of all
# threads. ENGINE= and SCRATCH= choose the engine and the folder.
set -euo pipefail
cd "$(dirname "$0")/.."

keys=$1 rounds=$2
engine=${ENGINE:-rocksdb}
binaries=$METASTORE_CACHE/kubernetes/bin
work=$(mktemp -d "${SCRATCH:-/tmp}/metastore-backup-bench-XXXXXX")
client=127.0.0.1:23790 peer=http://127.0.0.1:23800
server=
finish() {
  [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

# start LOG COMMAND... starts a server and waits until it serves.
start() {
  local log=$1
  shift
  "$@" >"$work/$log" 2>&1 &
  server=$!
  until curl -sf -o "$work/health" "http://$client/health"; do
    kill -0 "$server" 2>/dev/null || { tail -n 5 "$work/$log" >&2; exit 1; }
    sleep 0.01
  done
}
stop() { kill "$server"; wait "$server" || true; server=; }

addresses=(--name m --initial-cluster "m=$peer" --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer"
  --listen-client-urls "http://$client" --advertise-client-urls "http://$client" --log-level error)
restored=(--name m --initial-cluster "m=$peer" --initial-advertise-peer-urls "$peer")

puts() { bin/metastore bench put --endpoints "$client" --key-space "$keys" --quiet "$@"; }
# p99 SECONDS: microseconds of puts at random keys.
p99() { puts --in-flight 16 --duration "${1}s" --json "$work/report.json" >/dev/null && field p99 "$work/report.json"; }
field() { grep -o "\"$1[a-zA-Z_]*\": *[0-9.]*" "$2" | head -n 1 | grep -o '[0-9.]*$'; }
# timed FILE COMMAND... adds a line to FILE: seconds, CPU seconds, peak memory in MB.
timed() {
  local file=$1
  shift
  /usr/bin/time -o "$work/time" -f '%e %U %S %M' "$@" >"$work/command.log" 2>&1 || { cat "$work/command.log" >&2; exit 1; }
  awk '{print $1, $2 + $3, $4 / 1024}' "$work/time" >>"$work/$file"
}
cpu() { awk '{print ($14 + $15) / 100}' "/proc/$1/stat"; }
now() { date +%s.%N; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
column() { awk -v c="$2" '{print $c}' "$work/$1" | median; }

# started FILE COMMAND... adds a line to FILE: seconds until a server serves, CPU
# seconds until then.
started() {
  local file=$1 begin
  shift
  begin=$(now)
  start server.log "$@"
  echo "$(echo "$(now) - $begin" | bc) $(cpu "$server")" >>"$work/$file"
  stop
}

take() {
  timed "$1" bin/metastore backup take "$2" --to "$work/backups" --scratch "$work" --endpoints "http://$client" --log-level error "${@:3}"
}

mkdir "$work/backups"
start server.log bin/metastore --data-dir "$work/data" --storage-engine "$engine" --quota-backend-bytes 8589934592 "${addresses[@]}"
puts --sequential --count "$keys" --duration 10m --in-flight 256 >/dev/null
take plain plain --compression none
take packed packed
p99 2 >/dev/null # warm
n=0
for i in $(seq "$rounds"); do
  p99 5 >>"$work/p99-alone"
  rm -f "$work/enough"
  while [ ! -e "$work/enough" ]; do take beside "beside$i-$((n++))"; done &
  loop=$!
  p99 5 >>"$work/p99-beside"
  touch "$work/enough"
  wait "$loop"
  take take "quiet$i"
done
grep VmHWM "/proc/$server/status" | awk '{print $2 / 1024}' >"$work/server-peak"
stop
size=$(stat -c %s "$work/backups/plain/snapshot.db") stored=$(stat -c %s "$work/backups/packed/snapshot.db.zst")

for _ in $(seq "$rounds"); do
  rm -rf "$work/ours" "$work/theirs"
  timed restore bin/metastore backup restore packed --from "$work/backups" --data-dir "$work/ours" --storage-engine "$engine" --log-level error "${restored[@]}"
  started start bin/metastore --data-dir "$work/ours" --storage-engine "$engine" "${addresses[@]}"
  timed etcdutl "$binaries/etcdutl" snapshot restore "$work/backups/plain/snapshot.db" --data-dir "$work/theirs" "${restored[@]}"
  started etcd "$binaries/etcd" --data-dir "$work/theirs" --quota-backend-bytes 8589934592 "${addresses[@]}"
done

row() { printf '%-46s %10s %10s %10s\n' "$@"; }
figures() { row "$1" "$(column "$2" 1) s" "$(column "$2" 2) s" "$(printf '%.0f MB' "$(column "$2" 3)")"; }
sum() { echo "$(column "$1" "$3") + $(column "$2" "$3")" | bc; }
echo "$keys keys, $engine: a snapshot of $((size >> 20)) MB, stored as $((stored >> 20)) MB"
row '' wall CPU peak
figures 'backup take' take
figures '  beside puts' beside
figures 'backup restore' restore
row '  and start until it serves' "$(printf %.2f "$(column start 1)") s" "$(column start 2) s" ''
figures 'etcdutl snapshot restore' etcdutl
row '  and start of etcd until it serves' "$(printf %.2f "$(column etcd 1)") s" "$(column etcd 2) s" ''
row 'restore and start, of etcd and etcdutl' \
  "$(echo "scale=2; $(sum restore start 1) / $(sum etcdutl etcd 1)" | bc)" "$(echo "scale=2; $(sum restore start 2) / $(sum etcdutl etcd 2)" | bc)" ''
row "put's p99 alone, and while backups are taken" "$(median <"$work/p99-alone") us" "$(median <"$work/p99-beside") us" ''
row "the server's peak" '' '' "$(printf '%.0f MB' "$(cat "$work/server-peak")")"
