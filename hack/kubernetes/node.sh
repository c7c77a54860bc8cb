#!/bin/bash
# node.sh start N        a node: kubelet, containerd and kube-proxy in namespaces of their own
# node.sh stop N         like pulling its plug: network and power at once, the disk stays
# node.sh exec N CMD...  runs a command inside the node
# N is a number or the node's name (node1).
. "$(dirname "$0")/lib.sh"

usage() { die "usage: node.sh start|stop N, node.sh exec N COMMAND..."; }
[ $# -ge 2 ] || usage
action=$1 n=${2#node}
shift 2
[[ $n =~ ^[1-9]$ ]] || die "node $n: want 1 to 9"

# cgroup_folders: where the node's control groups go; below our own in each
# hierarchy of version 1, below the root in version 2.
cgroup_folders() {
  if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    echo "/sys/fs/cgroup/$NET_PREFIX-node$n"
    return
  fi
  local controller path folder
  while IFS=: read -r _ controller path; do
    folder=/sys/fs/cgroup/${controller#name=}${path%/}
    [ -z "$controller" ] || [ ! -d "$folder" ] || echo "$folder/$NET_PREFIX-node$n"
  done </proc/self/cgroup
}

# enter_cgroups moves this shell, and so all that it starts, into the node's groups.
enter_cgroups() {
  local folder parent
  for folder in $(cgroup_folders); do
    mkdir -p "$folder"
    parent=$(dirname "$folder")
    if [ -e "$folder/cgroup.clone_children" ] && [ -e "$folder/cpuset.cpus" ]; then
      cat "$parent/cpuset.cpus" >"$folder/cpuset.cpus"
      cat "$parent/cpuset.mems" >"$folder/cpuset.mems"
      echo 1 >"$folder/cgroup.clone_children"
    fi
    echo $BASHPID >"$folder/cgroup.procs"
  done
}

leftover_cgroups() { find /sys/fs/cgroup -type d -name "$NET_PREFIX-node$n" 2>/dev/null; }

remove_cgroups() {
  local folder
  for folder in $(leftover_cgroups); do
    find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  [ -z "$(leftover_cgroups)" ]
}

start() {
  if node_init_pid "$n" >/dev/null; then return; fi
  stop # whatever an earlier one left
  mkdir -p "$STATE/log"
  "$KUBE_DIR/network.sh" plug "$n"
  (
    enter_cgroups
    exec setsid nsenter --net="/run/netns/$(node_netns "$n")" \
      unshare --mount --uts --ipc --cgroup --pid --fork --kill-child bash "$KUBE_DIR/node-init.sh" "$n"
  ) >"$STATE/log/node$n.log" 2>&1 </dev/null 9>&- &
  LOG_HINT=$STATE/log/node$n.log until_true 60 "node$n to start" node_init_pid "$n"
  "$KUBE_DIR/network.sh" services
}

stop() {
  "$KUBE_DIR/network.sh" unplug "$n"
  until_true 30 "control groups of node$n to empty" remove_cgroups
}

case $action in
start) start ;;
stop) stop ;;
exec)
  pid=$(node_init_pid "$n") || die "node$n does not run"
  exec nsenter -t "$pid" -m -u -i -n -p -C "$@"
  ;;
*) usage ;;
esac
