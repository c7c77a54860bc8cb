#!/bin/bash
# network.sh control            the control plane's namespace with a bridge: the switch
# network.sh plug N | unplug N  node N's namespace and its cable
# network.sh services           sends the services' addresses to a node that runs
. "$(dirname "$0")/lib.sh"

bridge_up() {
  ip netns add $NET_PREFIX
  ip -n $NET_PREFIX link set lo up
  ip -n $NET_PREFIX link add br0 type bridge
  ip -n $NET_PREFIX addr add $NODE_NET.1/24 dev br0
  ip -n $NET_PREFIX link set br0 up
  local n
  for n in $(seq 1 "$NODES"); do
    ip -n $NET_PREFIX route add "$POD_NET.$n.0/24" via "$NODE_NET.1$n"
  done
  ip -n $NET_PREFIX route add $SERVICE_NET.0.0/16 via $NODE_NET.11
}

plug() {
  local n=$1 ns other
  ns=$(node_netns "$n")
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip -n $NET_PREFIX link add "node$n" type veth peer name eth0 netns "$ns"
  ip -n $NET_PREFIX link set "node$n" master br0 up
  ip -n "$ns" addr add "$NODE_NET.1$n/24" dev eth0
  ip -n "$ns" link set eth0 up
  ip -n "$ns" route add default via $NODE_NET.1
  for other in $(seq 1 "$NODES"); do
    [ "$other" = "$n" ] || ip -n "$ns" route add "$POD_NET.$other.0/24" via "$NODE_NET.1$other"
  done
  nsenter --net="/run/netns/$ns" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# unplug cuts the cable first: nothing that the node still does gets out.
unplug() {
  ip -n $NET_PREFIX link del "node$1" 2>/dev/null || true
  end_netns "$(node_netns "$1")"
}

# Service addresses are served by the kube-proxy of a node that runs.
route_services() {
  local n
  n=$(running_nodes)
  n=${n%%$'\n'*}
  [ -z "$n" ] || ip -n $NET_PREFIX route replace $SERVICE_NET.0.0/16 via "$NODE_NET.1$n"
}

case ${1:-} in
control) bridge_up ;;
plug) plug "$2" ;;
unplug) unplug "$2"; route_services ;;
services) route_services ;;
*) die "usage: network.sh control | plug N | unplug N | services" ;;
esac
