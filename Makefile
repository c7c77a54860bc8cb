# MetaStore. `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

VERSION        ?= 0.1.0
SERVER_IMAGE   ?= metastore.io/metastore:$(VERSION)
OPERATOR_IMAGE ?= metastore.io/metastore-operator:$(VERSION)
IMAGE_LIMIT_MB := 80

# Everything that is built once and kept between runs.
METASTORE_CACHE ?= $(HOME)/.cache/metastore
export METASTORE_CACHE VERSION SERVER_IMAGE OPERATOR_IMAGE

TOOLS          := $(METASTORE_CACHE)/tools
CONTROLLER_GEN := $(TOOLS)/controller-gen
KUBECONFORM    := $(TOOLS)/kubeconform
GOLANGCI_LINT  := $(TOOLS)/golangci-lint
S3_SERVER      := $(TOOLS)/versitygw
LINT           := env GOLANGCI_LINT_CACHE=$(METASTORE_CACHE)/golangci $(GOLANGCI_LINT) run
STAGE          := hack/stage.sh

# RocksDB is linked by name, so that the server can be linked statically; the
# pure Go resolver is what a static binary needs. Tests and builds share tags
# and flags, and with them Go's build cache.
GO_TAGS      := netgo,osusergo
ROCKSDB_TAGS := rocksdb,grocksdb_no_link,$(GO_TAGS)
ROCKSDB_LDFLAGS := -lrocksdb -lsnappy -lz -lbz2 -llz4 -lzstd -lstdc++ -lm -ldl -lpthread
WITH_ROCKSDB := env CGO_ENABLED=1 CGO_LDFLAGS='$(ROCKSDB_LDFLAGS)'
STATIC_FLAGS := -s -w -linkmode=external -extldflags "-static -Wl,--gc-sections"

MODULES := . hack/tools hack/s3server hack/kubernetes/src/kube hack/kubernetes/src/addons
GENERATED := api/v1alpha1/zz_generated.deepcopy.go config/crd/bases config/rbac/role.yaml \
             charts/metastore/files docs/reference.md

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nWhat is built once is kept in %s\n' '$(METASTORE_CACHE)'

.PHONY: run
run: build ## one server on 127.0.0.1:2379; DATA_DIR= chooses where its data is
	@mkdir -p "$(DATA_DIR)"
	@echo "serving on http://127.0.0.1:2379, data in $(DATA_DIR); stop with Ctrl-C"
	@exec bin/metastore --data-dir "$(DATA_DIR)" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
	  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
DATA_DIR ?= $(METASTORE_CACHE)/data

.PHONY: demo
demo: image ## three members on Kubernetes lose a pod while a client writes; KEEP=1 leaves them running
	@hack/with-cluster.sh hack/demo.sh

##@ Check

.PHONY: test
test: packages kube-assets $(S3_SERVER) $(KUBECONFORM) ## unit, contract and multi-member server tests on both engines, operator tests with envtest
	@$(STAGE) 'test: builds without RocksDB' go build -tags $(GO_TAGS) ./...
	@$(STAGE) 'test: engines without RocksDB' go test -tags $(GO_TAGS) $(TEST_FLAGS) ./server/engine/...
	@$(STAGE) 'test: server and repository, both engines' $(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) $(TEST_FLAGS) ./hack/... ./server/...
	@$(STAGE) 'test: kinds and operator, with envtest' env KUBEBUILDER_ASSETS=$(METASTORE_CACHE)/kubernetes/assets go test -tags $(GO_TAGS) $(TEST_FLAGS) ./api/... ./operator/...
TEST_FLAGS ?= -timeout 20m

.PHONY: e2e
e2e: image $(S3_SERVER) ## the ginkgo suite on real Kubernetes; E2E_FOCUS= picks specs by their text
	@hack/kubernetes/binaries.sh helm
	@$(STAGE) 'e2e: compile' go test -c -tags $(GO_TAGS) -o bin/e2e.test ./e2e
	@hack/with-cluster.sh hack/e2e.sh

.PHONY: e2e-on-metastore
e2e-on-metastore: ## the same, on a Kubernetes that itself lives on three members of MetaStore
	@STORE=$(CURDIR)/bin/metastore ETCD_STORAGE_ENGINE=$(STORAGE_ENGINE) CLUSTER=local $(MAKE) e2e

.PHONY: conformance
conformance: build conformance-tools ## etcd's and Kubernetes' own suites; STORAGE_ENGINE=, SERVER=etcd, and SUITE=, GROUP=, RUN= pick tests
	@$(CONFORMANCE) $(CONFORMANCE_SERVER) -suite '$(SUITE)' -group '$(GROUP)' -run '$(RUN)'

.PHONY: conformance-fast
conformance-fast: build conformance-tools ## of those suites the subset for every change, on both engines
	@$(CONFORMANCE) -server bin/metastore -engine rocksdb,memory -fast

.PHONY: clients
clients: build ## etcd's clients of v3.4 to today and two of Python, each a walk through the API, on both engines
	@hack/old-clients.sh bin/metastore rocksdb memory

.PHONY: sim
sim: go-is-there ## simulate SEEDS clusters under faults; a failure prints the seed that replays it
	@go test -tags $(GO_TAGS) ./server/sim -run 'TestSim$$' -v -sim.seeds=$(SEEDS) -timeout 0
SEEDS ?= 1000

.PHONY: faults
faults: packages ## CYCLES kills of real members, power cuts, partitions, bad disks, a member REVISIONS behind; STORAGE_ENGINE= for one engine
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/cmd/metastore -run 'TestFaults|TestVolume' -v -timeout 0 -count=1 \
	  -faults.cycles=$(CYCLES) -faults.revisions=$(REVISIONS) -faults.engine=$(STORAGE_ENGINE)
CYCLES         ?= 500
REVISIONS      ?= 1000000
STORAGE_ENGINE ?=

.PHONY: overload
overload: packages ## 10,000 connections, 1,000 watches and 20 clients that read nothing, 100 MB/s of puts, within 1 GiB; CGROUP=/sys/fs/cgroup makes a cgroup there
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/cmd/metastore -run 'TestOverload' -v -timeout 0 -count=1 \
	  -overload.conns=10000 -overload.watches=1000 -overload.stalled=20 -overload.mbps=100 -overload.for=30s \
	  -overload.cgroup=$(CGROUP) -faults.engine=rocksdb
CGROUP ?=

.PHONY: large
large: packages ## KEYS keys (10,000,000) in a member with MIB MiB (1024), RocksDB unless STORAGE_ENGINE=: loaded, compacted, read, scanned, started again; CGROUP= as for overload
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/cmd/metastore -run 'TestLarge' -v -timeout 0 -count=1 \
	  -large.keys=$(or $(KEYS),10000000) -overload.mib=$(or $(MIB),1024) -overload.cgroup=$(CGROUP) -faults.engine=$(or $(STORAGE_ENGINE),rocksdb)

.PHONY: etcd-snapshots
etcd-snapshots: go-is-there ## build older versions of etcd and record snapshots of them as test data
	@GO_TAGS=$(GO_TAGS) hack/etcd-snapshots.sh $(OLD_ETCD)
OLD_ETCD ?= v3.5.35 v3.6.16

.PHONY: allocations
allocations: packages ## commit what requests allocate now as the budget that tests hold them to
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/node -run 'TestAllocationsOfRequests$$' -v -count=1 -allocations.write

.PHONY: golden
golden: packages ## keep data dirs of this version of the format as test data; those of older versions stay as they are
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/node -run 'TestWriteGolden$$' -v -count=1 -golden.write

.PHONY: race
race: packages kube-assets $(S3_SERVER) $(KUBECONFORM) ## all tests with the race detector; RACE= picks packages
	@$(WITH_ROCKSDB) KUBEBUILDER_ASSETS=$(METASTORE_CACHE)/kubernetes/assets go test -race -tags $(ROCKSDB_TAGS) -timeout 60m $(RACE)
RACE ?= ./api/... ./hack/... ./operator/... ./server/...

.PHONY: metamorphic
metamorphic: packages ## OPS operations from SEED on both engines, with other settings, crashes and snapshots: the same answers
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/replica -run 'TestMetamorphic$$' -v -timeout 0 -count=1 -metamorphic.ops=$(OPS) -metamorphic.seed=$(SEED)
OPS  ?= 1000000
SEED ?= 0

.PHONY: fuzz
fuzz: go-is-there ## fuzz every decoder for FUZZ_SECONDS each; FUZZ= picks targets by name or folder
	@GO_TAGS=$(GO_TAGS) hack/fuzz.sh $(FUZZ_SECONDS) '$(FUZZ)'
FUZZ_SECONDS ?= 60
FUZZ         ?= .

.PHONY: fuzz-short
fuzz-short: go-is-there ## fuzz every decoder for a moment, without coverage
	@GO_TAGS=$(GO_TAGS) FUZZ_BLIND=1 $(STAGE) 'fuzz: every decoder, a moment' hack/fuzz.sh 0.3

.PHONY: damage
damage: packages ## flip FLIPS bits of real data dirs, one at a time: found or made good, never served; SEED= replays
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/node -run 'TestDamage$$' -v -damage.flips=$(FLIPS) -damage.seed=$(SEED) -timeout 0 | grep -v ': flip '
FLIPS ?= 1000

.PHONY: differential
differential: packages ## OPS random requests to etcd and to both engines, every answer compared; SEED= replays or varies
	@$(WITH_ROCKSDB) go test -tags $(ROCKSDB_TAGS) ./server/difftest -run 'TestSameAnswersAsEtcd$$' -v -count=1 -timeout 0 -difftest.ops=$(OPS) -difftest.seed=$(SEED)

.PHONY: bench
bench: build ## real etcd and both engines under load in ROUNDS, medians and ratios; WORKLOAD=, MEMBERS=, DISK=, ENGINE=, PIN=1
	@hack/kubernetes/binaries.sh etcd
	@go build -o bin/bench ./hack/bench
	@bin/bench -etcd $(METASTORE_CACHE)/kubernetes/bin/etcd -metastore bin/metastore -engine '$(or $(ENGINE),$(BENCH_ENGINES))' \
	  -workload '$(or $(WORKLOAD),short)' -rounds $(or $(ROUNDS),5) -seconds $(or $(BENCH_SECONDS),2) -members '$(or $(MEMBERS),1)' \
	  -disk '$(or $(DISK),tmpfs)' -client $(or $(CLIENT),lean) -pin=$(if $(PIN),true,false)
BENCH_ENGINES := rocksdb,memory

.PHONY: backup-bench
backup-bench: build ## a backup of KEYS keys, puts beside it, and the way back, beside etcdutl and etcd, in ROUNDS; ENGINE=, SCRATCH= is the folder
	@hack/apt.sh bc curl time
	@hack/kubernetes/binaries.sh etcd etcdutl
	@ENGINE='$(ENGINE)' SCRATCH='$(SCRATCH)' hack/backup-bench.sh $(or $(KEYS),1000000) $(or $(ROUNDS),3)

.PHONY: verify
verify: packages $(GOLANGCI_LINT) $(CONTROLLER_GEN) ## format, vet, lint, tidy modules, generated files up to date
	@$(STAGE) 'verify: format' hack/check.sh format
	@$(STAGE) 'verify: scripts' hack/check.sh scripts
	@$(STAGE) 'verify: vet' $(WITH_ROCKSDB) go vet -tags $(ROCKSDB_TAGS) ./...
	@$(STAGE) 'verify: lint' $(LINT) --build-tags $(GO_TAGS) ./...
	@$(STAGE) 'verify: lint with RocksDB' $(WITH_ROCKSDB) $(LINT) --build-tags $(ROCKSDB_TAGS) ./...
	@$(STAGE) 'verify: modules are tidy' hack/check.sh tidy $(MODULES)
	@$(STAGE) 'verify: generated files' hack/check.sh generated $(GENERATED)

##@ Make

.PHONY: generate
generate: $(CONTROLLER_GEN) ## deep copies, CRDs, RBAC, the chart's copies of them and of alerts and dashboard, docs/reference.md
	@$(CONTROLLER_GEN) object paths=./api/...
	@$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	@$(CONTROLLER_GEN) rbac:roleName=metastore-operator 'paths=./operator/controller/...;./operator/cmd/...' output:rbac:artifacts:config=config/rbac
	@rm -rf charts/metastore/files && mkdir -p charts/metastore/files/crds
	@cp config/crd/bases/*.yaml charts/metastore/files/crds/
	@cp config/rbac/role.yaml config/monitoring/pod_monitor.yaml config/monitoring/prometheus_rule.yaml config/monitoring/dashboard.json charts/metastore/files/
	@go run -tags $(GO_TAGS) ./hack/apireference docs/reference.md config/crd/bases/*.yaml

.PHONY: foreign-kinds
foreign-kinds: go-is-there ## definitions of the kinds of Prometheus' operator, Flux and Argo CD, as test data
	@go run -tags $(GO_TAGS) ./hack/foreignkinds hack/install/testdata/kinds

.PHONY: build
build: packages ## bin/metastore (RocksDB inside) and bin/metastore-operator, both static
	@$(STAGE) 'build: bin/metastore' $(WITH_ROCKSDB) go build -tags $(ROCKSDB_TAGS) -ldflags '$(STATIC_FLAGS)' -o bin/metastore ./server/cmd/metastore
	@$(STAGE) 'build: bin/metastore-operator' env CGO_ENABLED=0 go build -tags $(GO_TAGS) -ldflags '-s -w' -o bin/metastore-operator ./operator/cmd/operator

.PHONY: image
image: build ## docker-archives of both images in dist/, without docker
	@mkdir -p dist
	@go build -tags $(GO_TAGS) -o bin/mkimage ./hack/mkimage
	@bin/mkimage -o dist/metastore.tar -t $(SERVER_IMAGE) -user 65532:65532 -entrypoint /metastore bin/metastore:/metastore hack/image:/
	@bin/mkimage -o dist/metastore-operator.tar -t $(OPERATOR_IMAGE) -user 65532:65532 -entrypoint /metastore-operator bin/metastore-operator:/metastore-operator hack/image:/
	@for f in metastore metastore-operator; do \
	  size=$$(( ($$(stat -c %s dist/$$f.tar) + 999999) / 1000000 )); \
	  echo "dist/$$f.tar: $$size MB (at most $(IMAGE_LIMIT_MB))"; \
	  [ $$size -lt $(IMAGE_LIMIT_MB) ] || { echo "error: dist/$$f.tar is too large"; exit 1; }; \
	done

.PHONY: manifest
manifest: kube-assets ## dist/metastore.yaml: the operator in one file, for kubectl apply --server-side -f
	@mkdir -p dist
	@hack/manifest.sh dist/metastore.yaml

.PHONY: release
release: packages kube-assets ## what a version consists of, into dist/release: programs, images, charts, manifest, SBOM, checksums
	@$(STAGE) 'release $(VERSION)' $(RELEASE_ENV) hack/release.sh dist/release
	@ls -l dist/release

.PHONY: release-check
release-check: release ## the release once more, of sources elsewhere: the same bytes
	@$(STAGE) 'release, once more' $(RELEASE_ENV) hack/release-check.sh dist/release

RELEASE_ENV = env GO_TAGS='$(GO_TAGS)' ROCKSDB_TAGS='$(ROCKSDB_TAGS)' ROCKSDB_LDFLAGS='$(ROCKSDB_LDFLAGS)' STATIC_FLAGS='$(STATIC_FLAGS)'

.PHONY: clean
clean: ## what make left in this folder; the cache stays
	@rm -rf bin dist

# What the targets above need.

.PHONY: packages
packages: go-is-there
	@hack/apt.sh g++ librocksdb-dev libsnappy-dev liblz4-dev libzstd-dev libbz2-dev zlib1g-dev

.PHONY: go-is-there
go-is-there:
	@command -v go >/dev/null || { echo 'error: Go is not installed, or not on PATH (https://go.dev/dl; go.mod says which version)'; exit 1; }

.PHONY: conformance-tools
conformance-tools: go-is-there
	@hack/apt.sh curl
	@hack/kubernetes/binaries.sh etcd etcdctl etcdutl
	@go build -o bin/conformance ./hack/conformance
ETCD_BIN    := $(METASTORE_CACHE)/kubernetes/bin
CONFORMANCE := bin/conformance -scratch $(METASTORE_CACHE)/conformance -etcdctl $(ETCD_BIN)/etcdctl -etcdutl $(ETCD_BIN)/etcdutl
# SERVER=etcd runs the suites on real etcd, which has no choice of engines.
CONFORMANCE_SERVER = $(if $(filter etcd,$(SERVER)),-server $(ETCD_BIN)/etcd,-server $(or $(SERVER),bin/metastore) -engine $(or $(STORAGE_ENGINE),rocksdb))

.PHONY: kube-assets
kube-assets: go-is-there
	@hack/kubernetes/binaries.sh kube etcd helm

$(CONTROLLER_GEN): hack/tools/go.mod hack/tools/go.sum | go-is-there
	@$(STAGE) 'tools: controller-gen' go build -C hack/tools -o $(TOOLS)/ sigs.k8s.io/controller-tools/cmd/controller-gen
	@touch $@

$(KUBECONFORM): hack/tools/go.mod hack/tools/go.sum | go-is-there
	@$(STAGE) 'tools: kubeconform' go build -C hack/tools -o $(TOOLS)/ github.com/yannh/kubeconform/cmd/kubeconform
	@touch $@

$(GOLANGCI_LINT): hack/tools/go.mod hack/tools/go.sum | go-is-there
	@$(STAGE) 'tools: golangci-lint (once, about 4 minutes on two cores)' go build -C hack/tools -o $(TOOLS)/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(S3_SERVER): hack/s3server/go.mod hack/s3server/go.sum | go-is-there
	@$(STAGE) 'tools: an S3 server for tests (once, about 3 minutes on two cores)' go build -C hack/s3server -ldflags '-s -w' -o $(TOOLS)/ github.com/versity/versitygw/cmd/versitygw
	@touch $@
