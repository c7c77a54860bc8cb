package node

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"golang.org/x/crypto/bcrypt"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine/rocksdb"
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
	ListenPeerURLs, AdvertisePeerURLs     []url.URL
	ListenMetricsURLs                     []url.URL
	ClientTLS, PeerTLS                    transport.TLSInfo
	ClientAutoTLS, PeerAutoTLS            bool

	// InitialCluster is "name=url,name=url"; it counts on the first start only.
	InitialCluster        string
	InitialClusterState   string // "new" or "existing"
	InitialClusterToken   string
	InitialTokenExplicit  bool // the token was set, so it has to match the data dir's
	StrictReconfigCheck   bool
	PreVote               bool
	ElectionTickAdvance   bool
	HeartbeatMillis       uint
	ElectionMillis        uint
	SnapshotCount         uint64
	SnapshotCatchUp       uint64
	QuotaBackendBytes     int64
	MaxTxnOps             uint
	MaxRequestBytes       uint
	MaxConcurrentStreams  uint32
	AutoCompactionMode    string // "periodic" or "revision"
	AutoCompactionSetting string // "0" is off
	WatchProgressInterval time.Duration
	KeepAliveMinTime      time.Duration
	KeepAliveInterval     time.Duration
	KeepAliveTimeout      time.Duration
	EnablePprof           bool
	EnableGRPCGateway     bool
	// AuthToken is "simple", "jwt" with options after commas, or empty.
	AuthToken           string
	AuthTokenTTLSeconds uint
	BcryptCost          uint

	Logger *slog.Logger
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
		InitialClusterState:   "new",
		InitialClusterToken:   "etcd-cluster",
		StrictReconfigCheck:   true,
		PreVote:               true,
		ElectionTickAdvance:   true,
		HeartbeatMillis:       100,
		ElectionMillis:        1000,
		SnapshotCount:         10_000,
		SnapshotCatchUp:       5_000,
		MaxTxnOps:             128,
		MaxRequestBytes:       1.5 * 1024 * 1024,
		MaxConcurrentStreams:  math.MaxUint32,
		AutoCompactionMode:    "periodic",
		AutoCompactionSetting: "0",
		WatchProgressInterval: 10 * time.Minute,
		KeepAliveMinTime:      5 * time.Second,
		KeepAliveInterval:     2 * time.Hour,
		KeepAliveTimeout:      20 * time.Second,
		EnableGRPCGateway:     true,
		AuthToken:             "simple",
		AuthTokenTTLSeconds:   uint(auth.DefaultTokenTTL / time.Second),
		BcryptCost:            uint(bcrypt.DefaultCost),
		Logger:                slog.Default(),
	}
}

// maxElectionMillis is etcd's upper bound of the election time-out.
const maxElectionMillis = 50_000

// Validate says what is wrong, with the flag, its value and what is allowed.
func (c *Config) Validate() error {
	switch {
	case c.Name == "":
		return refuse("name", c.Name, "a name that is not empty")
	case c.StorageEngine != EngineMemory && c.StorageEngine != EngineRocksDB:
		return refuse("storage-engine", c.StorageEngine, "rocksdb or memory")
	case c.StorageEngine == EngineRocksDB && !rocksdb.Built:
		return refuse("storage-engine", c.StorageEngine, "memory: this binary was built without RocksDB (build it with -tags rocksdb)")
	case c.InitialClusterState != "new" && c.InitialClusterState != "existing":
		return refuse("initial-cluster-state", c.InitialClusterState, "new or existing")
	case c.HeartbeatMillis == 0:
		return refuse("heartbeat-interval", c.HeartbeatMillis, "1 ms and more")
	case c.ElectionMillis < 5*c.HeartbeatMillis:
		return refuse("election-timeout", c.ElectionMillis, fmt.Sprintf("at least five times the heartbeat interval, %d ms", 5*c.HeartbeatMillis))
	case c.ElectionMillis > maxElectionMillis:
		return refuse("election-timeout", c.ElectionMillis, fmt.Sprintf("at most %d ms", maxElectionMillis))
	case c.SnapshotCount == 0:
		return refuse("snapshot-count", c.SnapshotCount, "1 and more")
	case c.MaxTxnOps == 0:
		return refuse("max-txn-ops", c.MaxTxnOps, "1 and more")
	case c.MaxRequestBytes == 0 || c.MaxRequestBytes > 256<<20:
		return refuse("max-request-bytes", c.MaxRequestBytes, "1 to 268435456")
	}
	if _, err := c.compaction(); err != nil {
		return err
	}
	if _, err := auth.ParseScheme(c.AuthToken); err != nil {
		return fmt.Errorf("--auth-token: %w", err)
	}
	if c.StorageEngine == EngineRocksDB {
		if err := c.RocksDB.Validate(); err != nil {
			return err
		}
	}
	return c.validateURLs()
}

func (c *Config) validateURLs() error {
	for _, l := range []struct {
		flag   string
		urls   []url.URL
		listen bool
		need   bool
	}{
		{"listen-client-urls", c.ListenClientURLs, true, true},
		{"listen-peer-urls", c.ListenPeerURLs, true, true},
		{"listen-metrics-urls", c.ListenMetricsURLs, true, false},
		{"advertise-client-urls", c.AdvertiseClientURLs, false, true},
		{"initial-advertise-peer-urls", c.AdvertisePeerURLs, false, true},
	} {
		if len(l.urls) == 0 && l.need {
			return refuse(l.flag, "", "one URL and more")
		}
		for _, u := range l.urls {
			if err := checkURL(l.flag, u, l.listen); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkURL(flag string, u url.URL, listen bool) error {
	switch u.Scheme {
	case "http", "https":
	case "unix", "unixs":
		return nil
	default:
		return refuse(flag, u.String(), "URLs with the scheme http, https, unix or unixs")
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || port == "" {
		return refuse(flag, u.String(), "URLs with a host and a port")
	}
	if u.Path != "" && u.Path != "/" {
		return refuse(flag, u.String(), "URLs without a path")
	}
	if listen && host != "localhost" && host != "" && net.ParseIP(host) == nil {
		return refuse(flag, u.String(), "URLs with an IP address, localhost or no host")
	}
	return nil
}

func refuse(flag string, value any, allowed string) error {
	return fmt.Errorf("--%s=%v is not valid: %s is allowed", flag, value, allowed)
}

// ParseURLs reads a comma-separated list.
func ParseURLs(flag, list string) ([]url.URL, error) {
	var urls []url.URL
	for _, s := range strings.Split(list, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		u, err := url.Parse(s)
		if err != nil {
			return nil, refuse(flag, s, "a URL such as http://10.0.0.1:2379")
		}
		urls = append(urls, *u)
	}
	return urls, nil
}

// initialMembers reads --initial-cluster: peer URLs by name, sorted.
func (c *Config) initialMembers() (map[string][]string, error) {
	list := c.InitialCluster
	if list == "" {
		var parts []string
		for _, u := range c.AdvertisePeerURLs {
			parts = append(parts, c.Name+"="+u.String())
		}
		list = strings.Join(parts, ",")
	}
	members := map[string][]string{}
	for _, part := range strings.Split(list, ",") {
		name, u, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, refuse("initial-cluster", part, "name=URL pairs with commas between")
		}
		urls, err := ParseURLs("initial-cluster", u)
		if err != nil {
			return nil, err
		}
		if len(urls) != 1 {
			return nil, refuse("initial-cluster", part, "name=URL pairs with commas between")
		}
		if err := checkURL("initial-cluster", urls[0], false); err != nil {
			return nil, err
		}
		members[name] = append(members[name], urls[0].String())
	}
	for name := range members {
		slices.Sort(members[name])
	}
	return members, c.checkSelf(members)
}

// checkSelf wants this member in the list, with the URLs that it advertises.
func (c *Config) checkSelf(members map[string][]string) error {
	own, ok := members[c.Name]
	if !ok {
		return refuse("initial-cluster", c.InitialCluster, fmt.Sprintf("a list that contains this member's name, %q,", c.Name))
	}
	advertised := urlStrings(c.AdvertisePeerURLs)
	slices.Sort(advertised)
	if !slices.Equal(own, advertised) {
		return refuse("initial-cluster", strings.Join(own, ","),
			fmt.Sprintf("for %q what --initial-advertise-peer-urls says, %s,", c.Name, strings.Join(advertised, ",")))
	}
	return nil
}

func urlStrings(urls []url.URL) []string {
	out := make([]string, len(urls))
	for i, u := range urls {
		out[i] = u.String()
	}
	return out
}
