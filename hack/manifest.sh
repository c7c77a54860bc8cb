#!/bin/bash
# manifest.sh FILE renders config/default, with the images of OPERATOR_IMAGE and
# SERVER_IMAGE, into one file that `kubectl apply --server-side -f` installs.
set -euo pipefail
cd "$(dirname "$0")/.."

kubectl=${METASTORE_CACHE:-${HOME:-/root}/.cache/metastore}/kubernetes/assets/kubectl
rendered=$("$kubectl" kustomize config/default)
for image in "metastore.io/metastore-operator $OPERATOR_IMAGE" "metastore.io/metastore $SERVER_IMAGE"; do
  read -r name wanted <<<"$image"
  rendered=$(sed -E "s|(image: \|--server-image=)$name:[^ ]+\$|\1$wanted|" <<<"$rendered")
done
for wanted in "image: $OPERATOR_IMAGE" "--server-image=$SERVER_IMAGE"; do
  grep -qF -e "$wanted" <<<"$rendered" || { echo "error: config/default has no place for $wanted" >&2; exit 1; }
done
printf '%s\n' "$rendered" >"$1"
