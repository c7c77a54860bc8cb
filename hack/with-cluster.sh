#!/bin/bash
# with-cluster.sh COMMAND... runs COMMAND against a real Kubernetes with both
# images of dist/ on it, and takes that Kubernetes down afterwards. It is
#   the one of $KUBECONFIG, when that is set: images must be where it can pull
#     them (SERVER_IMAGE, OPERATOR_IMAGE), and it is left as it was;
#   else kind, where docker runs;
#   else the local one of hack/kubernetes.
# CLUSTER=kubeconfig|kind|local chooses by hand. KEEP=1 leaves it running.
# STORE=SERVER makes the control plane of the local one live on three members of
# that server, which must agree and be without alarms when COMMAND has ended.
#
# COMMAND finds in its environment:
#   KUBECONFIG, KUBECTL, ETCDCTL
#   REACH     direct: pods' and services' addresses can be dialled; forward: only through port-forward
#   NODE_SH   a script that takes start|stop NODE and exec NODE COMMAND...; empty where nodes are not ours to stop
set -euo pipefail
cd "$(dirname "$0")/.."
repo=$PWD
cache=${METASTORE_CACHE:-${HOME:-/root}/.cache/metastore}
kind_name=metastore

die() { echo "error: $*" >&2; exit 1; }
[ $# -gt 0 ] || die "usage: with-cluster.sh COMMAND..."
[ -n "${SERVER_IMAGE:-}" ] && [ -n "${OPERATOR_IMAGE:-}" ] || die "SERVER_IMAGE and OPERATOR_IMAGE are not set; call make demo or make e2e"

docker_runs() { command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1; }

choose() {
  if [ -n "${CLUSTER:-}" ]; then
    echo "$CLUSTER"
  elif [ -n "${KUBECONFIG:-}" ]; then
    echo kubeconfig
  elif docker_runs; then
    echo kind
  else
    echo local
  fi
}

use_kubectl_from_path() {
  KUBECTL=$(command -v kubectl) || { hack/kubernetes/binaries.sh kubectl; KUBECTL=$cache/kubernetes/bin/kubectl; }
}

kubeconfig_up() {
  [ -n "${KUBECONFIG:-}" ] || die "CLUSTER=kubeconfig but KUBECONFIG is not set"
  use_kubectl_from_path
  "$KUBECTL" version >/dev/null || die "the cluster of KUBECONFIG=$KUBECONFIG does not answer"
  export KUBECONFIG REACH=forward NODE_SH=
}
kubeconfig_down() { :; }
kubeconfig_hint() { echo "export KUBECONFIG=$KUBECONFIG"; }

kind_up() {
  KIND=$(command -v kind) || {
    KIND=$cache/tools/kind
    hack/stage.sh 'tools: kind' go build -C hack/tools -o "$KIND" sigs.k8s.io/kind
  }
  use_kubectl_from_path
  export KUBECONFIG=$cache/kind.kubeconfig REACH=forward NODE_SH=$repo/hack/kind-node.sh
  kind_down
  hack/stage.sh 'kind: create the cluster' "$KIND" create cluster --quiet --name $kind_name --config hack/kind.yaml --kubeconfig "$KUBECONFIG" --wait 180s
  hack/stage.sh 'kind: load the images' "$KIND" load image-archive --name $kind_name dist/metastore.tar dist/metastore-operator.tar
}
kind_down() { "$KIND" delete cluster --quiet --name $kind_name --kubeconfig "$KUBECONFIG"; }
kind_hint() { echo "export KUBECONFIG=$KUBECONFIG"; }

local_up() {
  [ "$(id -u)" = 0 ] || die "the local Kubernetes needs root; without root, use docker or a KUBECONFIG"
  exec 9>/run/metastore-local.lock # held as long as we live; what we start closes it
  flock -n 9 || { echo "waiting for another run that uses the local Kubernetes"; flock 9; }
  hack/kubernetes/cluster.sh up
  hack/kubernetes/cluster.sh load dist/metastore.tar dist/metastore-operator.tar
  KUBECTL=$cache/kubernetes/assets/kubectl
  export REACH=direct NODE_SH=$repo/hack/kubernetes/node.sh
}
local_down() { hack/kubernetes/cluster.sh down; }
local_hint() { echo "hack/kubernetes/cluster.sh kubectl get pods    (hack/kubernetes/cluster.sh down ends it)"; }

child=
clean_up() {
  local status=$?
  trap - EXIT INT TERM
  [ -z "$child" ] || { kill "$child" && wait "$child"; } 2>/dev/null || true
  if [ "${KEEP:-}" = 1 ]; then
    echo "left running (KEEP=1):"
    "${kind}_hint"
  elif [ "$kind" != kubeconfig ]; then
    echo "taking Kubernetes down ($kind)"
    "${kind}_down" || status=1
  fi
  exit $status
}

kind=$(choose)
case $kind in kubeconfig | kind | local) ;; *) die "CLUSTER=$kind: want kubeconfig, kind or local" ;; esac
hack/kubernetes/binaries.sh etcdctl
export ETCDCTL=$cache/kubernetes/bin/etcdctl
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "==> Kubernetes: $kind"
"${kind}_up"
export KUBECTL

into=()
[ "$kind" != local ] || into=(hack/kubernetes/cluster.sh run)
"${into[@]}" "$@" 9>&- &
child=$!
status=0
wait "$child" || status=$?
child=
[ "$kind" != local ] || [ -z "${STORE:-}" ] || hack/kubernetes/cluster.sh store || status=1
exit $status
