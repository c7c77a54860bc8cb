#!/bin/bash
# binaries.sh [NAME...] puts what the local Kubernetes consists of into the cache:
# unpacked from $KUBE_BUNDLE when that names an archive, else built from Go
# modules. What is there already is left alone. Default: what
# the cluster itself needs.
. "$(dirname "$0")/lib.sh"

# NAME FOLDER PACKAGE MINUTES (two idle cores, cold Go cache)
catalogue='
kube                    kube    .                                            14
kubectl                 kube    k8s.io/kubernetes/cmd/kubectl                3
etcd                    addons  go.etcd.io/etcd/server/v3                    2
etcdctl                 addons  go.etcd.io/etcd/etcdctl/v3                   1
etcdutl                 addons  go.etcd.io/etcd/etcdutl/v3                   1
coredns                 addons  ./coredns                                    4
local-path-provisioner  addons  github.com/rancher/local-path-provisioner    2
helm                    addons  helm.sh/helm/v4/cmd/helm                     3
'

version_flags() {
  local package
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean -X %s.buildDate=2026-01-01T00:00:00Z ' \
      $package $KUBE_VERSION $package "${KUBE_VERSION%%.*}" $package "$(cut -d. -f2 <<<$KUBE_VERSION)" $package $package
  done
}

# stamp FOLDER: changes when the sources or the pinned versions do.
stamp() { (cd "$KUBE_DIR/src/$1" && find . -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -c1-16; }

is_there() { [ -x "$BIN/$1" ] && grep -qx -e "$(stamp "$2")" -e bundle "$BIN/.$1.stamp" 2>/dev/null; }

unpack() {
  say "unpacking ${*} from $(basename "$KUBE_BUNDLE")"
  tar -xJf "$KUBE_BUNDLE" -C "$BIN" "$@"
  local name
  for name in "$@"; do echo bundle >"$BIN/.$name.stamp"; done
}

# show_progress TOTAL counts the packages that the compiler names.
show_progress() {
  local total=$1 count=0 shown=$SECONDS line
  while read -r line; do
    case $line in
    *[[:space:]]*) echo "         $line" ;; # not a package: the compiler complains, or a download
    *) count=$((count + 1)) ;;
    esac
    if ((SECONDS - shown >= 15)); then
      say "  $count packages compiled (of at most $total)"
      shown=$SECONDS
    fi
  done
}

build() {
  local name=$1 folder=$2 package=$3 flags='-s -w' total
  [ "$folder" != kube ] || flags="$flags $(version_flags)"
  cd "$KUBE_DIR/src/$folder"
  total=$(go list -deps "$package" | wc -l)
  go build -v -ldflags "$flags" -o "$BIN/$name.new" "$package" 2>&1 | show_progress "$total"
  mv "$BIN/$name.new" "$BIN/$name"
  stamp "$folder" >"$BIN/.$name.stamp"
}

wanted=("$@")
[ $# -gt 0 ] || wanted=(kube etcd etcdctl coredns local-path-provisioner)

mkdir -p "$BIN" "$ASSETS"
exec 8>"$KUBE_CACHE/binaries.lock"
flock -n 8 || { say "waiting for another build into $KUBE_CACHE"; flock 8; }

missing=() minutes=0
for name in "${wanted[@]}"; do
  read -r _ folder package cost < <(grep "^$name " <<<"$catalogue") || die "no such component: $name"
  is_there "$name" "$folder" && continue
  missing+=("$name $folder $package")
  minutes=$((minutes + cost))
done

if [ ${#missing[@]} -gt 0 ]; then
  if [ -n "${KUBE_BUNDLE:-}" ]; then
    [ -e "$KUBE_BUNDLE" ] || die "KUBE_BUNDLE=$KUBE_BUNDLE is not there; unset it to build from Go modules"
    "$REPO_DIR/hack/apt.sh" xz-utils
    unpack "${missing[@]%% *}"
  else
    command -v go >/dev/null || die "Go is not installed, or not on PATH"
    export CGO_ENABLED=0 GOFLAGS=-trimpath
    say "building Kubernetes v$KUBE_VERSION from Go modules, once: about $minutes minutes on two cores"
    i=0
    for entry in "${missing[@]}"; do
      i=$((i + 1))
      say "$i of ${#missing[@]}: ${entry%% *}"
      # shellcheck disable=SC2086
      (build $entry)
    done
  fi
fi

# The folder that envtest takes as KUBEBUILDER_ASSETS: kube answers to its name.
for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do ln -sfn ../bin/kube "$ASSETS/$name"; done
ln -sfn ../bin/etcd "$ASSETS/etcd"
