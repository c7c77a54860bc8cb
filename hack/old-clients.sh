#!/bin/bash
# old-clients.sh SERVER ENGINE... builds hack/oldclients/walk with etcd's clients
# of older versions, each in a module of its own, and runs them, the client of
# today, and two of Python against a member of each engine.
set -euo pipefail
cd "$(dirname "$0")/.."

server=$1
shift
go build -o bin/oldclients ./hack/oldclients
go build -o bin/walk ./hack/oldclients/walk
clients=("Go $(go list -m -f '{{.Version}}' go.etcd.io/etcd/client/v3)=bin/walk")
for module in hack/oldclients/v3.*; do
  version=${module##*/}
  build=$METASTORE_CACHE/oldclients/$version
  mkdir -p "$build"
  cp "$module/go.mod" "$module/go.sum" hack/oldclients/walk/main.go "$build/"
  # Before 3.5 (here 3.4.16) the client was a package of the server's module.
  [ "$version" != v3.4 ] || sed -i 's#go.etcd.io/etcd/client/v3#go.etcd.io/etcd/clientv3#' "$build/main.go"
  go build -C "$build" -o walk .
  clients+=("Go $version=$build/walk")
done

# Python's clients are Debian's, for its own Python.
hack/apt.sh python3-etcd3 python3-etcd3gw
for name in etcd3 etcd3gw; do
  version=$(dpkg-query -W -f '${Version}' "python3-$name")
  clients+=("Python $name ${version%-*}=/usr/bin/python3 hack/oldclients/${name}_walk.py")
done

for engine in "$@"; do
  bin/oldclients -server "$server" -engine "$engine" "${clients[@]}"
done
