package node

import (
	"encoding/json"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/rpc"
)

// describe logs what this member was told to be, under etcd's names.
func (c *Config) describe() {
	d := &c.Discovery
	c.Logger.Info("starting a member",
		"etcd-version", rpc.EtcdVersion, "metastore-version", rpc.Version,
		"go-version", runtime.Version(), "go-os", runtime.GOOS, "go-arch", runtime.GOARCH,
		"max-cpu-set", runtime.GOMAXPROCS(0), "max-cpu-available", runtime.NumCPU(),
		"name", c.Name, "data-dir", c.DataDir, "storage-engine", c.StorageEngine,
		"force-new-cluster", c.ForceNewCluster,
		"force-new-cluster-once", c.ForceNewClusterOnce,
		"heartbeat-interval", (time.Duration(c.HeartbeatMillis) * time.Millisecond).String(),
		"election-timeout", (time.Duration(c.ElectionMillis) * time.Millisecond).String(),
		"initial-election-tick-advance", c.ElectionTickAdvance,
		"snapshot-count", c.SnapshotCount, "snapshot-catchup-entries", c.SnapshotCatchUp,
		"initial-advertise-peer-urls", urlStrings(c.AdvertisePeerURLs), "listen-peer-urls", urlStrings(c.ListenPeerURLs),
		"advertise-client-urls", urlStrings(c.AdvertiseClientURLs), "listen-client-urls", urlStrings(c.ListenClientURLs),
		"listen-client-http-urls", urlStrings(c.ListenClientHTTPURLs), "listen-metrics-urls", urlStrings(c.ListenMetricsURLs),
		"cors", c.CORS, "host-whitelist", c.HostWhitelist,
		"initial-cluster", c.InitialCluster, "initial-cluster-state", c.InitialClusterState, "initial-cluster-token", c.InitialClusterToken,
		"quota-backend-bytes", c.QuotaBackendBytes, "max-request-bytes", c.MaxRequestBytes, "max-concurrent-streams", c.MaxConcurrentStreams,
		"pre-vote", c.PreVote, "feature-gates", c.Features.String(), "max-learners", c.MaxLearners,
		"corrupt-check-time-interval", c.CorruptCheckTime.String(), "compact-check-time-interval", c.CompactHashCheckTime.String(),
		"auto-compaction-mode", c.AutoCompactionMode, "auto-compaction-retention", c.AutoCompactionSetting,
		"discovery-token", d.Token, "discovery-endpoints", strings.Join(d.Spec.Endpoints, ","), "discovery-srv", d.SRV,
		"v2-deprecation", "write-only")
	if !c.ClientTLS.Empty() {
		c.Logger.Info("starting with client TLS", "tls-info", c.ClientTLS.String(), "cipher-suites", c.CipherSuites)
	}
	if !c.PeerTLS.Empty() {
		c.Logger.Info("starting with peer TLS", "tls-info", c.PeerTLS.String(), "cipher-suites", c.CipherSuites)
	}
	c.warn()
}

// settings are, as JSON, those that a container's limits decide: the Go heap's
// limit in bytes (0: none) and RocksDB's options.
func (c *Config) settings() string {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		limit = 0
	}
	s := struct {
		GoMemLimitBytes int64            `json:"goMemLimitBytes"`
		RocksDB         *rocksdb.Options `json:"rocksdb,omitempty"`
	}{GoMemLimitBytes: limit}
	if c.StorageEngine == EngineRocksDB {
		s.RocksDB = &c.RocksDB
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic("settings: " + err.Error()) // numbers and words only
	}
	return string(text)
}

// warn logs what is allowed but probably not meant.
func (c *Config) warn() {
	if c.Name == "default" {
		c.Logger.Warn("it isn't recommended to use default name, please set a value for --name", "name", c.Name)
	}
	if c.MaxRequestBytes > 10<<20 {
		c.Logger.Warn("exceeded recommended request limit", "max-request-bytes", c.MaxRequestBytes, "recommended-request-bytes", 10<<20)
	}
	for _, u := range c.ListenPeerURLs {
		if isTLS(u) {
			continue
		}
		if !c.PeerTLS.Empty() {
			c.Logger.Warn("scheme is HTTP while key and cert files are present; ignoring key and cert files", "peer-url", u.String())
		}
		if c.PeerTLS.ClientCertAuth {
			c.Logger.Warn("scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL", "peer-url", u.String())
		}
	}
	if c.EnablePprof {
		c.Logger.Info("pprof is enabled", "path", "/debug/pprof")
	}
}
