package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// TestMain also looks for goroutines that nobody ends.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freeURL is an address that nobody listens on.
func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// threeConfigs are members that know each other.
func threeConfigs(t *testing.T) []Config {
	t.Helper()
	var configs []Config
	var initial []string
	for i := range 3 {
		c := DefaultConfig()
		c.Logger = slog.New(slog.DiscardHandler)
		c.Name, c.StorageEngine, c.DataDir = fmt.Sprint("m", i), EngineMemory, filepath.Join(t.TempDir(), "data")
		client, peer := freeURL(t), freeURL(t)
		c.ListenClientURLs, c.AdvertiseClientURLs = []url.URL{client}, []url.URL{client}
		c.ListenPeerURLs, c.AdvertisePeerURLs = []url.URL{peer}, []url.URL{peer}
		initial = append(initial, c.Name+"="+peer.String())
		configs = append(configs, c)
	}
	for i := range configs {
		configs[i].InitialCluster = strings.Join(initial, ",")
	}
	return configs
}

func startReady(t *testing.T, configs ...Config) (nodes []*Node) {
	t.Helper()
	for _, c := range configs {
		n, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Stop(context.Background()) }) // a test may have stopped it
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		select {
		case <-n.Ready():
		case <-time.After(60 * time.Second):
			t.Fatalf("%s is not ready", n.c.Name)
		}
	}
	return nodes
}

// Members that clients are busy with stop and leave nothing running: TestMain
// looks.
func TestStopLeavesNothingRunning(t *testing.T) {
	configs := threeConfigs(t)
	nodes := startReady(t, configs...)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{configs[0].ListenClientURLs[0].Host, configs[1].ListenClientURLs[0].Host}, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lease, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := c.KeepAlive(ctx, lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := <-alive; !ok || k.TTL != 60 {
		t.Fatalf("kept alive: %v", k)
	}
	watch := c.Watch(ctx, "k")
	if _, err := c.Put(ctx, "k", "v", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	if w := <-watch; len(w.Events) != 1 {
		t.Fatalf("watched %v", w)
	}
	stream, err := http.Post(configs[2].ListenClientURLs[0].String()+"/v3/watch", "application/json", strings.NewReader(`{"create_request":{"key":"aw=="}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer stream.Body.Close()

	if err := nodes[2].Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "k", "2"); err != nil {
		t.Fatal(err)
	}
	nodes[2] = startReady(t, configs[2])[0]
	for _, n := range nodes {
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
}
