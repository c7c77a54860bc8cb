package main

import (
	"math"

	"github.com/spf13/pflag"

	"metastore.io/metastore/server/node"
)

func (f *flags) register(fs *pflag.FlagSet) {
	f.c = node.DefaultConfig()
	fs.StringVar(&f.configFile, "config-file", "", "Path to the server configuration file. It replaces etcd's flags and environment variables; durations in it may also be whole nanoseconds.")
	f.registerMember(fs)
	f.registerCluster(fs)
	f.registerDiscovery(fs)
	f.registerRaft(fs)
	f.registerLimits(fs)
	f.registerChecks(fs)
	f.registerTLS(fs)
	f.registerAuth(fs)
	f.registerLog(fs)
	f.registerRocksDB(fs)
	registerIgnored(fs)
}

func (f *flags) registerMember(fs *pflag.FlagSet) {
	c := &f.c
	fs.StringVar(&c.Name, "name", c.Name, "Human-readable name for this member.")
	fs.StringVar(&c.DataDir, "data-dir", "", "Path to the data directory; ${name}.metastore when not given.")
	fs.StringVar(&c.StorageEngine, "storage-engine", c.StorageEngine, "rocksdb or memory.")
	fs.StringVar(&f.listenClient, "listen-client-urls", "http://localhost:2379", "URLs to listen on for client traffic.")
	fs.StringVar(&f.listenClientHTTP, "listen-client-http-urls", "", "URLs to listen on for HTTP only; the other client URLs then are for gRPC only.")
	fs.StringVar(&f.advertiseClient, "advertise-client-urls", "http://localhost:2379", "This member's client URLs to tell the cluster.")
	fs.StringVar(&f.listenPeer, "listen-peer-urls", "http://localhost:2380", "URLs to listen on for peer traffic.")
	fs.StringVar(&f.advertisePeer, "initial-advertise-peer-urls", "http://localhost:2380", "This member's peer URLs to tell the cluster.")
	fs.StringVar(&f.listenMetrics, "listen-metrics-urls", "", "URLs to answer /metrics, /health, /livez and /readyz on, beside the client URLs.")
	fs.BoolVar(&c.Socket.ReusePort, "socket-reuse-port", false, "Set SO_REUSEPORT on listeners.")
	fs.BoolVar(&c.Socket.ReuseAddress, "socket-reuse-address", false, "Set SO_REUSEADDR on listeners.")
	fs.BoolVar(&c.EnableGRPCGateway, "enable-grpc-gateway", c.EnableGRPCGateway, "Serve JSON over HTTP under /v3/.")
	fs.BoolVar(&c.EnablePprof, "enable-pprof", false, "Serve profiles under /debug/pprof/ on the client URLs.")
	fs.StringVar(&c.Metrics, "metrics", c.Metrics, "basic, or extensive for histograms of gRPC.")
	fs.StringVar(&f.featureGates, "feature-gates", "", "etcd's feature gates, as NAME=true|false pairs.")
	fs.StringVar(&f.cors, "cors", "*", "Origins that browsers may come from; * or nothing is all.")
	fs.StringVar(&f.hostWhitelist, "host-whitelist", "*", "Host names that HTTP requests without TLS may use; * or nothing is all.")
}

func (f *flags) registerCluster(fs *pflag.FlagSet) {
	c := &f.c
	fs.StringVar(&c.InitialCluster, "initial-cluster", "", "First members, as name=URL pairs; this member alone when not given.")
	fs.StringVar(&c.InitialClusterState, "initial-cluster-state", c.InitialClusterState, "new or existing.")
	fs.StringVar(&c.InitialClusterToken, "initial-cluster-token", c.InitialClusterToken, "Token of the cluster; two clusters need two.")
	fs.BoolVar(&c.ForceNewCluster, "force-new-cluster", false, "Begin a cluster of this member alone with its data; the others are forgotten.")
	fs.StringVar(&c.ForceNewClusterOnce, "force-new-cluster-once", "", "The same, for the first start with this word; later starts with it change nothing.")
	fs.BoolVar(&c.StrictReconfigCheck, "strict-reconfig-check", c.StrictReconfigCheck, "Refuse membership changes that would cost the quorum.")
	fs.IntVar(&c.MaxLearners, "max-learners", c.MaxLearners, "Learners that the cluster may have at a time.")
}

func (f *flags) registerDiscovery(fs *pflag.FlagSet) {
	d := &f.c.Discovery
	s := &d.Spec
	fs.StringVar(&d.SRV, "discovery-srv", "", "DNS domain whose SRV records name the first members.")
	fs.StringVar(&d.SRVName, "discovery-srv-name", "", "Suffix of the service's name in SRV records.")
	fs.StringVar(&d.Token, "discovery-token", "", "Token under which the first members find each other in another cluster.")
	fs.StringVar(&f.discoveryEndpoints, "discovery-endpoints", "", "Client URLs of the cluster in which the first members find each other.")
	fs.DurationVar(&s.DialTimeout, "discovery-dial-timeout", s.DialTimeout, "Discovery: time to connect.")
	fs.DurationVar(&s.RequestTimeout, "discovery-request-timeout", s.RequestTimeout, "Discovery: time for a request.")
	fs.DurationVar(&s.KeepAliveTime, "discovery-keepalive-time", s.KeepAliveTime, "Discovery: time between pings.")
	fs.DurationVar(&s.KeepAliveTimeout, "discovery-keepalive-timeout", s.KeepAliveTimeout, "Discovery: time for an answer to a ping.")
	fs.BoolVar(&s.Secure.InsecureTransport, "discovery-insecure-transport", s.Secure.InsecureTransport, "Discovery: connect without TLS.")
	fs.BoolVar(&s.Secure.InsecureSkipVerify, "discovery-insecure-skip-tls-verify", false, "Discovery: do not check the server's certificate.")
	fs.StringVar(&s.Secure.Cert, "discovery-cert", "", "Discovery: certificate to show.")
	fs.StringVar(&s.Secure.Key, "discovery-key", "", "Discovery: its key.")
	fs.StringVar(&s.Secure.Cacert, "discovery-cacert", "", "Discovery: CA of the server's certificate.")
	fs.StringVar(&s.Auth.Username, "discovery-user", "", "Discovery: user, or user:password.")
	fs.StringVar(&s.Auth.Password, "discovery-password", "", "Discovery: the user's password.")
}

func (f *flags) registerRaft(fs *pflag.FlagSet) {
	c := &f.c
	fs.UintVar(&c.HeartbeatMillis, "heartbeat-interval", c.HeartbeatMillis, "Heartbeat interval in milliseconds.")
	fs.UintVar(&c.ElectionMillis, "election-timeout", c.ElectionMillis, "Election time-out in milliseconds.")
	fs.BoolVar(&c.PreVote, "pre-vote", c.PreVote, "Ask before an election whether it could be won.")
	fs.BoolVar(&c.ElectionTickAdvance, "initial-election-tick-advance", c.ElectionTickAdvance, "Shorten the first wait for an election.")
	fs.Uint64Var(&c.SnapshotCount, "snapshot-count", c.SnapshotCount, "Log entries after which the engine is flushed and the log shortened.")
	fs.Uint64Var(&c.SnapshotCatchUp, "snapshot-catchup-entries", c.SnapshotCatchUp, "Log entries kept for slow followers.")
}

func (f *flags) registerLimits(fs *pflag.FlagSet) {
	c := &f.c
	fs.Int64Var(&c.QuotaBackendBytes, "quota-backend-bytes", 0, "Bytes at which the NOSPACE alarm is raised; 0 is 2 GiB, a negative number none.")
	fs.UintVar(&c.MaxTxnOps, "max-txn-ops", c.MaxTxnOps, "Operations in a transaction.")
	fs.UintVar(&c.MaxRequestBytes, "max-request-bytes", c.MaxRequestBytes, "Bytes of a request.")
	fs.Uint32Var(&c.MaxConcurrentStreams, "max-concurrent-streams", math.MaxUint32, "Streams of a client connection.")
	fs.StringVar(&c.AutoCompactionMode, "auto-compaction-mode", c.AutoCompactionMode, "periodic or revision.")
	fs.StringVar(&c.AutoCompactionSetting, "auto-compaction-retention", c.AutoCompactionSetting, "History to keep: hours or a duration (periodic), or revisions (revision); 0 is off.")
	fs.DurationVar(&c.WatchProgressInterval, "watch-progress-notify-interval", c.WatchProgressInterval, "How often an idle watcher hears the revision.")
	fs.DurationVar(&c.KeepAliveMinTime, "grpc-keepalive-min-time", c.KeepAliveMinTime, "Shortest time between a client's pings.")
	fs.DurationVar(&c.KeepAliveInterval, "grpc-keepalive-interval", c.KeepAliveInterval, "Time between the server's pings; 0 is gRPC's default.")
	fs.DurationVar(&c.KeepAliveTimeout, "grpc-keepalive-timeout", c.KeepAliveTimeout, "Time for an answer to a ping; 0 is gRPC's default.")
	fs.DurationVar(&c.WarnApplyAfter, "warning-apply-duration", c.WarnApplyAfter, "Time to apply commands that is worth a warning.")
	fs.DurationVar(&c.WarnRequestAfter, "warning-unary-request-duration", c.WarnRequestAfter, "Time to answer a request that is worth a warning.")
}

func (f *flags) registerChecks(fs *pflag.FlagSet) {
	c := &f.c
	fs.DurationVar(&c.CorruptCheckTime, "corrupt-check-time", 0, "Time between two comparisons of the members' data; 0 is never.")
	fs.DurationVar(&c.CompactHashCheckTime, "compact-hash-check-time", c.CompactHashCheckTime, "Time between two comparisons of compacted data, with the feature gate CompactHashCheck.")
	fs.UintVar(&c.DefragMegabytes, "bootstrap-defrag-threshold-megabytes", 0, "Defragment at the start when it frees this many megabytes; 0 is never.")
}

func (f *flags) registerTLS(fs *pflag.FlagSet) {
	c := &f.c
	client, peer := &c.ClientTLS, &c.PeerTLS
	fs.StringVar(&client.CertFile, "cert-file", "", "Certificate for client traffic.")
	fs.StringVar(&client.KeyFile, "key-file", "", "Key for client traffic.")
	fs.StringVar(&client.ClientCertFile, "client-cert-file", "", "Certificate to show where this member is a client of client URLs.")
	fs.StringVar(&client.ClientKeyFile, "client-key-file", "", "Key of --client-cert-file.")
	fs.BoolVar(&client.ClientCertAuth, "client-cert-auth", false, "Ask clients for a certificate.")
	fs.StringVar(&client.CRLFile, "client-crl-file", "", "Revoked certificates of clients.")
	fs.StringVar(&f.clientHosts, "client-cert-allowed-hostname", "", "Names of which a client's certificate has to have one.")
	fs.StringVar(&client.TrustedCAFile, "trusted-ca-file", "", "CA that client certificates are checked against.")
	fs.BoolVar(&c.ClientAutoTLS, "auto-tls", false, "Client TLS with a certificate made at start.")
	fs.StringVar(&peer.CertFile, "peer-cert-file", "", "Certificate for peer traffic.")
	fs.StringVar(&peer.KeyFile, "peer-key-file", "", "Key for peer traffic.")
	fs.StringVar(&peer.ClientCertFile, "peer-client-cert-file", "", "Certificate to show to peers; --peer-cert-file when not given.")
	fs.StringVar(&peer.ClientKeyFile, "peer-client-key-file", "", "Key of --peer-client-cert-file.")
	fs.BoolVar(&peer.ClientCertAuth, "peer-client-cert-auth", false, "Ask peers for a certificate.")
	fs.StringVar(&peer.CRLFile, "peer-crl-file", "", "Revoked certificates of peers.")
	fs.StringVar(&f.peerCNs, "peer-cert-allowed-cn", "", "Common names of which a peer's certificate has to have one.")
	fs.StringVar(&f.peerHosts, "peer-cert-allowed-hostname", "", "Names of which a peer's certificate has to have one.")
	fs.BoolVar(&peer.SkipClientSANVerify, "peer-skip-client-san-verification", false, "Do not compare a peer's certificate with where the peer comes from.")
	fs.StringVar(&peer.TrustedCAFile, "peer-trusted-ca-file", "", "CA that peer certificates are checked against.")
	fs.BoolVar(&c.PeerAutoTLS, "peer-auto-tls", false, "Peer TLS with a certificate made at start.")
	fs.UintVar(&c.SelfSignedYears, "self-signed-cert-validity", c.SelfSignedYears, "Years that certificates made at start hold.")
	fs.StringVar(&f.cipherSuites, "cipher-suites", "", "TLS cipher suites, by Go's names; Go's choice when not given.")
	fs.StringVar(&c.TLSMinVersion, "tls-min-version", c.TLSMinVersion, "TLS1.2 or TLS1.3.")
	fs.StringVar(&c.TLSMaxVersion, "tls-max-version", "", "TLS1.2 or TLS1.3; Go's choice when not given.")
	// What etcd's config file has and its command line has not.
	fs.StringVar(&f.clientCNs, clientCNsFlag, "", "Common names of which a client's certificate has to have one.")
	fs.BoolVar(&client.SkipClientSANVerify, clientSkipFlag, false, "Do not compare a client's certificate with where the client comes from.")
}

const (
	clientCNsFlag  = "client-cert-allowed-cn"
	clientSkipFlag = "client-skip-client-san-verification"
)

func (f *flags) registerAuth(fs *pflag.FlagSet) {
	c := &f.c
	fs.StringVar(&c.AuthToken, "auth-token", c.AuthToken, "Tokens of users: simple, or jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=DURATION.")
	fs.UintVar(&c.AuthTokenTTLSeconds, "auth-token-ttl", c.AuthTokenTTLSeconds, "Seconds that a simple token lives unused.")
	fs.UintVar(&c.BcryptCost, "bcrypt-cost", c.BcryptCost, "Cost of hashing a password, 4 to 31; 10 for any other.")
}

func (f *flags) registerLog(fs *pflag.FlagSet) {
	l := &f.log
	fs.StringVar(&l.level, "log-level", defaultLogLevel, "debug, info, warn, error, dpanic, panic or fatal.")
	fs.StringVar(&l.outputs, "log-outputs", outputDefault, "default or stderr, stdout, systemd/journal, or files, with commas between.")
	fs.StringVar(&l.format, "log-format", formatJSON, "json or console.")
	fs.BoolVar(&l.rotate, "enable-log-rotation", false, "Rotate the one file of --log-outputs.")
	fs.StringVar(&l.rotation, "log-rotation-config-json", defaultRotation, "How to rotate: megabytes, days and files to keep; 0 is no limit.")
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
