package rpc

import (
	"context"
	"errors"

	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
)

// client is a client inside the process for the recipes of clientv3, whose
// calls are the caller's: they carry its context and are judged as its own. Its
// own context outlives the call, so that a recipe can tidy up after a caller
// that has gone. There is nothing to close.
func (s *Server) client(ctx context.Context) *clientv3.Client {
	c := clientv3.NewCtxClient(context.WithoutCancel(ctx))
	c.KV = clientv3.NewKVFromKVClient(localKV{kv: &kvServer{Server: s}}, c)
	c.Lease = localLease{lease: &leaseServer{Server: s}}
	c.Watcher = localWatcher{s}
	return c
}

// session is that of a lease, or of a new one for lease 0. Nobody renews the
// lease here: it is the caller's.
func (s *Server) session(ctx context.Context, lease int64) (*concurrency.Session, error) {
	session, err := concurrency.NewSession(s.client(ctx), concurrency.WithLease(clientv3.LeaseID(lease)), concurrency.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	session.Orphan()
	return session, nil
}

// localKV calls the service without a connection. Only what recipes use is
// there.
type localKV struct {
	pb.KVClient
	kv *kvServer
}

func (l localKV) Range(ctx context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return l.kv.rangeBy(ctx, r, (*state.Machine).RangeWithin)
}

func (l localKV) Put(ctx context.Context, r *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	return l.kv.Put(ctx, r)
}

func (l localKV) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest, _ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	return l.kv.DeleteRange(ctx, r)
}

func (l localKV) Txn(ctx context.Context, r *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	return l.kv.Txn(ctx, r)
}

// localLease grants leases and pretends to renew them.
type localLease struct {
	clientv3.Lease
	lease *leaseServer
}

func (l localLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	r := &pb.LeaseGrantRequest{TTL: ttl}
	if err := l.lease.allowCall(ctx, r); err != nil {
		return nil, rpctypes.Error(err)
	}
	resp, err := l.lease.LeaseGrant(ctx, r)
	if err != nil {
		return nil, rpctypes.Error(err)
	}
	return &clientv3.LeaseGrantResponse{ResponseHeader: resp.Header, ID: clientv3.LeaseID(resp.ID), TTL: resp.TTL, Error: resp.Error}, nil
}

// KeepAlive answers nothing until the context ends.
func (l localLease) KeepAlive(ctx context.Context, _ clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	c := make(chan *clientv3.LeaseKeepAliveResponse)
	context.AfterFunc(ctx, func() { close(c) })
	return c, nil
}

// localWatcher watches without a connection.
type localWatcher struct{ s *Server }

// Watch tells the events until the context ends; a watch that cannot go on
// closes the channel.
func (l localWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	c := make(chan clientv3.WatchResponse)
	op := clientv3.OpGet(key, opts...)
	go func() {
		defer close(c)
		err := l.run(ctx, watch.Request{Key: op.KeyBytes(), End: op.RangeBytes(), StartRevision: op.Rev()}, c)
		if err != nil && ctx.Err() == nil && !errors.Is(err, watch.ErrClosed) {
			l.s.o.Logger.Warn("watch of a lock or an election ended", "error", err)
		}
	}()
	return c
}

func (l localWatcher) run(ctx context.Context, r watch.Request, c chan<- clientv3.WatchResponse) error {
	if _, err := l.s.allowRange(ctx, r.Key, r.End); err != nil {
		return err
	}
	stream := l.s.b.Hub().NewStream()
	if err := stream.Create(ctx, r); err != nil {
		return err
	}
	return stream.Run(ctx, func(r watch.Response) error {
		if len(r.Parts) == 0 && r.CompactRevision == 0 {
			return r.Err
		}
		resp := clientv3.WatchResponse{Header: l.s.headerAt(r.Revision), Events: r.Events(), CompactRevision: r.CompactRevision, Canceled: r.CompactRevision != 0}
		select {
		case c <- resp:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// RequestProgress does nothing: no recipe asks for it.
func (l localWatcher) RequestProgress(context.Context) error { return nil }

// Close does nothing: a watch ends with its context.
func (l localWatcher) Close() error { return nil }
