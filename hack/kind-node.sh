#!/bin/bash
# kind-node.sh start|stop NODE: power of one node of a kind cluster; stop is
# like pulling the plug.
set -euo pipefail

case ${1:-} in
start) exec docker start "$2" ;;
stop) exec docker kill "$2" ;;
*)
  echo "usage: kind-node.sh start|stop NODE" >&2
  exit 2
  ;;
esac
