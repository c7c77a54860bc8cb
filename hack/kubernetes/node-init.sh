#!/bin/bash
# node-init.sh N: process 1 of node N. Namespaces and control groups are its own
# already; what it mounts nobody else sees. When one of its three programs ends,
# the node ends.
. "$(dirname "$0")/lib.sh"

n=$1 name=node$1
disk=$STATE/$name # what survives a power failure
log=$STATE/log

mount_cgroups() {
  if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # A group with members cannot hand controllers down: move out first.
    mkdir -p /sys/fs/cgroup/init
    local pid
    while read -r pid; do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs || true; done </sys/fs/cgroup/cgroup.procs
    sed 's/[a-z]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
    return
  fi
  mount -t tmpfs tmpfs /sys/fs/cgroup
  local controller
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir /sys/fs/cgroup/$controller
    mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
  done
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
}

# The kubelet sets these for the whole machine: show it the values it wants
# instead, so that the machine keeps its own.
pin_sysctls() {
  local key value file
  while read -r key value; do
    file=$disk/sysctl/${key//\//_}
    echo "$value" >"$file"
    mount --bind "$file" "/proc/sys/$key"
  done <<EOF
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
EOF
}

mount_disk() {
  local pair
  for pair in containerd:/var/lib/containerd kubelet:/var/lib/kubelet cni:/var/lib/cni volumes:/opt/local-path-provisioner \
    cni-conf:/etc/cni/net.d log:/var/log; do
    mkdir -p "$disk/${pair%%:*}" "${pair#*:}"
    mount --bind "$disk/${pair%%:*}" "${pair#*:}"
  done
  mkdir -p /var/log/pods /var/log/containers
}

cni_folder() {
  local folder
  for folder in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
    [ -x $folder/bridge ] && echo $folder && return
  done
  die "the CNI plugins are not installed (Debian: containernetworking-plugins)"
}

write_settings() {
  : >"$disk/resolv.conf"
  cat >"$disk/containerd.toml" <<EOF
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "metastore.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(cni_folder)"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
EOF
  cat >/etc/cni/net.d/10-bridge.conflist <<EOF
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_NET.$n.0/24"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
  cat >"$disk/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/$name.crt
tlsPrivateKeyFile: $STATE/pki/$name.key
clusterDNS: [$SERVICE_NET.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
maxOpenFiles: 20000
oomScoreAdj: 0
resolvConf: $disk/resolv.conf
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%"}
maxPods: 50
serializeImagePulls: false
nodeStatusUpdateFrequency: 5s
shutdownGracePeriod: 0s
EOF
  cat >"$disk/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${PROXY_MODE:-nftables}
clientConnection: {kubeconfig: $STATE/pki/proxy.conf}
clusterCIDR: $POD_NET.0.0/16
hostnameOverride: $name
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF
}

hostname "$name"
mount --make-rprivate /
umount -l /run/netns 2>/dev/null || true # else this node would keep the others' networks alive
mkdir -p "$disk/sysctl"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount_cgroups
pin_sysctls
mount -t tmpfs tmpfs /run
mount_disk
mount --make-rshared / # volumes that the kubelet mounts reach the pods
write_settings

containerd --config "$disk/containerd.toml" >"$log/$name-containerd.log" 2>&1 &
programs=($!)
LOG_HINT=$log/$name-containerd.log until_true 60 "containerd on $name" ctr version
for image in "$IMAGES"/*.tar; do
  [ ! -e "$disk/imported-$(basename "$image")" ] || continue
  ctr -n k8s.io images import "$image" >/dev/null
  touch "$disk/imported-$(basename "$image")"
done
# kubelet ends when containerd answers but does not serve it yet; as where systemd
# runs it, it is started again.
kubelet() {
  until "$BIN/kube" kubelet --config="$disk/kubelet.yaml" --kubeconfig="$STATE/pki/$name.conf" --hostname-override="$name" \
    --node-ip="$NODE_NET.1$n" --node-labels="topology.kubernetes.io/zone=zone$n"; do sleep 1; done
}
kubelet >"$log/$name-kubelet.log" 2>&1 &
programs+=($!)
"$BIN/kube" kube-proxy --config="$disk/proxy.yaml" >"$log/$name-proxy.log" 2>&1 &
programs+=($!)

wait -n "${programs[@]}" || true
echo "one of containerd, kubelet and kube-proxy ended"
exit 1
