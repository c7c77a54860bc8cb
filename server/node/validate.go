package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine/rocksdb"
)

const (
	// maxElectionMillis is etcd's upper bound of the election time-out.
	maxElectionMillis = 50_000
	maxRequestBytes   = 256 << 20
)

// Validate says what is wrong, with the flag, its value and what is allowed.
func (c *Config) Validate() error {
	for _, check := range []func() error{
		c.validateMember, c.validateURLs, c.validateBootstrap, c.validateTimes, c.validateLimits,
		c.validateSecurity, c.validateFeatures, c.validateStorage,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateMember() error {
	switch {
	case c.Name == "":
		return refuse("name", c.Name, "a name that is not empty")
	case c.Metrics != "" && c.Metrics != "basic" && c.Metrics != "extensive":
		return refuse("metrics", c.Metrics, "basic or extensive")
	}
	if _, err := auth.ParseScheme(c.AuthToken); err != nil {
		return fmt.Errorf("--auth-token: %w", err)
	}
	return nil
}

func (c *Config) validateBootstrap() error {
	if c.InitialClusterState != "new" && c.InitialClusterState != "existing" {
		return refuse("initial-cluster-state", c.InitialClusterState, "new or existing")
	}
	d := &c.Discovery
	ways := 0
	for _, given := range []bool{c.InitialCluster != "", d.SRV != "", len(d.Spec.Endpoints) > 0} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("only one of --initial-cluster, --discovery-endpoints and --discovery-srv is allowed")
	case (d.Token != "") != (len(d.Spec.Endpoints) > 0):
		return errors.New("both --discovery-token and --discovery-endpoints must be set")
	case slices.ContainsFunc(d.Spec.Endpoints, func(e string) bool { return strings.TrimSpace(e) == "" }):
		return refuse("discovery-endpoints", strings.Join(d.Spec.Endpoints, ","), "a list without empty endpoints")
	}
	return nil
}

func (c *Config) validateTimes() error {
	switch {
	case c.HeartbeatMillis == 0:
		return refuse("heartbeat-interval", c.HeartbeatMillis, "1 ms and more")
	case c.ElectionMillis < 5*c.HeartbeatMillis:
		return refuse("election-timeout", c.ElectionMillis, fmt.Sprintf("at least five times the heartbeat interval, %d ms", 5*c.HeartbeatMillis))
	case c.ElectionMillis > maxElectionMillis:
		return refuse("election-timeout", c.ElectionMillis, fmt.Sprintf("at most %d ms", maxElectionMillis))
	case c.CompactHashCheckTime <= 0:
		return refuse("compact-hash-check-time", c.CompactHashCheckTime, "a duration above 0")
	case c.CorruptCheckTime < 0:
		return refuse("corrupt-check-time", c.CorruptCheckTime, "0 and more")
	}
	_, err := c.compaction()
	return err
}

func (c *Config) validateLimits() error {
	switch {
	case c.SnapshotCount == 0:
		return refuse("snapshot-count", c.SnapshotCount, "1 and more")
	case c.MaxTxnOps == 0:
		return refuse("max-txn-ops", c.MaxTxnOps, "1 and more")
	case c.MaxRequestBytes == 0 || c.MaxRequestBytes > maxRequestBytes:
		return refuse("max-request-bytes", c.MaxRequestBytes, fmt.Sprintf("1 to %d", maxRequestBytes))
	case c.MaxLearners < 0:
		return refuse("max-learners", c.MaxLearners, "0 and more")
	}
	return nil
}

func (c *Config) validateStorage() error {
	switch {
	case c.StorageEngine != EngineMemory && c.StorageEngine != EngineRocksDB:
		return refuse("storage-engine", c.StorageEngine, "rocksdb or memory")
	case c.StorageEngine == EngineRocksDB && !rocksdb.Built:
		return refuse("storage-engine", c.StorageEngine, "memory: this binary was built without RocksDB (build it with -tags rocksdb)")
	case c.StorageEngine == EngineRocksDB:
		return c.RocksDB.Validate()
	}
	return nil
}

func (c *Config) validateSecurity() error {
	lowest, err := tlsutil.GetTLSVersion(c.TLSMinVersion)
	if err != nil {
		return refuse("tls-min-version", c.TLSMinVersion, "TLS1.2 or TLS1.3")
	}
	highest, err := tlsutil.GetTLSVersion(c.TLSMaxVersion)
	if err != nil {
		return refuse("tls-max-version", c.TLSMaxVersion, "TLS1.2 or TLS1.3")
	}
	if _, err := tlsutil.GetCipherSuites(c.CipherSuites); err != nil {
		return refuse("cipher-suites", strings.Join(c.CipherSuites, ","), fmt.Sprintf("a list of Go's names (%s): that", err))
	}
	switch {
	case highest != 0 && lowest > highest:
		return refuse("tls-min-version", c.TLSMinVersion, "a version up to --tls-max-version="+c.TLSMaxVersion)
	case lowest == tls.VersionTLS13 && len(c.CipherSuites) > 0:
		return refuse("cipher-suites", strings.Join(c.CipherSuites, ","), "none with --tls-min-version=TLS1.3, whose suites are fixed, that")
	case c.SelfSignedYears == 0 && (c.ClientAutoTLS || c.PeerAutoTLS):
		return refuse("self-signed-cert-validity", c.SelfSignedYears, "1 year and more")
	case len(c.PeerTLS.AllowedCNs) > 0 && len(c.PeerTLS.AllowedHostnames) > 0:
		return errors.New("only one of --peer-cert-allowed-cn and --peer-cert-allowed-hostname is allowed")
	}
	return c.validateTLSFiles()
}

// validateTLSFiles wants certificates where an address needs them.
func (c *Config) validateTLSFiles() error {
	if c.ClientTLS.Empty() && !c.ClientAutoTLS {
		for _, u := range slices.Concat(c.ListenClientURLs, c.ListenClientHTTPURLs) {
			if isTLS(u) {
				return fmt.Errorf("TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme", u.String())
			}
		}
		if usesTLS(c.ListenMetricsURLs) {
			return errors.New("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
		}
	}
	if c.PeerTLS.Empty() && !c.PeerAutoTLS {
		for _, u := range c.ListenPeerURLs {
			if isTLS(u) {
				return fmt.Errorf("TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url %s with HTTPS scheme", u.String())
			}
		}
	}
	return nil
}

func (c *Config) validateURLs() error {
	for _, l := range []struct {
		flag   string
		urls   []url.URL
		listen bool
		need   bool
	}{
		{"listen-client-urls", c.ListenClientURLs, true, true},
		{"listen-client-http-urls", c.ListenClientHTTPURLs, true, false},
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
	for _, u := range c.ListenClientHTTPURLs {
		if slices.ContainsFunc(c.ListenClientURLs, func(o url.URL) bool { return address(o) == address(u) }) {
			return refuse("listen-client-http-urls", u.String(), "an address that --listen-client-urls does not have")
		}
	}
	return nil
}

func checkURL(flag string, u url.URL, listen bool) error {
	switch u.Scheme {
	case "http", "https":
	case "unix", "unixs":
		if address(u) == "" {
			return refuse(flag, u.String(), "the path of a socket, such as unix:///run/metastore.sock,")
		}
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
	if !listen && host == "" {
		return refuse(flag, u.String(), "URLs with a host, which others use,")
	}
	return nil
}

func refuse(flag string, value any, allowed string) error {
	return fmt.Errorf("--%s=%v is not valid: %s is allowed", flag, value, allowed)
}

// ParseURLs reads a comma-separated list; what is in it twice counts once.
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
		if !slices.Contains(urls, *u) {
			urls = append(urls, *u)
		}
	}
	return urls, nil
}

// address is what a URL's listener binds: host and port, or a socket's path.
func address(u url.URL) string {
	if isUnix(u) {
		return u.Host + u.Path
	}
	return u.Host
}

func isUnix(u url.URL) bool { return u.Scheme == "unix" || u.Scheme == "unixs" }

func isTLS(u url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }

func usesTLS(urls []url.URL) bool { return slices.ContainsFunc(urls, isTLS) }
