#!/bin/bash
# release-check.sh FOLDER: a release made of a copy of the sources, elsewhere and
# with other times of files, has the same bytes as the one in FOLDER; the charts
# render, the programs start and the checksums hold.
set -euo pipefail
cd "$(dirname "$0")/.."

first=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$first" && sha256sum --quiet -c SHA256SUMS)
helm=${METASTORE_CACHE:-${HOME:-/root}/.cache/metastore}/kubernetes/bin/helm
for chart in "$first"/chart-*.tgz; do "$helm" template x "$chart" >/dev/null; done
"$first/metastore-$VERSION-linux-amd64" --version | grep -F "$VERSION"
"$first/metastore-operator-$VERSION-linux-amd64" --help >/dev/null

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
mkdir -p "$work/elsewhere"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/elsewhere"
"$work/elsewhere/hack/release.sh" "$work/second"
diff "$first/SHA256SUMS" "$work/second/SHA256SUMS" || { echo "error: the second release has other bytes" >&2; exit 1; }
echo "the same bytes, built twice:"
cat "$first/SHA256SUMS"
