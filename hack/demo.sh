#!/bin/bash
# demo.sh: three members on Kubernetes; a pod dies while a client writes; it
# comes back and catches up. with-cluster.sh provides the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

namespace=metastore-demo
name=demo
members=3
steps=7
work=$(mktemp -d)
: >"$work/acknowledged"
begin=$SECONDS

step=0
headline() {
  step=$((step + 1))
  printf '\n[%3ds] %d/%d %s\n' $((SECONDS - begin)) $step $steps "$*"
}
say() { printf '       %s\n' "$*"; }
kube() { "$KUBECTL" -n "$namespace" "$@"; }

finish() {
  local status=$?
  [ ! -e "$work/writer.pid" ] || kill "$(cat "$work/writer.pid")" 2>/dev/null || true
  if [ $status -ne 0 ]; then
    echo "the demo failed; what Kubernetes knows:" >&2
    {
      kube get metastoreclusters,pods,pvc -o wide
      kube get events --sort-by=.lastTimestamp | tail -n 15
      "$KUBECTL" logs -n metastore-system deployment/metastore-operator --tail=8 | cut -c1-600
      for i in $(seq 0 $((members - 1))); do kube logs "$name-$i" --tail=10; done
    } >&2 2>&1 || true
  fi
  if [ "${KEEP:-}" != 1 ]; then
    "$KUBECTL" delete namespace "$namespace" --ignore-not-found --wait=false >/dev/null || true
    "$KUBECTL" delete --ignore-not-found --wait=false -f "$work/operator.yaml" >/dev/null 2>&1 || true
  fi
  jobs -p | xargs -r kill 2>/dev/null || true # port-forwards
  rm -rf "$work"
  exit $status
}
trap finish EXIT

# address_of POD: where this machine reaches a member's client port; where pods
# cannot be dialled, through a port-forward that is opened anew on each call.
address_of() {
  if [ "$REACH" = direct ]; then
    echo "$(kube get pod "$1" -o jsonpath='{.status.podIP}'):2379"
    return
  fi
  kube port-forward "pod/$1" :2379 >"$work/forward-$1" 2>&1 &
  local line
  for _ in $(seq 100); do
    line=$(sed -n 's/^Forwarding from \(127[^ ]*\) .*/\1/p' "$work/forward-$1")
    [ -n "$line" ] && echo "$line" && return
    sleep 0.1
  done
  cat "$work/forward-$1" >&2
  return 1
}

etcdctl() { "$ETCDCTL" --dial-timeout=2s --command-timeout=5s "$@"; }

# until_ready: waits for the operator's word, showing each change of it.
until_ready() {
  local deadline=$((SECONDS + 150)) seen='' now
  while :; do
    now=$(kube get metastorecluster "$name" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}: {.status.readyReplicas} of {.spec.replicas} pods ready {.status.operation.type} {.status.operation.step}' 2>/dev/null) || now='not seen yet'
    [ "$now" = "$seen" ] || { say "$now"; seen=$now; }
    [[ $now != "True: $members of $members "* ]] || return 0
    ((SECONDS < deadline)) || { echo "not ready in time" >&2; return 1; }
    sleep 0.5
  done
}

# write_on ENDPOINTS: puts key after key until it is ended; remembers the last
# acknowledged one and counts.
write_on() {
  local i=0
  while :; do
    i=$((i + 1))
    if etcdctl --endpoints="$1" put "demo/$i" "value $i" >/dev/null 2>>"$work/writer.log"; then
      echo "$i" >>"$work/acknowledged"
    fi
  done
}

acknowledged() { wc -l <"$work/acknowledged"; }

# until_written N: N more writes are acknowledged.
until_written() {
  local goal deadline=$((SECONDS + 60))
  goal=$(($(acknowledged) + $1))
  while [ "$(acknowledged)" -lt "$goal" ]; do
    ((SECONDS < deadline)) || { echo "the writer makes no progress:" >&2; tail -n 3 "$work/writer.log" >&2; return 1; }
    sleep 0.2
  done
}

headline "the operator: config/default, with the image built here"
mkdir "$work/kustomize"
cat >"$work/kustomize/kustomization.yaml" <<EOF
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: ["$(realpath --relative-to="$work/kustomize" config/default)"]
images: [{name: metastore.io/metastore-operator, newName: "${OPERATOR_IMAGE%:*}", newTag: "${OPERATOR_IMAGE##*:}"}]
EOF
"$KUBECTL" kustomize "$work/kustomize" >"$work/operator.yaml"
"$KUBECTL" apply --server-side --force-conflicts -f "$work/operator.yaml" >/dev/null
"$KUBECTL" wait --for=condition=Established crd/metastoreclusters.metastore.io --timeout=60s >/dev/null
"$KUBECTL" create namespace "$namespace" --dry-run=client -o yaml | "$KUBECTL" apply -f - >/dev/null

headline "a MetaStoreCluster of $members members"
cat >"$work/cluster.yaml" <<EOF
apiVersion: metastore.io/v1alpha1
kind: MetaStoreCluster
metadata:
  name: $name
spec:
  replicas: $members
  image: $SERVER_IMAGE
  imagePullPolicy: IfNotPresent
  engine: RocksDB
  storage:
    size: 1Gi
EOF
sed 's/^/       /' "$work/cluster.yaml"
kube apply -f "$work/cluster.yaml" >/dev/null
until_ready
kube get pods -o wide | sed 's/^/       /'

headline "a key, written to one member and read from another"
first=$(address_of "$name-0")
second=$(address_of "$name-1")
say "etcdctl put greeting hello        (member $name-0)"
etcdctl --endpoints="$first" put greeting hello >/dev/null
say "etcdctl get greeting              (member $name-1)"
answer=$(etcdctl --endpoints="$second" get greeting --print-value-only)
say "  $answer"
[ "$answer" = hello ]

headline "a client writes without end"
victim=$name-2
write_on "$first,$second" &
echo $! >"$work/writer.pid"
until_written 20
say "$(acknowledged) writes acknowledged"

headline "pod $victim is deleted while it writes"
before=$(acknowledged)
old=$(kube get pod "$victim" -o jsonpath='{.metadata.uid}')
kube delete pod "$victim" --wait=false >/dev/null
for _ in $(seq 600); do
  uid=$(kube get pod "$victim" -o jsonpath='{.metadata.uid}' --ignore-not-found)
  [ -z "$uid" ] || [ "$uid" = "$old" ] || break
  sleep 0.2
done
[ "$uid" != "$old" ]
kube wait --for=condition=Ready "pod/$victim" --timeout=120s >/dev/null
until_ready
until_written 20
kill "$(cat "$work/writer.pid")"
wait "$(cat "$work/writer.pid")" 2>/dev/null || true
rm "$work/writer.pid"
say "the pod is back; $(($(acknowledged) - before)) writes were acknowledged meanwhile, $(acknowledged) in all"

headline "the pod that was away has every one of them"
third=$(address_of "$victim")
# Serializable reads are answered from the member's own data, by nobody else.
last=$(tail -n 1 "$work/acknowledged")
for _ in $(seq 100); do
  [ -z "$(etcdctl --endpoints="$third" get "demo/$last" --consistency=s --print-value-only)" ] || break
  sleep 0.2
done
etcdctl --endpoints="$third" get demo/ --prefix --keys-only --consistency=s | sed -n 's|^demo/||p' | sort >"$work/found"
lost=$(sort "$work/acknowledged" | comm -23 - "$work/found" | wc -l)
say "acknowledged: $(acknowledged), missing on $victim: $lost"
[ "$lost" = 0 ]

headline "status"
kube get metastorecluster "$name" | sed 's/^/       /'
etcdctl --endpoints="$first,$second,$third" endpoint status -w table | # of its many columns, these
  awk -F'│' '/│/ {printf "       %s %s %s %s %s %s\n", $2, $3, $6, $10, $12, $14}'
printf '\nThe demo took %d s.\n' $((SECONDS - begin))
