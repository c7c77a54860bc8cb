package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
)

// flags are etcd's, by etcd's names, and MetaStore's own. A flag that is not
// given may come from the environment as ETCD_NAME_IN_CAPITALS. A config file
// replaces both, as etcd has it.
type flags struct {
	configFile, logLevel string
	c                    node.Config

	listenClient, advertiseClient, listenPeer, advertisePeer, listenMetrics string
	maxStreams                                                              uint32
	compression                                                             string
}

// ignored are flags of etcd that are taken and have no effect here, by what
// they default to: each tells how etcd does what MetaStore does otherwise.
var ignored = map[string]string{
	"logger":                      "zap",
	"log-outputs":                 "default",
	"log-format":                  "json",
	"max-snapshots":               "5",
	"max-wals":                    "5",
	"backend-batch-interval":      "0s",
	"backend-batch-limit":         "0",
	"backend-bbolt-freelist-type": "map",
	"metrics":                     "basic",
	"unsafe-no-fsync":             "false",
}

func (f *flags) register(fs *pflag.FlagSet) {
	f.c = node.DefaultConfig()
	c := &f.c
	fs.StringVar(&f.configFile, "config-file", "", "Path to the server configuration file. It replaces all other flags and environment variables.")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn, error, dpanic, panic or fatal.")

	fs.StringVar(&c.Name, "name", c.Name, "Human-readable name for this member.")
	fs.StringVar(&c.DataDir, "data-dir", "", "Path to the data directory; ${name}.metastore when not given.")
	fs.StringVar(&c.StorageEngine, "storage-engine", c.StorageEngine, "rocksdb or memory.")
	fs.StringVar(&f.listenClient, "listen-client-urls", "http://localhost:2379", "URLs to listen on for client traffic.")
	fs.StringVar(&f.advertiseClient, "advertise-client-urls", "http://localhost:2379", "This member's client URLs to tell the cluster.")
	fs.StringVar(&f.listenPeer, "listen-peer-urls", "http://localhost:2380", "URLs to listen on for peer traffic.")
	fs.StringVar(&f.advertisePeer, "initial-advertise-peer-urls", "http://localhost:2380", "This member's peer URLs to tell the cluster.")
	fs.StringVar(&f.listenMetrics, "listen-metrics-urls", "", "URLs to answer /metrics, /health, /livez and /readyz on, beside the client URLs.")

	fs.StringVar(&c.InitialCluster, "initial-cluster", "", "First members, as name=URL pairs; this member alone when not given.")
	fs.StringVar(&c.InitialClusterState, "initial-cluster-state", c.InitialClusterState, "new or existing.")
	fs.StringVar(&c.InitialClusterToken, "initial-cluster-token", c.InitialClusterToken, "Token of the cluster; two clusters need two.")
	fs.BoolVar(&c.StrictReconfigCheck, "strict-reconfig-check", c.StrictReconfigCheck, "Refuse membership changes that would cost the quorum.")
	fs.BoolVar(&c.PreVote, "pre-vote", c.PreVote, "Ask before an election whether it could be won.")
	fs.BoolVar(&c.ElectionTickAdvance, "initial-election-tick-advance", c.ElectionTickAdvance, "Shorten the first wait for an election.")

	fs.UintVar(&c.HeartbeatMillis, "heartbeat-interval", c.HeartbeatMillis, "Heartbeat interval in milliseconds.")
	fs.UintVar(&c.ElectionMillis, "election-timeout", c.ElectionMillis, "Election time-out in milliseconds.")
	fs.Uint64Var(&c.SnapshotCount, "snapshot-count", c.SnapshotCount, "Log entries after which the engine is flushed and the log shortened.")
	fs.Uint64Var(&c.SnapshotCatchUp, "snapshot-catchup-entries", c.SnapshotCatchUp, "Log entries kept for slow followers.")
	fs.Int64Var(&c.QuotaBackendBytes, "quota-backend-bytes", 0, "Bytes at which the NOSPACE alarm is raised; 0 is 2 GiB, a negative number none.")
	fs.UintVar(&c.MaxTxnOps, "max-txn-ops", c.MaxTxnOps, "Operations in a transaction.")
	fs.UintVar(&c.MaxRequestBytes, "max-request-bytes", c.MaxRequestBytes, "Bytes of a request.")
	fs.Uint32Var(&f.maxStreams, "max-concurrent-streams", math.MaxUint32, "Streams of a client connection.")
	fs.StringVar(&c.AutoCompactionMode, "auto-compaction-mode", c.AutoCompactionMode, "periodic or revision.")
	fs.StringVar(&c.AutoCompactionSetting, "auto-compaction-retention", c.AutoCompactionSetting, "History to keep: hours or a duration (periodic), or revisions (revision); 0 is off.")
	fs.DurationVar(&c.WatchProgressInterval, "watch-progress-notify-interval", c.WatchProgressInterval, "How often an idle watcher hears the revision.")
	fs.DurationVar(&c.KeepAliveMinTime, "grpc-keepalive-min-time", c.KeepAliveMinTime, "Shortest time between a client's pings.")
	fs.DurationVar(&c.KeepAliveInterval, "grpc-keepalive-interval", c.KeepAliveInterval, "Time between the server's pings; 0 is none.")
	fs.DurationVar(&c.KeepAliveTimeout, "grpc-keepalive-timeout", c.KeepAliveTimeout, "Time for an answer to a ping.")
	fs.BoolVar(&c.EnablePprof, "enable-pprof", false, "Serve profiles under /debug/pprof/ on the client URLs.")
	fs.BoolVar(&c.EnableGRPCGateway, "enable-grpc-gateway", c.EnableGRPCGateway, "Serve the API as JSON under /v3/ on the client URLs.")
	fs.StringVar(&c.AuthToken, "auth-token", c.AuthToken, "Tokens of users: simple, or jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=DURATION.")
	fs.UintVar(&c.AuthTokenTTLSeconds, "auth-token-ttl", c.AuthTokenTTLSeconds, "Seconds that a simple token lives unused.")
	fs.UintVar(&c.BcryptCost, "bcrypt-cost", c.BcryptCost, "Cost of hashing a password, 4 to 31; 10 for any other.")
	f.registerTLS(fs)
	f.registerRocksDB(fs)
	for _, name := range slices.Sorted(keys(ignored)) {
		fs.String(name, ignored[name], "Taken for etcd's sake; has no effect.")
	}
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (f *flags) registerTLS(fs *pflag.FlagSet) {
	client, peer := &f.c.ClientTLS, &f.c.PeerTLS
	fs.StringVar(&client.CertFile, "cert-file", "", "Certificate for client traffic.")
	fs.StringVar(&client.KeyFile, "key-file", "", "Key for client traffic.")
	fs.StringVar(&client.TrustedCAFile, "trusted-ca-file", "", "CA that client certificates are checked against.")
	fs.BoolVar(&client.ClientCertAuth, "client-cert-auth", false, "Ask clients for a certificate.")
	fs.BoolVar(&f.c.ClientAutoTLS, "auto-tls", false, "Client TLS with a certificate made at start.")
	fs.StringVar(&peer.CertFile, "peer-cert-file", "", "Certificate for peer traffic.")
	fs.StringVar(&peer.KeyFile, "peer-key-file", "", "Key for peer traffic.")
	fs.StringVar(&peer.TrustedCAFile, "peer-trusted-ca-file", "", "CA that peer certificates are checked against.")
	fs.BoolVar(&peer.ClientCertAuth, "peer-client-cert-auth", false, "Ask peers for a certificate.")
	fs.BoolVar(&f.c.PeerAutoTLS, "peer-auto-tls", false, "Peer TLS with a certificate made at start.")
}

func (f *flags) registerRocksDB(fs *pflag.FlagSet) {
	o := &f.c.RocksDB
	fs.Int64Var(&o.BlockCacheBytes, "rocksdb-block-cache-bytes", o.BlockCacheBytes, "Block cache.")
	fs.Int64Var(&o.WriteBufferBytes, "rocksdb-write-buffer-bytes", o.WriteBufferBytes, "One write buffer.")
	fs.IntVar(&o.MaxWriteBufferNumber, "rocksdb-max-write-buffer-number", o.MaxWriteBufferNumber, "Write buffers of a column family.")
	fs.IntVar(&o.MaxBackgroundJobs, "rocksdb-max-background-jobs", o.MaxBackgroundJobs, "Flushes and compactions at a time.")
	fs.IntVar(&o.BloomBitsPerKey, "rocksdb-bloom-bits-per-key", o.BloomBitsPerKey, "Bits of a bloom filter; 0 is none.")
	fs.StringVar(&f.compression, "rocksdb-compression", string(o.Compression), "none, lz4, zstd or snappy.")
	fs.IntVar(&o.MaxOpenFiles, "rocksdb-max-open-files", o.MaxOpenFiles, "Open files; -1 is no limit.")
	fs.IntVar(&o.Level0FileNumCompactionTrigger, "rocksdb-level0-file-num-compaction-trigger", o.Level0FileNumCompactionTrigger, "Files of level 0 that start a compaction.")
	fs.IntVar(&o.Level0SlowdownWritesTrigger, "rocksdb-level0-slowdown-writes-trigger", o.Level0SlowdownWritesTrigger, "Files of level 0 that slow writes down.")
	fs.IntVar(&o.Level0StopWritesTrigger, "rocksdb-level0-stop-writes-trigger", o.Level0StopWritesTrigger, "Files of level 0 that stop writes.")
	fs.Int64Var(&o.BytesPerSync, "rocksdb-bytes-per-sync", o.BytesPerSync, "Bytes after which a file being written is synced.")
}

// config brings flags, environment and config file together.
func (f *flags) config(fs *pflag.FlagSet) (node.Config, error) {
	if f.configFile == "" {
		f.configFile = os.Getenv("ETCD_CONFIG_FILE")
	}
	var err error
	if f.configFile != "" {
		err = readConfigFile(fs, f.configFile)
	} else {
		err = readEnvironment(fs)
	}
	if err != nil {
		return node.Config{}, err
	}
	c := f.c
	if c.Logger, err = newLogger(os.Stderr, f.logLevel); err != nil {
		return c, err
	}
	if c.DataDir == "" {
		c.DataDir = c.Name + ".metastore"
	}
	c.InitialTokenExplicit = fs.Changed("initial-cluster-token")
	c.MaxConcurrentStreams = f.maxStreams
	if err := f.parse(&c, fs); err != nil {
		return c, err
	}
	for name := range ignored {
		if fs.Changed(name) {
			c.Logger.Debug("flag has no effect", "flag", name)
		}
	}
	return c, c.Validate()
}

func (f *flags) parse(c *node.Config, fs *pflag.FlagSet) error {
	var errs [5]error
	c.ListenClientURLs, errs[0] = node.ParseURLs("listen-client-urls", f.listenClient)
	c.AdvertiseClientURLs, errs[1] = node.ParseURLs("advertise-client-urls", f.advertiseClient)
	c.ListenPeerURLs, errs[2] = node.ParseURLs("listen-peer-urls", f.listenPeer)
	c.AdvertisePeerURLs, errs[3] = node.ParseURLs("initial-advertise-peer-urls", f.advertisePeer)
	c.ListenMetricsURLs, errs[4] = node.ParseURLs("listen-metrics-urls", f.listenMetrics)
	if fs.Changed("listen-client-urls") && !fs.Changed("advertise-client-urls") {
		return errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")
	}
	c.RocksDB.Compression = rocksdb.Compression(f.compression)
	return errors.Join(errs[:]...)
}

func readEnvironment(fs *pflag.FlagSet) error {
	var errs []error
	fs.VisitAll(func(fl *pflag.Flag) {
		name := "ETCD_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		v, ok := os.LookupEnv(name)
		if !ok || v == "" || fl.Changed {
			return
		}
		if err := fs.Set(fl.Name, v); err != nil {
			errs = append(errs, fmt.Errorf("%s=%s is not valid: %w", name, v, err))
		}
	})
	return errors.Join(errs...)
}

// readConfigFile takes each key as the flag of that name.
func readConfigFile(fs *pflag.FlagSet, name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("--config-file: %w", err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(b, &values); err != nil {
		return fmt.Errorf("--config-file=%s is not YAML: %w", name, err)
	}
	values, err = flatten(values)
	if err != nil {
		return fmt.Errorf("--config-file=%s: %w", name, err)
	}
	var errs []error
	for _, key := range sortedKeys(values) {
		if fs.Lookup(key) == nil || key == "config-file" {
			errs = append(errs, fmt.Errorf("--config-file=%s: %q is not a setting; metastore --help lists them", name, key))
			continue
		}
		if err := fs.Set(key, fmt.Sprint(values[key])); err != nil {
			errs = append(errs, fmt.Errorf("--config-file=%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// flatten turns etcd's two nested sections into the flags' names.
func flatten(values map[string]any) (map[string]any, error) {
	flat := map[string]any{}
	for key, v := range values {
		var prefix string
		switch key {
		case "client-transport-security":
		case "peer-transport-security":
			prefix = "peer-"
		default:
			if d, ok := v.(time.Duration); ok {
				v = d.String()
			}
			if v != nil {
				flat[key] = v
			}
			continue
		}
		section, ok := v.(map[string]any)
		if !ok && v != nil {
			return nil, fmt.Errorf("%q has to be a section", key)
		}
		for k, inner := range section {
			if k == "auto-tls" || k == "client-cert-auth" || k == "cert-file" || k == "key-file" || k == "trusted-ca-file" {
				flat[prefix+k] = inner
				continue
			}
			return nil, fmt.Errorf("%q in %q is not a setting", k, key)
		}
	}
	return flat, nil
}

func sortedKeys(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
