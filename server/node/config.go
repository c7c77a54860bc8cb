package node

import (
	"log/slog"
	"math"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"golang.org/x/crypto/bcrypt"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/state"
)

// Engine names, as --storage-engine takes them.
const (
	EngineMemory  = "memory"
	EngineRocksDB = "rocksdb"
)

// Config is everything that a member can be told. Validate it before use.
type Config struct {
	Name          string
	DataDir       string
	StorageEngine string
	RocksDB       rocksdb.Options

	ListenClientURLs, AdvertiseClientURLs []url.URL
	// ListenClientHTTPURLs answer HTTP only; when there are any, the others of
	// the client URLs answer gRPC only.
	ListenClientHTTPURLs              []url.URL
	ListenPeerURLs, AdvertisePeerURLs []url.URL
	ListenMetricsURLs                 []url.URL
	Socket                            transport.SocketOpts
	Security

	// InitialCluster is "name=url,name=url"; it counts on the first start only.
	InitialCluster       string
	InitialClusterState  string // "new" or "existing"
	InitialClusterToken  string
	InitialTokenExplicit bool // the token was set, so it has to match the data dir's
	ForceNewCluster      bool
	// ForceNewClusterOnce is the same for the first start with this word: later
	// starts with it are as any other, so that it may stay in the settings.
	ForceNewClusterOnce string
	Discovery           Discovery
	StrictReconfigCheck bool
	PreVote             bool
	ElectionTickAdvance bool
	HeartbeatMillis     uint
	ElectionMillis      uint
	SnapshotCount       uint64
	SnapshotCatchUp     uint64
	MaxLearners         int

	// MemoryBytes is what the Go heap may grow to; the budgets of what is under
	// way for clients are shares of it. 0 is without limit.
	MemoryBytes           int64
	QuotaBackendBytes     int64
	MaxTxnOps             uint
	MaxRequestBytes       uint
	MaxConcurrentStreams  uint32
	AutoCompactionMode    string // "periodic" or "revision"
	AutoCompactionSetting string // "0" is off
	// CorruptCheckTime is the time between two comparisons of the members' data;
	// 0 is never. CompactHashCheckTime is that for compacted data, which only
	// the feature gate CompactHashCheck turns on.
	CorruptCheckTime      time.Duration
	CompactHashCheckTime  time.Duration
	WatchProgressInterval time.Duration
	// WarnApplyAfter and WarnRequestAfter are how long an apply or a unary
	// request takes that is worth a warning.
	WarnApplyAfter   time.Duration
	WarnRequestAfter time.Duration
	// DefragMegabytes: at the start, what is stored is compacted when this many
	// megabytes would come free; 0 is never.
	DefragMegabytes   uint
	KeepAliveMinTime  time.Duration
	KeepAliveInterval time.Duration
	KeepAliveTimeout  time.Duration
	EnablePprof       bool
	EnableGRPCGateway bool
	// Debug adds profiles and traces to the client URLs, and the logs of gRPC.
	Debug bool
	// Metrics is "basic" or "extensive", which adds histograms of gRPC.
	Metrics  string
	Features featuregate.MutableFeatureGate
	// AuthToken is "simple", "jwt" with options after commas, or empty.
	AuthToken           string
	AuthTokenTTLSeconds uint
	BcryptCost          uint

	Logger *slog.Logger
}

// Security is who may connect and how.
type Security struct {
	// ClientTLS and PeerTLS have files, lists and versions; the cipher suites
	// and versions below are put into both.
	ClientTLS, PeerTLS           transport.TLSInfo
	ClientAutoTLS, PeerAutoTLS   bool
	SelfSignedYears              uint
	CipherSuites                 []string
	TLSMinVersion, TLSMaxVersion string // "TLS1.2", "TLS1.3" or empty
	// CORS are the origins that browsers may come from, HostWhitelist the names
	// by which this member may be asked without TLS; "*" and none are all.
	CORS, HostWhitelist []string
}

// Discovery is how a new cluster finds its members when there is no list.
type Discovery struct {
	// Spec and Token are those of discovery through another cluster.
	Spec  clientv3.ConfigSpec
	Token string
	// SRV is the domain, and SRVName the suffix of the service's name, whose DNS
	// records name the members.
	SRV, SRVName string
}

// DefaultConfig holds etcd's defaults.
func DefaultConfig() Config {
	client := []url.URL{{Scheme: "http", Host: "localhost:2379"}}
	peer := []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	engine := EngineMemory
	if rocksdb.Built {
		engine = EngineRocksDB
	}
	return Config{
		Name:             "default",
		StorageEngine:    engine,
		RocksDB:          rocksdb.DefaultOptions(),
		ListenClientURLs: client, AdvertiseClientURLs: client,
		ListenPeerURLs: peer, AdvertisePeerURLs: peer,
		Security: Security{
			SelfSignedYears: 1,
			TLSMinVersion:   string(tlsutil.TLSVersion12),
			CORS:            []string{"*"},
			HostWhitelist:   []string{"*"},
		},
		Discovery:             defaultDiscovery(),
		InitialClusterState:   "new",
		InitialClusterToken:   "etcd-cluster",
		StrictReconfigCheck:   true,
		PreVote:               true,
		ElectionTickAdvance:   true,
		HeartbeatMillis:       100,
		ElectionMillis:        1000,
		SnapshotCount:         10_000,
		SnapshotCatchUp:       5_000,
		MaxLearners:           state.MaxLearners,
		MaxTxnOps:             128,
		MaxRequestBytes:       1.5 * 1024 * 1024,
		MaxConcurrentStreams:  math.MaxUint32,
		AutoCompactionMode:    "periodic",
		AutoCompactionSetting: "0",
		CompactHashCheckTime:  time.Minute,
		WatchProgressInterval: 10 * time.Minute,
		WarnApplyAfter:        100 * time.Millisecond,
		WarnRequestAfter:      300 * time.Millisecond,
		KeepAliveMinTime:      5 * time.Second,
		KeepAliveInterval:     2 * time.Hour,
		KeepAliveTimeout:      20 * time.Second,
		EnableGRPCGateway:     true,
		Metrics:               "basic",
		Features:              newFeatures(),
		AuthToken:             "simple",
		AuthTokenTTLSeconds:   uint(auth.DefaultTokenTTL / time.Second),
		BcryptCost:            uint(bcrypt.DefaultCost),
		Logger:                slog.Default(),
	}
}

func defaultDiscovery() Discovery {
	return Discovery{Spec: clientv3.ConfigSpec{
		DialTimeout:      2 * time.Second,
		RequestTimeout:   5 * time.Second,
		KeepAliveTime:    2 * time.Second,
		KeepAliveTimeout: 6 * time.Second,
		Secure:           &clientv3.SecureConfig{InsecureTransport: true},
		Auth:             &clientv3.AuthConfig{},
	}}
}

// maxLearners is MaxLearners as a change of the membership carries it.
func (c *Config) maxLearners() int32 {
	switch n := c.MaxLearners; n {
	case state.MaxLearners:
		return 0
	case 0:
		return -1
	default:
		return int32(min(n, math.MaxInt32))
	}
}
