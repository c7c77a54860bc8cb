#!/bin/bash
# kind-node.sh start|stop NODE: power of one node of a kind cluster; stop is
# like pulling the plug.
# kind-node.sh exec NODE COMMAND... runs a command inside the node.
set -euo pipefail

case ${1:-} in
start) exec docker start "$2" ;;
stop) exec docker kill "$2" ;;
exec) exec docker "$@" ;;
*)
  echo "usage: kind-node.sh start|stop NODE, kind-node.sh exec NODE COMMAND..." >&2
  exit 2
  ;;
esac
