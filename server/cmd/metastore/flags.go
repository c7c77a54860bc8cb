package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/pkg/v3/netutil"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
)

// flags are etcd's, by etcd's names, and MetaStore's own. A flag that is not
// given may come from the environment as ETCD_NAME_IN_CAPITALS. A config file
// replaces both, as etcd has it.
type flags struct {
	configFile string
	log        logOptions
	c          node.Config

	// Lists, as they are given.
	listenClient, listenClientHTTP, advertiseClient, listenPeer, advertisePeer, listenMetrics string
	cors, hostWhitelist, cipherSuites                                                         string
	clientHosts, clientCNs, peerHosts, peerCNs                                                string
	discoveryEndpoints                                                                        string
	featureGates, compression                                                                 string

	// notes are to be logged when there is a logger.
	notes []note
}

// note is a line for a logger that is not there yet.
type note struct {
	level slog.Level
	text  string
	attrs []any
}

func (f *flags) note(level slog.Level, text string, attrs ...any) {
	f.notes = append(f.notes, note{level, text, attrs})
}

// config brings flags, environment and config file together.
func (f *flags) config(fs *pflag.FlagSet) (node.Config, error) {
	file := f.configFile
	if file == "" {
		file = os.Getenv(variable("config-file"))
	}
	if file == "" {
		if err := f.readEnvironment(fs); err != nil {
			return node.Config{}, err
		}
		if fs.Changed("listen-client-urls") && !fs.Changed("advertise-client-urls") {
			return node.Config{}, errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")
		}
		return f.build(fs)
	}
	fromFile := &flags{}
	all := pflag.NewFlagSet("file", pflag.ContinueOnError)
	fromFile.register(all)
	if err := errors.Join(f.readEnvironmentOf(fs, own), copyOwn(fs, all)); err != nil {
		return node.Config{}, err
	}
	if err := fromFile.readConfigFile(all, file); err != nil {
		return node.Config{}, err
	}
	fromFile.note(slog.LevelInfo, "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided", "path", file)
	return fromFile.build(all)
}

// own tells MetaStore's own flags from etcd's: a config file of etcd does not
// know them, so that it does not replace them either.
func own(name string) bool { return name == "storage-engine" || strings.HasPrefix(name, "rocksdb-") }

func copyOwn(from, to *pflag.FlagSet) error {
	var errs []error
	from.Visit(func(fl *pflag.Flag) {
		if own(fl.Name) {
			errs = append(errs, to.Set(fl.Name, fl.Value.String()))
		}
	})
	return errors.Join(errs...)
}

// build makes the config of what the flags hold now.
func (f *flags) build(fs *pflag.FlagSet) (node.Config, error) {
	c := f.c
	logs, err := newLogs(f.log)
	if err != nil {
		return c, err
	}
	c.Logger, c.ClientTLS.Logger, c.PeerTLS.Logger = logs.slog, logs.zap, logs.zap
	c.Debug = f.log.level == "debug"
	for _, n := range f.notes {
		c.Logger.Log(context.Background(), n.level, n.text, n.attrs...)
	}
	if c.DataDir == "" {
		c.DataDir = c.Name + ".metastore"
		c.Logger.Warn("'data-dir' was empty; using default", "data-dir", c.DataDir)
	}
	if c.WatchProgressInterval == 0 { // as etcd takes it
		c.WatchProgressInterval = node.DefaultConfig().WatchProgressInterval
	}
	c.InitialTokenExplicit = fs.Changed("initial-cluster-token")
	if err := errors.Join(f.parse(&c), checkIgnored(fs)); err != nil {
		return c, err
	}
	f.useDefaultHost(&c, fs)
	tellIgnored(&c, fs)
	return c, c.Validate()
}

func (f *flags) parse(c *node.Config) error {
	var errs []error
	for _, l := range []struct {
		flag, list string
		into       *[]url.URL
	}{
		{"listen-client-urls", f.listenClient, &c.ListenClientURLs},
		{"listen-client-http-urls", f.listenClientHTTP, &c.ListenClientHTTPURLs},
		{"advertise-client-urls", f.advertiseClient, &c.AdvertiseClientURLs},
		{"listen-peer-urls", f.listenPeer, &c.ListenPeerURLs},
		{"initial-advertise-peer-urls", f.advertisePeer, &c.AdvertisePeerURLs},
		{"listen-metrics-urls", f.listenMetrics, &c.ListenMetricsURLs},
	} {
		urls, err := node.ParseURLs(l.flag, l.list)
		*l.into = urls
		errs = append(errs, err)
	}
	c.HostWhitelist, c.CipherSuites = split(f.hostWhitelist), split(f.cipherSuites)
	c.ClientTLS.AllowedHostnames, c.ClientTLS.AllowedCNs = split(f.clientHosts), split(f.clientCNs)
	c.PeerTLS.AllowedHostnames, c.PeerTLS.AllowedCNs = split(f.peerHosts), split(f.peerCNs)
	c.Discovery.Spec.Endpoints = split(f.discoveryEndpoints)
	c.RocksDB.Compression = rocksdb.Compression(f.compression)
	if err := c.Features.Set(f.featureGates); err != nil {
		errs = append(errs, fmt.Errorf("--feature-gates=%s is not valid: %w; NAME=true|false pairs are allowed, of %s",
			f.featureGates, err, strings.Join(c.Features.KnownFeatures(), ", ")))
	}
	origins, err := parseOrigins(f.cors)
	c.CORS = origins
	return errors.Join(append(errs, err)...)
}

// split reads a comma-separated list; nothing is no list.
func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// parseOrigins reads URLs, or a star.
func parseOrigins(list string) ([]string, error) {
	if list == "" || list == "*" {
		return split(list), nil
	}
	urls, err := types.NewURLs(split(list))
	if err != nil {
		return nil, refuse("cors", list, fmt.Sprintf("* or URLs with scheme, host and port (%s), that", err))
	}
	return slices.Compact(urls.StringSlice()), nil
}

// useDefaultHost advertises the machine's own address where a listener is on all
// addresses and nothing was said about what to advertise, as etcd does.
func (f *flags) useDefaultHost(c *node.Config, fs *pflag.FlagSet) {
	for _, l := range []struct {
		flag      string
		listen    []url.URL
		advertise *[]url.URL
	}{
		{"initial-advertise-peer-urls", c.ListenPeerURLs, &c.AdvertisePeerURLs},
		{"advertise-client-urls", c.ListenClientURLs, &c.AdvertiseClientURLs},
	} {
		if fs.Changed(l.flag) || len(l.listen) == 0 || l.listen[0].Hostname() != "0.0.0.0" {
			continue
		}
		host, err := netutil.GetDefaultHost()
		if err != nil {
			c.Logger.Info("failed to detect default host", "error", err)
			return
		}
		u := (*l.advertise)[0]
		u.Host = host + ":" + l.listen[0].Port()
		*l.advertise = []url.URL{u}
		c.Logger.Info("detected default host for advertise", "host", host, "flag", l.flag)
	}
}

// tellIgnored says which flags that were given have no effect.
func tellIgnored(c *node.Config, fs *pflag.FlagSet) {
	fs.Visit(func(fl *pflag.Flag) {
		if text, ok := deprecated[fl.Name]; ok {
			c.Logger.Warn(text)
		} else if i, ok := ignored[fl.Name]; ok && fl.Value.String() != fl.DefValue {
			c.Logger.Info("flag has no effect", "flag", fl.Name, "reason", i.why)
		} else if slices.Contains(retired, fl.Name) {
			c.Logger.Warn("flag is no longer supported - ignoring", "flag-name", fl.Name)
		}
	})
}
