#!/bin/bash
# control-plane.sh: the store, kube-apiserver, kube-controller-manager and
# kube-scheduler, in the control plane's network namespace. The store is one
# etcd, or three members of the server that STORE names, which takes etcd's
# flags: Kubernetes then lives on that.
. "$(dirname "$0")/lib.sh"

pki=$STATE/pki
mkdir -p "$STATE/log"

# start NAME COMMAND...: in a session of its own; it ends with the namespace.
start() {
  local log=$STATE/log/$1.log
  shift
  setsid nsenter --net="/run/netns/$NET_PREFIX" "$@" >"$log" 2>&1 </dev/null 9>&- &
}

if [ -z "${STORE:-}" ]; then
  # A test cluster need not outlive the machine.
  start etcd "$BIN/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$(store_client 1)" --advertise-client-urls "$(store_client 1)" --listen-peer-urls "$(store_peer 1)"
  members=1
else
  members=$STORE_MEMBERS
  initial=
  for n in $(seq 1 "$members"); do initial+=${initial:+,}store$n=$(store_peer "$n"); done
  for n in $(seq 1 "$members"); do
    start "store$n" "$STORE" --name "store$n" --data-dir "$STATE/store$n" \
      --listen-client-urls "$(store_client "$n")" --advertise-client-urls "$(store_client "$n")" \
      --listen-peer-urls "$(store_peer "$n")" --initial-advertise-peer-urls "$(store_peer "$n")" --initial-cluster "$initial"
  done
fi

start kube-apiserver "$BIN/kube" kube-apiserver --etcd-servers="$(store_clients "$members")" \
  --advertise-address=$NODE_NET.1 --secure-port=6443 --service-cluster-ip-range=$SERVICE_NET.0.0/16 \
  --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
  --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
  --kubelet-preferred-address-types=InternalIP \
  --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key"

LOG_HINT=$STATE/log/kube-apiserver.log until_true 120 "kube-apiserver to be ready" kubectl get --raw /readyz

start kube-controller-manager "$BIN/kube" kube-controller-manager --kubeconfig="$pki/controller-manager.conf" \
  --leader-elect=false --use-service-account-credentials --service-account-private-key-file="$pki/sa.key" \
  --root-ca-file="$pki/ca.crt" --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
  --node-monitor-grace-period=20s --bind-address=127.0.0.1 --profiling=false
start kube-scheduler "$BIN/kube" kube-scheduler --kubeconfig="$pki/scheduler.conf" \
  --leader-elect=false --bind-address=127.0.0.1 --profiling=false
