#!/bin/bash
# stage.sh NAME COMMAND... says that a stage begins, runs it, and says how long
# it took; a stage that fails says so in its last line.
set -uo pipefail

name=$1
shift
echo "==> $name"
if "$@"; then
  echo "    done in $SECONDS s: $name"
else
  status=$?
  echo "    FAILED after $SECONDS s: $name" >&2
  exit $status
fi
