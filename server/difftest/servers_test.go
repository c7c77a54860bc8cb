package difftest

import (
	"context"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
)

// limits are what tests change of the servers' configuration.
type limits struct {
	maxStreams uint32
	tcp        bool // clients come by TCP and not by a Unix socket
	// tls is for clients, who then come by TCP.
	tls transport.TLSInfo
}

// side is one of the servers that are compared.
type side struct {
	name string
	addr string // of the client URL: host:port, or a path
	conn *grpc.ClientConn
	// tokens are those that this server gave to users.
	tokens  map[string]string
	watches watches
}

// tickMillis and electionMillis make the first election quick. A lease lives
// one second at least.
const (
	tickMillis     = 10
	electionMillis = 100
	// tokenSeconds outlives every run: who loses a token when is no matter here.
	tokenSeconds = 1_000_000
)

// startSides starts etcd, which is the first, and a member of each engine.
func startSides(t testing.TB, l limits) []*side {
	t.Helper()
	sides := []*side{startEtcd(t, l)}
	for _, engine := range engines() {
		sides = append(sides, startMember(t, engine, l))
	}
	for _, s := range sides {
		s.tokens = map[string]string{}
		s.conn = dial(t, s.addr)
	}
	return sides
}

// engines are the storage engines that this build has.
func engines() []string {
	if rocksdb.Built {
		return []string{node.EngineRocksDB, node.EngineMemory}
	}
	return []string{node.EngineMemory}
}

// dataDir is a folder in memory where there is one: what is compared are
// answers, not what disks keep.
func dataDir(t testing.TB) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "difftest"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

// clientURL is where a server with its data in dir listens.
func (l limits) clientURL(t testing.TB, dir string) url.URL {
	t.Helper()
	scheme := "http"
	switch {
	case !l.tls.Empty():
		scheme = "https"
	case !l.tcp:
		return url.URL{Scheme: "unix", Path: filepath.Join(dir, "socket")}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	return url.URL{Scheme: scheme, Host: free.Addr().String()}
}

// peerURL is for a member that has no peers.
var peerURL = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}

func startEtcd(t testing.TB, l limits) *side {
	t.Helper()
	cfg := embed.NewConfig()
	dir := dataDir(t)
	cfg.Dir = filepath.Join(dir, "data")
	cfg.LogLevel = "fatal"
	cfg.UnsafeNoFsync = true
	cfg.TickMs, cfg.ElectionMs = tickMillis, electionMillis
	cfg.BcryptCost, cfg.AuthTokenTTL = uint(bcrypt.MinCost), tokenSeconds
	if l.maxStreams != 0 {
		cfg.MaxConcurrentStreams = l.maxStreams
	}
	u := l.clientURL(t, dir)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peerURL, peerURL
	cfg.ClientTLSInfo = l.tls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	return &side{name: "etcd", addr: u.Host + u.Path}
}

func startMember(t testing.TB, engine string, l limits) *side {
	t.Helper()
	c, dir := node.DefaultConfig(), dataDir(t)
	c.StorageEngine, c.DataDir = engine, filepath.Join(dir, "data")
	c.Logger = slog.New(slog.DiscardHandler)
	c.HeartbeatMillis, c.ElectionMillis = tickMillis, electionMillis
	c.BcryptCost, c.AuthTokenTTLSeconds = uint(bcrypt.MinCost), tokenSeconds
	if l.maxStreams != 0 {
		c.MaxConcurrentStreams = l.maxStreams
	}
	u := l.clientURL(t, dir)
	c.ListenClientURLs, c.AdvertiseClientURLs = []url.URL{u}, []url.URL{u}
	c.ListenPeerURLs, c.AdvertisePeerURLs = peerURL, peerURL
	c.ClientTLS = l.tls
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Errorf("stop %s: %v", engine, err)
		}
	})
	select {
	case <-n.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("%s is not ready", engine)
	}
	return &side{name: engine, addr: u.Host + u.Path}
}

// dial connects without the retries of etcd's client.
func dial(t testing.TB, addr string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	if filepath.IsAbs(addr) {
		addr = "unix:" + addr
	}
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	}, options...)
	conn, err := grpc.NewClient(addr, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
