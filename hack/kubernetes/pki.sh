#!/bin/bash
# pki.sh: one certificate authority, and a certificate and kubeconfig for each
# part of the local Kubernetes. They live and die with one cluster.
. "$(dirname "$0")/lib.sh"

mkdir -p "$STATE/pki"
cd "$STATE/pki"
umask 077
exec 2>openssl.log

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# certificate NAME SUBJECT [ALTERNATIVE-NAMES]
certificate() {
  new_key "$1.key"
  {
    echo keyUsage=critical,digitalSignature,keyEncipherment
    echo extendedKeyUsage=serverAuth,clientAuth
    [ -z "${3:-}" ] || echo "subjectAltName=$3"
  } >"$1.ext"
  openssl req -new -key "$1.key" -subj "$2" | openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt"
}

# kubeconfig NAME: for the holder of NAME's certificate.
kubeconfig() {
  cat >"$1.conf" <<EOF
apiVersion: v1
kind: Config
current-context: local
contexts: [{name: local, context: {cluster: local, user: $1}}]
clusters: [{name: local, cluster: {server: "https://$NODE_NET.1:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
EOF
}

new_key ca.key
openssl req -x509 -new -key ca.key -subj /CN=metastore-local -days 30 -out ca.crt
openssl genrsa -out sa.key 2048
openssl rsa -in sa.key -pubout -out sa.pub

certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$NODE_NET.1,IP:$SERVICE_NET.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
certificate apiserver-kubelet-client /O=system:masters/CN=apiserver-kubelet-client
certificate front-proxy /CN=front-proxy-client
certificate admin /O=system:masters/CN=admin
certificate controller-manager /CN=system:kube-controller-manager
certificate scheduler /CN=system:kube-scheduler
certificate proxy /CN=system:kube-proxy
for name in admin controller-manager scheduler proxy; do kubeconfig $name; done
for n in $(seq 1 "$NODES"); do
  certificate "node$n" "/O=system:nodes/CN=system:node:node$n" "IP:$NODE_NET.1$n,DNS:node$n"
  kubeconfig "node$n"
done
