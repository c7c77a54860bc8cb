package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"metastore.io/metastore/server/node"
)

// TestMain also looks for goroutines that nobody ends.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startMember is where clients reach a new member.
func startMember(t *testing.T) string {
	t.Helper()
	c := node.DefaultConfig()
	c.Logger = slog.New(slog.DiscardHandler)
	c.StorageEngine, c.DataDir = node.EngineMemory, filepath.Join(t.TempDir(), "data")
	clients := []url.URL{{Scheme: "http", Host: freeAddress(t)}}
	peers := []url.URL{{Scheme: "http", Host: freeAddress(t)}}
	c.ListenClientURLs, c.AdvertiseClientURLs, c.ListenPeerURLs, c.AdvertisePeerURLs = clients, clients, peers, peers
	c.InitialCluster = c.Name + "=" + peers[0].String()
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return clients[0].Host
}

// Both proxies pass on what clients do until their context ends, and leave
// nothing running then, whatever their clients were doing.
func TestRunEnds(t *testing.T) {
	member := startMember(t)
	for name, run := range map[string]func(ctx context.Context, listen string) error{
		"grpc-proxy": func(ctx context.Context, listen string) error {
			p := &GRPC{ListenAddr: listen, Endpoints: []string{member}, MaxConcurrentStreams: 100, AdvertiseClientURL: listen}
			return p.Run(ctx, zap.NewNop())
		},
		"gateway": func(ctx context.Context, listen string) error {
			return Gateway{ListenAddr: listen, Endpoints: []string{member}, RetryDelay: time.Second}.Run(ctx, zap.NewNop())
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			listen := freeAddress(t)
			ended := make(chan error, 1)
			go func() {
				defer stop()
				ended <- run(ctx, listen)
			}()
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{listen}, Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			soon, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			watch := c.Watch(soon, name, clientv3.WithCreatedNotify())
			if r := <-watch; !r.Created {
				stop()
				t.Fatalf("watch: %+v; %v", r, <-ended)
			}
			if _, err := c.Put(soon, name, "v"); err != nil {
				t.Fatal(err)
			}
			if r := <-watch; len(r.Events) != 1 {
				t.Fatalf("watch: %+v", r)
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
