#!/bin/bash
# release.sh FOLDER puts what a version consists of into FOLDER: programs, images,
# charts, manifest, bill of materials, checksums. `make release` calls it, with the
# version, the images' names and the flags of the builds in its environment.
#
# The same commit, Go, compiler and libraries give the same bytes, wherever the
# sources lie: paths are trimmed, times are the commit's, owners are root.
#
# For amd64 only: the server links RocksDB and the C++ library statically, which
# needs them and a compiler for the target.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$1
export LC_ALL=C TZ=UTC GOFLAGS='-trimpath -buildvcs=false -mod=readonly' GOARCH=amd64
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
umask 022
[ "$(go env GOHOSTARCH)" = amd64 ] || { echo "error: releases are built on amd64" >&2; exit 1; }

for place in "Version = \"$VERSION\" server/rpc/version.go" "metastore.io/metastore:$VERSION\" operator/resources/image.go" \
  "metastore-operator:$VERSION config/manager/manager.yaml" "^version: $VERSION charts/metastore/Chart.yaml" "^version: $VERSION charts/metastore-cluster/Chart.yaml"; do
  grep -q -e "${place% *}" "${place##* }" || { echo "error: VERSION is $VERSION, and ${place##* } has another one" >&2; exit 1; }
done

rm -rf "$out"
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

server=$out/metastore-$VERSION-linux-amd64
operator=$out/metastore-operator-$VERSION-linux-amd64
env CGO_ENABLED=1 CGO_LDFLAGS="$ROCKSDB_LDFLAGS" go build -tags "$ROCKSDB_TAGS" -ldflags "-buildid= $STATIC_FLAGS" -o "$server" ./server/cmd/metastore
env CGO_ENABLED=0 go build -tags "$GO_TAGS" -ldflags '-buildid= -s -w' -o "$operator" ./operator/cmd/operator

go build -o "$work/" ./hack/mkimage ./hack/sbom
cp -r hack/image "$work/image"
chmod -R u=rwX,go=rX "$work/image"
"$work/mkimage" -o "$out/metastore-$VERSION-image-amd64.tar" -t "$SERVER_IMAGE" -user 65532:65532 -entrypoint /metastore "$server:/metastore" "$work/image:/"
"$work/mkimage" -o "$out/metastore-operator-$VERSION-image-amd64.tar" -t "$OPERATOR_IMAGE" -user 65532:65532 -entrypoint /metastore-operator "$operator:/metastore-operator" "$work/image:/"

# What `helm package` writes, but with the commit's time.
for chart in metastore metastore-cluster; do
  tar -C charts --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -c "$chart" | gzip -n >"$out/chart-$chart-$VERSION.tgz"
done
hack/manifest.sh "$out/metastore-$VERSION.yaml"
# The packages of the libraries that the linker takes.
packages=$(for library in rocksdb snappy z bz2 lz4 zstd stdc++ gcc gcc_eh m c; do
  dpkg-query -S "$(realpath "$(g++ -print-file-name="lib$library.a")")" | cut -d: -f1
done | sort -u | paste -sd,)
"$work/sbom" -o "$out/metastore-$VERSION.cdx.json" -version "$VERSION" -debian "$packages" "$server" "$operator"
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
