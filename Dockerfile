# Two images: `docker build --target server .` and `docker build --target operator .`
# Without docker, `make image` makes the same from bin/.

FROM golang:1.26-bookworm AS source
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends \
    g++ librocksdb-dev libsnappy-dev liblz4-dev libzstd-dev libbz2-dev zlib1g-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY hack/image hack/image
ENV GOFLAGS=-trimpath

FROM source AS server-build
COPY server server
# RocksDB and the C library are inside the binary; names are resolved by Go.
RUN CGO_ENABLED=1 CGO_LDFLAGS="-lrocksdb -lsnappy -lz -lbz2 -llz4 -lzstd -lstdc++ -lm -ldl -lpthread" \
    go build -tags rocksdb,grocksdb_no_link,netgo,osusergo \
    -ldflags '-s -w -linkmode=external -extldflags "-static -Wl,--gc-sections"' -o /metastore ./server/cmd/metastore

FROM source AS operator-build
COPY operator operator
RUN CGO_ENABLED=0 go build -tags netgo,osusergo -ldflags '-s -w' -o /metastore-operator ./operator/cmd/operator

FROM scratch AS server
COPY hack/image /
COPY --from=source --chmod=1777 /tmp /tmp
COPY --from=server-build /metastore /metastore
USER 65532:65532
ENTRYPOINT ["/metastore"]

FROM scratch AS operator
COPY hack/image /
COPY --from=operator-build /metastore-operator /metastore-operator
USER 65532:65532
ENTRYPOINT ["/metastore-operator"]
