package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
)

// The tests run real members: this test binary, started again as the server.
const asServer = "METASTORE_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		joinCgroup()
		useTestDNS()
		os.Exit(run(os.Args[1:]))
	}
	if os.Getenv(asEtcdctl) != "" {
		runEtcdctl()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// engines are the storage engines that this build has, or the wanted one.
func engines() []string {
	if *faultEngine != "" {
		return []string{*faultEngine}
	}
	if rocksdb.Built {
		return []string{node.EngineRocksDB, node.EngineMemory}
	}
	return []string{node.EngineMemory}
}

func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	for _, e := range engines() {
		t.Run(e, func(t *testing.T) { test(t, e) })
	}
}

// member is one server process; it can be stopped and started again.
type member struct {
	t            *testing.T
	name, dir    string
	client, peer string // host:port
	// advertised is where the other members reach peer.
	advertised string
	// netns is the network namespace of the process; "" for the test's own.
	netns   string
	engine  string
	initial string
	state   string
	extra   []string
	cmd     *exec.Cmd
	exited  chan struct{}
	out     *output
}

// output keeps what a process prints, for the test's log when it fails.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// given are the ports that freeAddress has handed out.
var given sync.Map

// freeAddress finds a port that nobody gets while its member is down: each is
// handed out once, and none is of those that systems choose for connections.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))
		if _, again := given.LoadOrStore(address, nil); again {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

func newMember(t *testing.T, name, engine string) *member {
	t.Helper()
	m := &member{
		t: t, name: name, dir: filepath.Join(t.TempDir(), name), engine: engine,
		client: freeAddress(t), peer: freeAddress(t), state: "new", out: &output{},
	}
	m.advertised = m.peer
	m.initial = name + "=http://" + m.peer
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, tail(m.out.String(), 60))
		}
	})
	return m
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (m *member) args() []string {
	return append([]string{
		"--name=" + m.name, "--data-dir=" + m.dir, "--storage-engine=" + m.engine,
		"--listen-client-urls=" + m.clientURL(), "--advertise-client-urls=" + m.clientURL(),
		"--listen-peer-urls=http://" + m.peer, "--initial-advertise-peer-urls=http://" + m.advertised,
		"--initial-cluster=" + m.initial, "--initial-cluster-state=" + m.state,
	}, m.extra...)
}

func (m *member) clientURL() string {
	if strings.HasPrefix(m.client, "unix:") {
		return m.client
	}
	return "http://" + m.client
}

func (m *member) start() {
	m.t.Helper()
	m.startArgs(m.args())
}

func (m *member) startArgs(args []string) {
	m.t.Helper()
	m.cmd = exec.Command(os.Args[0], args...)
	if m.netns != "" {
		m.cmd = exec.Command("ip", append([]string{"netns", "exec", m.netns, os.Args[0]}, args...)...)
	}
	m.cmd.Env = append(os.Environ(), asServer+"=1")
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	exited := make(chan struct{})
	m.exited = exited
	cmd := m.cmd
	go func() {
		_ = cmd.Wait() // the state of the process says how it ended
		close(exited)
	}()
}

func (m *member) running() bool {
	if m.cmd == nil {
		return false
	}
	select {
	case <-m.exited:
		return false
	default:
		return true
	}
}

func (m *member) signal(s os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatalf("signal %s: %v", m.name, err)
	}
}

// kill ends the process as a power cut of the process would.
func (m *member) kill() {
	if m.running() {
		_ = m.cmd.Process.Kill() // it may end by itself just now
		<-m.exited
	}
}

// exitCode waits for the end of the process.
func (m *member) exitCode(limit time.Duration) int {
	m.t.Helper()
	select {
	case <-m.exited:
		return m.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		m.t.Fatalf("%s still runs after %s", m.name, limit)
		return 0
	}
}

// terminate stops the process as Kubernetes does.
func (m *member) terminate() {
	m.t.Helper()
	m.signal(syscall.SIGTERM)
	if code := m.exitCode(15 * time.Second); code != 0 {
		m.t.Fatalf("%s ended with code %d after SIGTERM", m.name, code)
	}
}

// newCluster makes n members that know each other; start them.
func newCluster(t *testing.T, engine string, n int, extra ...string) []*member {
	t.Helper()
	var members []*member
	for i := range n {
		m := newMember(t, fmt.Sprintf("m%d", i), engine)
		m.extra = extra
		members = append(members, m)
	}
	introduce(members)
	return members
}

// introduce tells the members of a new cluster where they reach each other.
func introduce(members []*member) {
	var initial []string
	for _, m := range members {
		initial = append(initial, m.name+"=http://"+m.advertised)
	}
	for _, m := range members {
		m.initial = strings.Join(initial, ",")
	}
}

func startCluster(t *testing.T, engine string, n int, extra ...string) []*member {
	t.Helper()
	members := newCluster(t, engine, n, extra...)
	for _, m := range members {
		m.start()
	}
	for _, m := range members {
		m.waitServing()
	}
	return members
}

// client connects to the given members.
func client(t *testing.T, members ...*member) *clientv3.Client {
	t.Helper()
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		// A killed member is back within the second: do not wait for it longer.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond}, MinConnectTimeout: time.Second,
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually calls check until it gives nil.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond) // between two looks, not instead of one
	}
}

// waitServing waits until the member answers a linearizable read.
func (m *member) waitServing() {
	m.t.Helper()
	c := client(m.t, m)
	defer c.Close()
	eventually(m.t, 20*time.Second, func() error {
		if !m.running() {
			m.t.Fatalf("%s ended with code %d:\n%s", m.name, m.exitCode(time.Second), tail(m.out.String(), 20))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.Get(ctx, "\x00waitServing")
		return err
	})
}

// leader finds the member that leads.
func leader(t *testing.T, members []*member) *member {
	t.Helper()
	var found *member
	eventually(t, 20*time.Second, func() error {
		for _, m := range members {
			if !m.running() {
				continue
			}
			c := client(t, m)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			s, err := c.Status(ctx, m.client)
			cancel()
			_ = c.Close()
			if err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
				found = m
				return nil
			}
		}
		return fmt.Errorf("no member leads")
	})
	return found
}
