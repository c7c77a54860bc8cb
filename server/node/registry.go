package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Errors of the registry that trying again does not mend; the texts are etcd's.
var (
	errSizeNotFound = errors.New("discovery: size key not found")
	errBadSize      = errors.New("discovery: size key is bad")
	errFullCluster  = errors.New("discovery: cluster is full")
)

const (
	registryPrefix = "/_etcd/registry"
	// registryRetry is the first wait after a failure; each is twice the one
	// before, up to registryRetryMax.
	registryRetry    = time.Second
	registryRetryMax = 16 * time.Second
)

// registry is where the first members of a new cluster find each other: keys
// below one token in another cluster, as etcd has them.
//
//	/_etcd/registry/TOKEN/_config/size      how many members there will be
//	/_etcd/registry/TOKEN/members/ID        name=URL,name=URL of one member
type registry struct {
	c       *clientv3.Client
	prefix  string
	self    string // this member's key
	timeout time.Duration
	l       *slog.Logger
}

func openRegistry(d Discovery, id string, l *slog.Logger) (*registry, error) {
	cfg, err := clientv3.NewClientConfig(&d.Spec, zap.NewNop())
	if err != nil {
		return nil, err
	}
	c, err := clientv3.New(*cfg)
	if err != nil {
		return nil, err
	}
	prefix := path.Join(registryPrefix, d.Token)
	return &registry{c: c, prefix: prefix, self: path.Join(prefix, "members", id), timeout: d.Spec.RequestTimeout, l: l}, nil
}

func (r *registry) close() {
	if err := r.c.Close(); err != nil {
		r.l.Debug("connection to the discovery cluster not closed", "error", err)
	}
}

// join registers this member and returns the list of all when they are there.
func (r *registry) join(ctx context.Context, self string) (string, error) {
	if _, err := r.look(ctx); err != nil { // a full cluster is told before
		return "", err
	}
	err := r.again(ctx, func(ctx context.Context) error {
		_, err := r.c.Put(ctx, r.self, self)
		return err
	})
	if err != nil {
		return "", err
	}
	view, err := r.look(ctx)
	for err == nil && len(view.members) < view.size {
		r.l.Info("waiting for peers from discovery service", "cluster-size", view.size, "found-peers", len(view.members))
		if err = r.wait(ctx, view.rev); err == nil {
			view, err = r.look(ctx)
		}
	}
	if err != nil {
		return "", err
	}
	return strings.Join(view.members[:view.size], ","), nil
}

// registered is what the registry held at a revision: who came first is first.
type registered struct {
	members []string
	size    int
	rev     int64
}

// look reads the registry. It is full for a member whose place is beyond its
// size.
func (r *registry) look(ctx context.Context) (view registered, err error) {
	err = r.again(ctx, func(ctx context.Context) error {
		if view.size, err = r.size(ctx); err != nil {
			return err
		}
		resp, err := r.c.Get(ctx, path.Join(r.prefix, "members"), clientv3.WithPrefix())
		if err != nil {
			return err
		}
		kvs := resp.Kvs
		slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
		view.members, view.rev = nil, resp.Header.Revision
		for i, kv := range kvs {
			if i >= view.size {
				break
			}
			view.members = append(view.members, strings.TrimSpace(string(kv.Value)))
		}
		own := slices.IndexFunc(kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == r.self })
		if own >= view.size || own < 0 && len(kvs) >= view.size {
			return errFullCluster
		}
		return nil
	})
	return view, err
}

func (r *registry) size(ctx context.Context) (int, error) {
	resp, err := r.c.Get(ctx, path.Join(r.prefix, "_config/size"))
	if err != nil {
		return 0, err
	}
	if len(resp.Kvs) == 0 {
		return 0, errSizeNotFound
	}
	n, err := strconv.Atoi(string(resp.Kvs[0].Value))
	if err != nil || n <= 0 {
		return 0, errBadSize
	}
	return n, nil
}

// wait returns when the registry has changed after a revision, or may have.
func (r *registry) wait(ctx context.Context, rev int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range r.c.Watch(ctx, path.Join(r.prefix, "members"), clientv3.WithPrefix(), clientv3.WithRev(rev+1)) {
		if resp.CompactRevision != 0 {
			return nil
		}
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch the registry: %w", err)
		}
		if len(resp.Events) > 0 {
			return nil
		}
	}
	return ctx.Err()
}

// again repeats a request until it succeeds or fails for good.
func (r *registry) again(ctx context.Context, request func(context.Context) error) error {
	for wait := registryRetry; ; wait = min(2*wait, registryRetryMax) {
		attempt, cancel := context.WithTimeout(ctx, r.timeout)
		err := request(attempt)
		cancel()
		if err == nil || errors.Is(err, errSizeNotFound) || errors.Is(err, errBadSize) || errors.Is(err, errFullCluster) {
			return err
		}
		r.l.Warn("retry connecting to discovery service", "error", err, "backoff", wait.String())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
