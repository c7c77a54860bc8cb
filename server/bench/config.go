package bench

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// Clients that can send the load.
const (
	ClientLean = "lean"
	ClientGRPC = "grpc"
)

// Config is what a run is told. Flags sets the defaults; Validate judges.
type Config struct {
	Endpoints   []string
	Client      string
	Connections int
	InFlight    int
	Count       int64
	Duration    time.Duration
	Timeout     time.Duration // without any reply
	AllowErrors bool
	Seed        uint64
	ServerPIDs  []int
	Progress    io.Writer // nil is none
	TLS         transport.TLSInfo
	Secure      bool // connect with TLS, also when no file is given

	Prefix     string
	KeySize    int
	ValueSize  int
	KeySpace   int
	Sequential bool

	Serializable bool
	RangeSize    int
	CountOnly    bool
	KeysOnly     bool
	WholePrefix  bool
	Stream       bool
	ReadPercent  int

	Watchers    int
	Streams     int
	WatchedKeys int
	Behind      int

	Leases     int
	TTLSeconds int64
}

// Flags adds the flags that all scenarios have.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&c.Endpoints, "endpoints", []string{"127.0.0.1:2379"}, "Members, with commas between; connections go to them in turn. https:// is with TLS.")
	fs.StringVar(&c.Client, "client", ClientLean, "lean, which costs little, or grpc, which is etcd's client for Go.")
	fs.IntVar(&c.Connections, "connections", 1, "Connections.")
	fs.IntVar(&c.InFlight, "in-flight", 64, "Requests under way at a time, over all connections.")
	fs.Int64Var(&c.Count, "count", 0, "Operations; 0 is as many as --duration allows.")
	fs.DurationVar(&c.Duration, "duration", 10*time.Second, "How long to measure; with --count, at most.")
	fs.DurationVar(&c.Timeout, "timeout", 30*time.Second, "How long no reply at all may come before the run is given up.")
	fs.BoolVar(&c.AllowErrors, "allow-errors", false, "Do not fail because of errors; they are counted all the same.")
	fs.Uint64Var(&c.Seed, "seed", 1, "What keys, values and their order come from.")
	fs.IntSliceVar(&c.ServerPIDs, "server-pid", nil, "Processes of the server on this machine whose CPU time, memory and writes are measured, with commas between.")
	fs.StringVar(&c.TLS.CertFile, "cert", "", "Certificate to show to the server.")
	fs.StringVar(&c.TLS.KeyFile, "key", "", "Its key.")
	fs.StringVar(&c.TLS.TrustedCAFile, "cacert", "", "CA that the server's certificate is checked against.")
	fs.BoolVar(&c.TLS.InsecureSkipVerify, "insecure-skip-tls-verify", false, "Do not check the server's certificate.")
	fs.StringVar(&c.Prefix, "prefix", "bench/", "What all keys begin with.")
	fs.IntVar(&c.KeySize, "key-size", 32, "Bytes of a key.")
	fs.IntVar(&c.ValueSize, "value-size", 256, "Bytes of a value.")
	fs.IntVar(&c.KeySpace, "key-space", 10_000, "Different keys.")
}

// Flag groups that scenarios add to those of all.

func (c *Config) orderFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.Sequential, "sequential", false, "Take keys in their order, not at random.")
}

func (c *Config) readFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.Serializable, "serializable", false, "Read what the member has, not what is linearizable.")
}

func (c *Config) rangeFlags(fs *pflag.FlagSet) {
	c.readFlags(fs)
	fs.IntVar(&c.RangeSize, "range-size", 1000, "Keys of a range.")
	fs.BoolVar(&c.CountOnly, "count-only", false, "Ask only how many keys there are.")
	fs.BoolVar(&c.KeysOnly, "keys-only", false, "Ask for keys without values.")
	fs.BoolVar(&c.WholePrefix, "whole-prefix", false, "Ask for all keys of the prefix; --range-size does not count.")
	fs.BoolVar(&c.Stream, "stream", false, "Read by RangeStream.")
}

func (c *Config) mixFlags(fs *pflag.FlagSet) {
	c.readFlags(fs)
	fs.IntVar(&c.ReadPercent, "read-percent", 50, "How many of 100 transactions read.")
}

func (c *Config) watchFlags(fs *pflag.FlagSet) {
	fs.IntVar(&c.Watchers, "watchers", 100, "Watchers.")
	fs.IntVar(&c.Streams, "streams", 1, "Streams that the watchers are spread over, each with a connection of its own.")
	fs.IntVar(&c.WatchedKeys, "watched-keys", 1, "Keys that are written; each watcher watches one.")
}

func (c *Config) lagFlags(fs *pflag.FlagSet) {
	fs.IntVar(&c.Behind, "behind", 100_000, "Revisions that the watcher is behind.")
}

func (c *Config) leaseFlags(fs *pflag.FlagSet) {
	fs.IntVar(&c.Leases, "leases", 1000, "Leases.")
}

func (c *Config) ttlFlags(ttl int64) func(fs *pflag.FlagSet) {
	return func(fs *pflag.FlagSet) {
		fs.Int64Var(&c.TTLSeconds, "ttl", ttl, "Seconds that a lease lives.")
	}
}

// refused is a value that a flag cannot have.
func refused(flag string, value any, allowed string) error {
	return fmt.Errorf("--%s=%v is not valid: %s is allowed", flag, value, allowed)
}

// Validate checks the values of all flags; those that a scenario does not have
// are zero.
func (c *Config) Validate() error {
	for _, v := range []struct {
		flag            string
		value, from, to int64
	}{
		{"connections", int64(c.Connections), 1, 100_000},
		{"in-flight", int64(c.InFlight), 1, 1_000_000},
		{"count", c.Count, 0, 1 << 40},
		{"key-space", int64(c.KeySpace), 1, 1_000_000_000},
		{"key-size", int64(c.KeySize), 1, 1 << 16},
		{"value-size", int64(c.ValueSize), minValueSize, 1 << 30},
		{"range-size", int64(c.RangeSize), 0, int64(c.KeySpace)},
		{"read-percent", int64(c.ReadPercent), 0, 100},
		{"watchers", int64(c.Watchers), 0, 1_000_000},
		{"streams", int64(c.Streams), 0, 10_000},
		{"watched-keys", int64(c.WatchedKeys), 0, int64(c.KeySpace)},
		{"behind", int64(c.Behind), 0, 1_000_000_000},
		{"leases", int64(c.Leases), 0, 10_000_000},
		{"ttl", c.TTLSeconds, 0, 9_000_000_000},
	} {
		if v.value < v.from || v.value > v.to {
			return refused(v.flag, v.value, fmt.Sprintf("%d to %d", v.from, v.to))
		}
	}
	if c.Client != ClientLean && c.Client != ClientGRPC {
		return refused("client", c.Client, ClientLean+" or "+ClientGRPC)
	}
	if c.Duration <= 0 {
		return refused("duration", c.Duration, "a time above 0")
	}
	if c.Timeout <= 0 {
		return refused("timeout", c.Timeout, "a time above 0")
	}
	if need := len(c.Prefix) + digits(c.KeySpace); c.KeySize < need {
		return refused("key-size", c.KeySize, fmt.Sprintf("%d to 65536, for --prefix=%s and --key-space=%d,", need, c.Prefix, c.KeySpace))
	}
	if c.Prefix == "" {
		return refused("prefix", `""`, "a text of one byte at least")
	}
	return c.readEndpoints()
}

// readEndpoints takes the schemes off; one of https is TLS for all.
func (c *Config) readEndpoints() error {
	var hosts []string
	for _, e := range c.Endpoints {
		scheme, host, found := strings.Cut(e, "://")
		switch {
		case !found:
			host = e
		case scheme == "https":
			c.Secure = true
		case scheme != "http":
			return refused("endpoints", e, "host:port, http://host:port or https://host:port")
		}
		if !strings.Contains(host, ":") {
			return refused("endpoints", e, "host:port, http://host:port or https://host:port")
		}
		hosts = append(hosts, strings.TrimSuffix(host, "/"))
	}
	if len(hosts) == 0 {
		return refused("endpoints", `""`, "one endpoint at least")
	}
	c.Endpoints = hosts
	return nil
}

// tlsConfig is nil for connections without TLS.
func (c *Config) tlsConfig() (*tls.Config, error) {
	if !c.Secure && c.TLS.Empty() && c.TLS.TrustedCAFile == "" {
		return nil, nil
	}
	config, err := c.TLS.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the TLS files: %w", err)
	}
	return config, nil
}
