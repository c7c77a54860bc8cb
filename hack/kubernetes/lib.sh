# shellcheck shell=bash disable=SC2034
# Settings and small functions that the scripts of the local Kubernetes share.
# Everything it keeps is below $KUBE_CACHE; everything it runs is inside network
# namespaces whose names begin with $NET_PREFIX, which is how it is found again.
#
#   namespace mskube    control plane, the switch, and whoever tests the cluster
#   namespace mskubeN   node N, with its own mount, pid, uts, ipc and cgroup namespaces

set -euo pipefail

KUBE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO_DIR=$(cd "$KUBE_DIR/../.." && pwd)
KUBE_CACHE=${METASTORE_CACHE:-${HOME:-/root}/.cache/metastore}/kubernetes
BIN=$KUBE_CACHE/bin
ASSETS=$KUBE_CACHE/assets
IMAGES=$KUBE_CACHE/images
STATE=$KUBE_CACHE/state

NODES=${NODES:-3}
KUBE_VERSION=1.37.2
NET_PREFIX=mskube
NODE_NET=172.30.0    # .1 is the control plane, .1N is node N
POD_NET=10.244       # node N has POD_NET.N.0/24
SERVICE_NET=10.96    # a /16
ADMIN_CONFIG=$STATE/pki/admin.conf
STORE_MEMBERS=3      # of a control plane that lives on $STORE

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# in_control runs a command where pods, services and nodes are reachable.
in_control() { nsenter --net="/run/netns/$NET_PREFIX" "$@"; }

kubectl() { in_control env KUBECONFIG="$ADMIN_CONFIG" "$BIN/kube" kubectl "$@"; }

# URLs of member N of the control plane's store; store_clients N: of all N.
store_client() { echo "http://127.0.0.1:$((2369 + 10 * $1))"; }
store_peer() { echo "http://127.0.0.1:$((2370 + 10 * $1))"; }
store_clients() {
  local n urls=
  for n in $(seq 1 "$1"); do urls+=${urls:+,}$(store_client "$n"); done
  echo "$urls"
}

# until_true SECONDS WHAT COMMAND... polls the command; when the time is over it
# shows the last lines of the log named in $LOG_HINT, if any, and gives up.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      [ -n "${LOG_HINT:-}" ] && [ -e "$LOG_HINT" ] && tail -n 15 "$LOG_HINT" >&2
      die "$what: not after waiting long enough${LOG_HINT:+ (log: $LOG_HINT)}"
    fi
    sleep 0.2
  done
}

node_netns() { echo "$NET_PREFIX$1"; }

# netns_pids NAME: the processes in one of our network namespaces.
netns_pids() { ip netns pids "$1" 2>/dev/null || true; }

no_pids_in() { [ -z "$(netns_pids "$1")" ]; }

# end_netns NAME: ends every process in the namespace, then removes it.
end_netns() {
  [ -e "/run/netns/$1" ] || return 0
  local pids
  pids=$(netns_pids "$1")
  # shellcheck disable=SC2086
  [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
  until_true 30 "processes of namespace $1 to end" no_pids_in "$1"
  ip netns del "$1"
}

# node_init_pid N: the node's process 1, as this machine counts.
node_init_pid() {
  local pid
  for pid in $(netns_pids "$(node_netns "$1")"); do
    if grep -qE '^NSpid:[[:space:]]+[0-9]+[[:space:]]+1$' "/proc/$pid/status" 2>/dev/null; then
      echo "$pid"
      return
    fi
  done
  return 1
}

running_nodes() {
  local n
  for n in $(seq 1 9); do
    node_init_pid "$n" >/dev/null && echo "$n"
  done
  return 0
}

need_root() { [ "$(id -u)" = 0 ] || die "the local Kubernetes needs root (or a kind that can run docker, or a KUBECONFIG)"; }
