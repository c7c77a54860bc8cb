#!/bin/bash
# etcd-snapshots.sh VERSION... builds these versions of etcd, in modules of their
# own, and records a small snapshot of each beside what it answers, as test data.
set -euo pipefail
cd "$(dirname "$0")/.."

out=server/cmd/metastore/testdata
mkdir -p "$out" "$METASTORE_CACHE/etcd"
for version in "$@"; do
  etcd=$METASTORE_CACHE/etcd/$version
  if [ ! -x "$etcd" ]; then
    module=$(mktemp -d)
    printf 'module old\n\ngo %s\n' "$(go list -m -f '{{.GoVersion}}')" >"$module/go.mod"
    (cd "$module" && go get "go.etcd.io/etcd/server/v3@$version" && go build -o "$etcd" go.etcd.io/etcd/server/v3)
    rm -rf "$module"
  fi
  go run -tags "$GO_TAGS" ./hack/etcdsnapshots -etcd "$etcd" -out "$out/etcd-$version"
  ls -l "$out/etcd-$version".*
done
