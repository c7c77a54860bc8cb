package proxy

import (
	"context"
	"fmt"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// newServer puts etcd's proxy of every service before the client.
func (p *GRPC) newServer(ctx context.Context, lg *zap.Logger, metrics *grpcprom.ServerMetrics, c *clientv3.Client) (*grpc.Server, error) {
	if err := p.wrap(ctx, lg, c); err != nil {
		return nil, err
	}
	g := grpc.NewServer(p.serverOptions(lg, metrics)...)
	// The channels beside the services close when their work ends, which is with
	// the client.
	kv, _ := grpcproxy.NewKvProxy(c)
	watch, _ := grpcproxy.NewWatchProxy(c.Ctx(), lg, c)
	if p.ResolverPrefix != "" {
		grpcproxy.Register(lg, c, p.ResolverPrefix, p.AdvertiseClientURL, p.ResolverTTL)
	}
	cluster, _ := grpcproxy.NewClusterProxy(lg, c, p.AdvertiseClientURL, p.ResolverPrefix)
	lease, _ := grpcproxy.NewLeaseProxy(c.Ctx(), c)
	pb.RegisterKVServer(g, kv)
	pb.RegisterWatchServer(g, watch)
	pb.RegisterClusterServer(g, cluster)
	pb.RegisterLeaseServer(g, lease)
	pb.RegisterMaintenanceServer(g, grpcproxy.NewMaintenanceProxy(c))
	pb.RegisterAuthServer(g, grpcproxy.NewAuthProxy(c))
	v3electionpb.RegisterElectionServer(g, grpcproxy.NewElectionProxy(c))
	v3lockpb.RegisterLockServer(g, grpcproxy.NewLockProxy(c))
	return g, nil
}

// orderingRetry is how long to wait for the first answer again.
const orderingRetry = time.Second

// wrap changes what the client does: orders its reads, moves its keys, leases
// them.
func (p *GRPC) wrap(ctx context.Context, lg *zap.Logger, c *clientv3.Client) error {
	if p.SerializableOrdering {
		c.KV = ordering.NewKV(c.KV, ordering.NewOrderViolationSwitchEndpointClosure(c))
		lg.Info("waiting for linearized read from cluster to recover ordering")
		for {
			_, err := c.Get(ctx, "_", clientv3.WithKeysOnly())
			if err == nil {
				break
			}
			lg.Warn("ordering recovery failed, retrying in 1s", zap.Error(err))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(orderingRetry):
			}
		}
	}
	if p.Namespace != "" {
		c.KV = namespace.NewKV(c.KV, p.Namespace)
		c.Watcher = namespace.NewWatcher(c.Watcher, p.Namespace)
		c.Lease = namespace.NewLease(c.Lease, p.Namespace)
	}
	if p.LeasingPrefix != "" {
		kv, _, err := leasing.NewKV(c, p.LeasingPrefix)
		if err != nil {
			return fmt.Errorf("lease keys: %w", err)
		}
		c.KV = kv
	}
	return nil
}

func (p *GRPC) serverOptions(lg *zap.Logger, metrics *grpcprom.ServerMetrics) []grpc.ServerOption {
	unary := []grpc.UnaryServerInterceptor{metrics.UnaryServerInterceptor()}
	stream := []grpc.StreamServerInterceptor{metrics.StreamServerInterceptor()}
	if p.LogRequests {
		log, events := requestLog(lg), logging.WithLogOnEvents(logging.StartCall, logging.PayloadReceived, logging.PayloadSent, logging.FinishCall)
		unary = append(unary, logging.UnaryServerInterceptor(log, events))
		stream = append(stream, logging.StreamServerInterceptor(log, events))
	}
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...),
		grpc.MaxConcurrentStreams(p.MaxConcurrentStreams),
	}
	if p.KeepAliveMinTime > 0 {
		options = append(options, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: p.KeepAliveMinTime}))
	}
	if p.KeepAliveInterval > 0 || p.KeepAliveTimeout > 0 {
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{Time: p.KeepAliveInterval, Timeout: p.KeepAliveTimeout}))
	}
	return options
}

func requestLog(lg *zap.Logger) logging.Logger {
	return logging.LoggerFunc(func(_ context.Context, _ logging.Level, text string, fields ...any) {
		lg.Sugar().Infow(text, fields...)
	})
}
