#!/bin/bash
# e2e.sh runs the compiled suite bin/e2e.test with what with-cluster.sh exports.
set -euo pipefail
cd "$(dirname "$0")/../e2e"

cache=${METASTORE_CACHE:-${HOME:-/root}/.cache/metastore}
export HELM=$cache/kubernetes/bin/helm S3_SERVER=$cache/tools/versitygw
export METASTORE_E2E=1 E2E_LOGS=${E2E_LOGS:-$PWD/../dist/e2e-logs}
rm -rf "$E2E_LOGS"
plain=()
[ -t 1 ] || plain=(-ginkgo.no-color)
exec ../bin/e2e.test -test.timeout 60m -ginkgo.timeout 55m -ginkgo.v -ginkgo.poll-progress-after 3m "${plain[@]}" \
  ${E2E_FOCUS:+-ginkgo.focus "$E2E_FOCUS"}
