package main

import (
	"context"
	"math"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapgrpc"
	"google.golang.org/grpc/grpclog"

	"metastore.io/metastore/server/proxy"
)

const defaultProxyAddr = "127.0.0.1:23790"

// newGRPCProxy is etcd's subcommand of the same name.
func newGRPCProxy() *cobra.Command {
	group := &cobra.Command{Use: "grpc-proxy <subcommand>", Short: "A proxy that speaks the API on both sides", Args: cobra.NoArgs}
	var p proxy.GRPC
	var debug bool
	start := &cobra.Command{
		Use: "start", Short: "Start the gRPC proxy", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			level := defaultLogLevel
			if debug {
				level = "debug"
			}
			return runProxy(level, p.Run)
		},
	}
	fs := start.Flags()
	fs.BoolVar(&debug, "debug", false, "Log more.")
	registerProxy(fs, &p)
	registerProxyTLS(fs, &p)
	group.AddCommand(start)
	return group
}

func registerProxy(fs *pflag.FlagSet, p *proxy.GRPC) {
	fs.StringVar(&p.ListenAddr, "listen-addr", defaultProxyAddr, "Address to listen on.")
	fs.StringVar(&p.MetricsAddr, "metrics-addr", "", "URL to answer /metrics on, beside the address.")
	registerEndpoints(fs, &p.Discovery, &p.Endpoints)
	fs.DurationVar(&p.AutoSyncInterval, "endpoints-auto-sync-interval", 0, "How often the members are asked for all members; 0 is never.")
	fs.DurationVar(&p.DialKeepAliveTime, "dial-keepalive-time", 0, "Time between pings to members; 0 is none.")
	fs.DurationVar(&p.DialKeepAliveTimeout, "dial-keepalive-timeout", 20*time.Second, "Time for a member's answer to a ping.")
	fs.BoolVar(&p.PermitWithoutStream, "permit-without-stream", false, "Ping members also while no request is under way.")
	fs.StringVar(&p.AdvertiseClientURL, "advertise-client-url", defaultProxyAddr, "Where clients find this proxy.")
	fs.StringVar(&p.ResolverPrefix, "resolver-prefix", "", "Prefix of the keys by which proxies are found; the same for all proxies.")
	fs.IntVar(&p.ResolverTTL, "resolver-ttl", 0, "Seconds that such a key outlives its proxy.")
	fs.StringVar(&p.Namespace, "namespace", "", "What goes before every key.")
	fs.BoolVar(&p.EnablePprof, "enable-pprof", false, "Serve profiles under /debug/pprof/.")
	fs.StringVar(&p.DataDir, "data-dir", "default.proxy", "Folder for certificates made by --auto-tls.")
	fs.IntVar(&p.MaxSendBytes, "max-send-bytes", 1.5*1024*1024, "Bytes of a request to a member.")
	fs.IntVar(&p.MaxRecvBytes, "max-recv-bytes", math.MaxInt32, "Bytes of a member's response.")
	fs.DurationVar(&p.KeepAliveMinTime, "grpc-keepalive-min-time", 5*time.Second, "Shortest time between a client's pings.")
	fs.DurationVar(&p.KeepAliveInterval, "grpc-keepalive-interval", 2*time.Hour, "Time between pings to clients; 0 is none.")
	fs.DurationVar(&p.KeepAliveTimeout, "grpc-keepalive-timeout", 20*time.Second, "Time for a client's answer to a ping.")
	fs.Uint32Var(&p.MaxConcurrentStreams, "max-concurrent-streams", math.MaxUint32, "Streams of a client connection.")
	fs.BoolVar(&p.SerializableOrdering, "experimental-serializable-ordering", false, "Let serializable reads never go back in time.")
	fs.StringVar(&p.LeasingPrefix, "experimental-leasing-prefix", "", "Prefix of the keys by which proxies lease keys that they read.")
	fs.BoolVar(&p.LogRequests, "experimental-enable-grpc-logging", false, "Log all requests and responses.")
}

func registerProxyTLS(fs *pflag.FlagSet, p *proxy.GRPC) {
	fs.StringVar(&p.Cert, "cert", "", "Certificate to show to members.")
	fs.StringVar(&p.Key, "key", "", "Its key.")
	fs.StringVar(&p.CACert, "cacert", "", "CA that members' certificates are checked against.")
	fs.BoolVar(&p.InsecureSkipTLSVerify, "insecure-skip-tls-verify", false, "Do not check members' certificates; for tests only.")
	fs.StringVar(&p.ListenTLS.CertFile, "cert-file", "", "Certificate to show to clients.")
	fs.StringVar(&p.ListenTLS.KeyFile, "key-file", "", "Its key.")
	fs.StringVar(&p.ListenTLS.TrustedCAFile, "trusted-ca-file", "", "CA that clients' certificates are checked against.")
	fs.StringVar(&p.ListenTLS.CRLFile, "client-crl-file", "", "Clients' certificates that are revoked.")
	fs.StringSliceVar(&p.ListenCipherSuites, "listen-cipher-suites", nil, "TLS cipher suites for clients; Go's when not given.")
	fs.BoolVar(&p.AutoTLS, "auto-tls", false, "TLS for clients with a certificate made at start.")
	fs.UintVar(&p.SelfSignedCertYears, "self-signed-cert-validity", 1, "Years that such a certificate holds.")
	fs.StringVar(&p.ListenTLSMin, "tls-min-version", string(tlsutil.TLSVersion12), "Lowest TLS version for clients: TLS1.2 or TLS1.3.")
	fs.StringVar(&p.ListenTLSMax, "tls-max-version", string(tlsutil.TLSVersionDefault), "Highest TLS version for clients: TLS1.2, TLS1.3 or, when empty, Go's.")
}

func registerEndpoints(fs *pflag.FlagSet, d *proxy.Discovery, endpoints *[]string) {
	fs.StringSliceVar(endpoints, "endpoints", []string{"127.0.0.1:2379"}, "Members, with commas between.")
	fs.StringVar(&d.Domain, "discovery-srv", "", "DNS domain whose SRV records name the members.")
	fs.StringVar(&d.ServiceName, "discovery-srv-name", "", "Suffix of the service's name in SRV records.")
	fs.BoolVar(&d.Insecure, "insecure-discovery", false, "Take SRV records without checking for TLS.")
}

// newGateway is etcd's subcommand of the same name.
func newGateway() *cobra.Command {
	group := &cobra.Command{Use: "gateway <subcommand>", Short: "A proxy that forwards TCP connections", Args: cobra.NoArgs}
	var g proxy.Gateway
	start := &cobra.Command{
		Use: "start", Short: "Start the gateway", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runProxy(defaultLogLevel, g.Run) },
	}
	fs := start.Flags()
	fs.StringVar(&g.ListenAddr, "listen-addr", defaultProxyAddr, "Address to listen on.")
	registerEndpoints(fs, &g.Discovery, &g.Endpoints)
	fs.StringVar(&g.Discovery.TrustedCAFile, "trusted-ca-file", "", "CA that discovered members' certificates are checked against.")
	fs.DurationVar(&g.RetryDelay, "retry-delay", time.Minute, "How long a member is left alone after it did not answer.")
	group.AddCommand(start)
	return group
}

// runProxy runs until a signal or a failure ends it.
func runProxy(level string, run func(context.Context, *zap.Logger) error) error {
	l, err := newLogs(logOptions{level: level, format: formatJSON, outputs: outputDefault, rotation: defaultRotation})
	if err != nil {
		return err
	}
	// A proxy's log tells its connections, too, as that of etcd's does.
	grpclog.SetLoggerV2(zapgrpc.NewLogger(l.zap))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return run(ctx, l.zap)
}
