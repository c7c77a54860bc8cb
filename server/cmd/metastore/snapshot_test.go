package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"metastore.io/metastore/server/node"
)

// etcdServer is a real etcd in this process.
type etcdServer struct {
	dir, client, peer string
	client3           *clientv3.Client
}

// startEtcd starts a real etcd on a data dir, which may be restored or new.
func startEtcd(t *testing.T, dir, peer string) *etcdServer {
	t.Helper()
	e := &etcdServer{dir: dir, client: freeAddress(t), peer: peer}
	c := embed.NewConfig()
	c.Dir, c.Name, c.UnsafeNoFsync = dir, "etcd", true
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: e.client}}
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: e.peer}}
	c.AdvertiseClientUrls, c.AdvertisePeerUrls = c.ListenClientUrls, c.ListenPeerUrls
	c.InitialCluster = "etcd=http://" + e.peer
	s, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	select {
	case <-s.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("etcd is not ready after a minute")
	}
	if e.client3, err = clientv3.New(clientv3.Config{Endpoints: []string{e.client}, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.client3.Close() })
	return e
}

// restoreEtcd makes a data dir of a real etcd with its own tool, and starts it.
func restoreEtcd(t *testing.T, file string, bump uint64) *etcdServer {
	t.Helper()
	dir, peer := filepath.Join(t.TempDir(), "etcd"), freeAddress(t)
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, Name: "etcd", OutputDataDir: dir, PeerURLs: []string{"http://" + peer},
		InitialCluster: "etcd=http://" + peer, InitialClusterToken: "etcd-cluster",
		RevisionBump: bump, MarkCompacted: bump > 0,
	})
	if err != nil {
		t.Fatalf("etcdutl snapshot restore: %v", err)
	}
	return startEtcd(t, dir, peer)
}

// command runs this program's own command and returns its output and exit code.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asServer+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// restore makes a member's data dir from a snapshot, and starts it.
func (m *member) restore(file string, args ...string) {
	m.t.Helper()
	args = append([]string{
		"snapshot", "restore", file, "--name=" + m.name, "--data-dir=" + m.dir, "--storage-engine=" + m.engine,
		"--initial-cluster=" + m.initial, "--initial-advertise-peer-urls=http://" + m.peer,
	}, args...)
	if _, errs, code := command(m.t, args...); code != 0 {
		m.t.Fatalf("snapshot restore ends with %d: %s", code, errs)
	}
}

// save writes a store's snapshot to a file.
func save(t *testing.T, c *clientv3.Client) string {
	t.Helper()
	return saveVersion(t, c, "3.7.0")
}

// saveVersion is save for a store that tells another version.
func saveVersion(t *testing.T, c *clientv3.Client, version string) string {
	t.Helper()
	r, err := c.SnapshotWithVersion(within(t, 2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "snapshot.db")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, r.Snapshot)
	if err := errors.Join(err, f.Close(), r.Snapshot.Close()); err != nil {
		t.Fatal(err)
	}
	if r.Version != version {
		t.Errorf("the snapshot has the version %q", r.Version)
	}
	return name
}

// keepWriting puts until stop is called.
func keepWriting(t *testing.T, c *clientv3.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil {
			if _, err := c.Put(ctx, "busy", fmt.Sprint(n)); err == nil {
				n++
			}
		}
		done <- n
	}()
	return func() {
		cancel()
		if n := <-done; n == 0 {
			t.Error("no put succeeded beside the snapshot")
		}
	}
}

// wantStatus compares what etcdutl and this program tell of a file.
func wantStatus(t *testing.T, file string) {
	t.Helper()
	want, err := snapshot.NewV3(zap.NewNop()).Status(file)
	if err != nil {
		t.Fatalf("etcdutl snapshot status: %v", err)
	}
	out, errs, code := command(t, "snapshot", "status", file, "-w", "json")
	var got snapshot.Status
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("snapshot status ends with %d and prints %q: %v\n%s", code, out, err, errs)
	}
	if got != want || want.Version != "3.7.0" || want.TotalKey == 0 {
		t.Errorf("snapshot status tells %+v, etcdutl %+v", got, want)
	}
	simple, _, _ := command(t, "snapshot", "status", file)
	if prefix := fmt.Sprintf("%x, %d, %d, ", want.Hash, want.Revision, want.TotalKey); !strings.HasPrefix(simple, prefix) || !strings.HasSuffix(simple, ", 3.7.0\n") {
		t.Errorf("snapshot status prints %q, want it to begin with %q", simple, prefix)
	}
}

// Three members restored from one file are one cluster. One whose restore was
// forgotten does not begin empty beside them.
func TestSnapshotRestoresCluster(t *testing.T) {
	one := newMember(t, "one", node.EngineMemory)
	one.start()
	one.waitServing()
	c := client(t, one)
	if _, err := c.Put(within(t, 5*time.Second), "a", "1"); err != nil {
		t.Fatal(err)
	}
	file := save(t, c)
	members := newCluster(t, node.EngineMemory, 3)
	for _, m := range members[:2] {
		m.restore(file)
		m.start()
	}
	members[0].waitServing()
	forgotten := members[2]
	forgotten.start()
	if code := forgotten.exitCode(20 * time.Second); code != node.ExitEmpty {
		t.Fatalf("the member without data ends with %d:\n%s", code, tail(forgotten.out.String(), 5))
	}
	if err := os.RemoveAll(forgotten.dir); err != nil {
		t.Fatal(err)
	}
	forgotten.restore(file)
	forgotten.start()
	hashes := map[uint32]bool{}
	for _, m := range members {
		m.waitServing()
		r, err := client(t, m).Get(within(t, 5*time.Second), "a")
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "1" {
			t.Fatalf("%s: %v, %v", m.name, r, err)
		}
		h, err := client(t, m).HashKV(within(t, 5*time.Second), m.client, r.Header.Revision)
		if err != nil {
			t.Fatal(err)
		}
		hashes[h.Hash] = true
	}
	if len(hashes) != 1 {
		t.Errorf("the members' hashes differ: %v", hashes)
	}
}

// What cannot be restored is refused in one sentence, and nothing is touched.
func TestSnapshotRefusals(t *testing.T) {
	m := newMember(t, "m0", node.EngineMemory)
	m.start()
	m.waitServing()
	c := client(t, m)
	if _, err := c.Put(within(t, 5*time.Second), "a", "1"); err != nil {
		t.Fatal(err)
	}
	good := save(t, c)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flipped := bytes.Clone(content)
	flipped[len(flipped)-1] ^= 1
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "notes"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"wrong hash", []string{file("wrong", flipped)}, node.ExitFailure, "it is damaged: its sha256 is "},
		{"missing hash", []string{file("missing", content[:len(content)-32])}, node.ExitFailure, "it does not end with a sha256"},
		{"truncated", []string{file("truncated", content[:len(content)-4096])}, node.ExitFailure, "it is truncated: it has "},
		{"not bbolt", []string{file("text", []byte("not a database"))}, node.ExitFailure, "it is not a bbolt file"},
		{"no file", []string{good + ".not"}, node.ExitFailure, "no such file or directory"},
		{"no argument", nil, node.ExitUsage, "one snapshot file is needed, 0 arguments are given"},
		{"used data dir", []string{good, "--data-dir", used}, node.ExitForeign, "is not empty, it holds \"notes\""},
		{"bump alone", []string{good, "--bump-revision=5"}, node.ExitUsage, "--mark-compacted and a --bump-revision above 0 go together"},
		{"mark alone", []string{good, "--mark-compacted"}, node.ExitUsage, "--mark-compacted and a --bump-revision above 0 go together"},
		{"bump too far", []string{good, "--bump-revision=18446744073709551615", "--mark-compacted"}, node.ExitFailure, "--bump-revision=18446744073709551615 is not valid"},
		{"foreign name", []string{good, "--initial-cluster=other=http://localhost:2380"}, node.ExitUsage, "--initial-cluster=other=http://localhost:2380 is not valid"},
		{"peer URL", []string{good, "--initial-advertise-peer-urls=ftp://x:1"}, node.ExitUsage, "--initial-advertise-peer-urls=ftp://x:1 is not valid"},
		{"engine", []string{good, "--storage-engine=paper"}, node.ExitUsage, "--storage-engine=paper is not valid"},
		{"flag", []string{good, "--wal"}, node.ExitUsage, "unknown flag: --wal"},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		_, errs, code := command(t, append([]string{"snapshot", "restore", "--storage-engine=memory", "--data-dir", dir}, r.args...)...)
		if code != r.code || !strings.Contains(errs, r.want) || strings.Count(strings.TrimSpace(errs), "\n") > 0 {
			t.Errorf("%s ends with %d and says %q, want %d and %q", r.name, code, errs, r.code, r.want)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s made a data dir", r.name)
		}
	}
	if names, err := os.ReadDir(used); err != nil || len(names) != 1 {
		t.Errorf("the used data dir holds %v: %v", names, err)
	}
	if _, errs, code := command(t, "snapshot", "status", good, "-w", "xml"); code != node.ExitUsage || !strings.Contains(errs, "--write-out=xml is not valid") {
		t.Errorf("an unknown format ends with %d and says %q", code, errs)
	}
}

// wantNothingLeft looks for what a snapshot was made in.
func wantNothingLeft(t *testing.T, m *member) {
	t.Helper()
	if names, err := os.ReadDir(filepath.Join(m.dir, "tmp")); err != nil || len(names) > 0 {
		t.Errorf("the data dir keeps %v of the snapshot: %v", names, err)
	}
}
