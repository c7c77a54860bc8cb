#!/bin/bash
# cluster.sh: a real Kubernetes on this machine without docker.
#
#   up                 start it (NODES=3); what an earlier run left is taken down first
#   down               end it and remove its state; fine to call at any time
#   load FILE.tar...   put images into every node
#   node start|stop N  power of one node; node exec N COMMAND...
#   kubectl ARG...     with the administrator's rights
#   run COMMAND...     where pods, services and nodes are reachable, KUBECONFIG set
#   store              the members of a control plane that lives on $STORE, which
#                      must hold the same bytes and have raised no alarm
#   config             prints the path of that kubeconfig
. "$(dirname "$0")/lib.sh"

packages='containerd runc containernetworking-plugins iptables nftables conntrack iproute2 busybox-static openssl'

# system_images packs what every node runs; only when its parts are newer.
system_images() {
  mkdir -p "$IMAGES"
  local tools=$KUBE_CACHE/tools
  (cd "$REPO_DIR" && CGO_ENABLED=0 go build -o "$tools/" ./hack/mkimage ./hack/kubernetes/pause)
  image() { # NAME FLAGS...; the last argument is SOURCE:DESTINATION
    local name=$1 source=${*: -1}
    shift
    [ "$IMAGES/$name.tar" -nt "${source%%:*}" ] || "$tools/mkimage" -o "$IMAGES/$name.tar" -t "metastore.test/$name:1" "$@"
  }
  local applet links=()
  for applet in sh mkdir rm cat ls sleep; do links+=(-link "/bin/$applet=/bin/busybox"); done
  image pause -entrypoint /pause "$tools/pause:/pause"
  image busybox "${links[@]}" -cmd sh "$(command -v busybox):/bin/busybox"
  image coredns -entrypoint /coredns "$BIN/coredns:/coredns"
  image local-path-provisioner -entrypoint /local-path-provisioner "$BIN/local-path-provisioner:/local-path-provisioner"
}

up() {
  need_root
  # shellcheck disable=SC2086
  "$REPO_DIR/hack/apt.sh" $packages
  "$KUBE_DIR/binaries.sh" kube etcd etcdctl coredns local-path-provisioner
  down
  system_images
  mkdir -p "$STATE"
  "$KUBE_DIR/pki.sh"
  "$KUBE_DIR/network.sh" control
  say "starting the control plane of Kubernetes v$KUBE_VERSION"
  "$KUBE_DIR/control-plane.sh"
  say "starting $NODES nodes"
  local n
  for n in $(seq 1 "$NODES"); do "$KUBE_DIR/node.sh" start "$n"; done
  for n in $(seq 1 "$NODES"); do
    LOG_HINT=$STATE/log/node$n-kubelet.log until_true 120 "node$n to register" kubectl get node "node$n"
  done
  kubectl apply -f "$KUBE_DIR/manifests/" >"$STATE/log/manifests.log"
  kubectl wait --for=condition=Ready nodes --all --timeout=180s >/dev/null
  say "nodes are Ready; waiting for DNS"
  kubectl -n kube-system rollout status daemonset/coredns --timeout=180s >/dev/null
  say "Kubernetes is up: $NODES nodes"
}

down() {
  need_root
  command -v ip >/dev/null || return 0 # nothing of ours can be running
  local n
  for n in $(seq 1 9); do
    [ ! -e "/run/netns/$(node_netns "$n")" ] || "$KUBE_DIR/node.sh" stop "$n"
  done
  end_netns $NET_PREFIX
  rm -rf "$STATE"
}

load() {
  local n file
  for n in $(running_nodes); do
    for file in "$@"; do
      "$KUBE_DIR/node.sh" exec "$n" ctr -n k8s.io images import "$(realpath "$file")" >/dev/null
    done
  done
}

store_ctl() { in_control "$BIN/etcdctl" --endpoints "$(store_clients "$STORE_MEMBERS")" "$@"; }

# store_hashes REVISION: each member's hash of everything up to that revision.
store_hashes() { store_ctl endpoint hashkv --rev "$1" | cut -d, -f2; }

store() {
  [ -n "${STORE:-}" ] || die "STORE is not set: this control plane lives on etcd"
  store_ctl endpoint status --write-out table
  local revision alarms
  revision=$(store_ctl get / --limit 1 --write-out fields | sed -n 's/^"Revision" : //p')
  store_hashes "$revision" >"$STATE/store-hashes"
  [ "$(wc -l <"$STATE/store-hashes")" = "$STORE_MEMBERS" ] && [ "$(sort -u "$STATE/store-hashes" | wc -l)" = 1 ] ||
    die "the members of the control plane's store differ at revision $revision: $(paste -sd' ' "$STATE/store-hashes")"
  alarms=$(store_ctl alarm list)
  [ -z "$alarms" ] || die "the control plane's store has raised an alarm: $alarms"
  say "the control plane's $STORE_MEMBERS members hold the same bytes at revision $revision"
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
up) up ;;
down) down ;;
load) load "$@" ;;
node) exec "$KUBE_DIR/node.sh" "$@" ;;
kubectl) kubectl "$@" ;;
run) in_control env KUBECONFIG="$ADMIN_CONFIG" "$@" ;;
store) store ;;
config) echo "$ADMIN_CONFIG" ;;
*)
  sed -n '2,/^\./{/^#/s/^# \{0,1\}//p}' "$0"
  exit 2
  ;;
esac
