package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// damageEngines are the storage engines that this build has.
func damageEngines() []string {
	if rocksdb.Built {
		return []string{EngineMemory, EngineRocksDB}
	}
	return []string{EngineMemory}
}

// content is everything that a member holds, as lines of text.
type content []string

func (c *content) add(format string, args ...any) { *c = append(*c, fmt.Sprintf(format, args...)) }

// contentOf reads all keys with their history, leases, users, roles, members and
// alarms.
func contentOf(m *state.Machine) (content, error) {
	var c content
	kv := m.KV()
	c.add("revision %d, compacted %d", kv.Rev(), kv.CompactRev())
	hash, compact, rev, err := kv.HashKV(0)
	if err != nil {
		return nil, err
	}
	c.add("hash %08x at %d, compacted %d", hash, rev, compact)
	all, err := kv.Range([]byte{0}, []byte{0}, mvcc.RangeOptions{})
	if err != nil {
		return nil, err
	}
	for _, pair := range all.KVs {
		c.add("pair %s", text(pair))
	}
	for from := max(kv.CompactRev(), 1); from <= kv.Rev(); {
		from, err = kv.History(from, kv.Rev(), 64<<10, true, func(rev int64, events []*mvccpb.Event) error {
			for _, e := range events {
				c.add("event %d: %s %s, was %s", rev, e.Type, text(e.Kv), text(e.PrevKv))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	leases := m.Leases()
	for _, id := range leases.List() {
		l, _ := leases.Lookup(id)
		c.add("lease %x: %d s, keys %q", id, l.TTLSeconds, leases.Keys(id))
	}
	users := m.Auth()
	c.add("auth %v", users.Enabled())
	for _, u := range users.Users() {
		c.add("user %s", text(u))
	}
	for _, r := range users.Roles() {
		c.add("role %s", text(r))
	}
	c.add("cluster %x, version %s", m.ClusterID(), m.ClusterVersion())
	for _, member := range m.Members() {
		c.add("member %+v", member)
	}
	c.add("alarms %v", m.Alarms())
	return c, nil
}

// text is a message's bytes, since its String is not stable.
func text(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%q", b)
}

// diffContent says where two contents differ first, "" when they do not.
func diffContent(got, want content) string {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			return fmt.Sprintf("line %d: got %.300s, want %.300s", i, g, w)
		}
	}
	return ""
}

// storedDir is a data dir that a member left.
type storedDir struct {
	name, engine, dir string
	truth             content
	// files are the parts of files of each class.
	files map[string][]part
}

// config is that of the one member that the dirs belong to.
func (d *storedDir) config(dir string) Config { return loneConfig(d.engine, dir) }

// loneConfig is that of a cluster of one whose ports are chosen at each start.
func loneConfig(engine, dir string) Config {
	c := DefaultConfig()
	c.StorageEngine, c.DataDir = engine, dir
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientURLs, c.ListenPeerURLs = local, local
	c.HeartbeatMillis, c.ElectionMillis = 10, 100
	c.SnapshotCount, c.SnapshotCatchUp = 30, 20
	c.Logger = slog.New(slog.DiscardHandler)
	return c
}

// storedDirs makes data dirs of one engine with everything in them: closed in
// order, left by a kill, and with a state that came as a snapshot.
func storedDirs(t *testing.T, engine string) []*storedDir {
	t.Helper()
	base := t.TempDir()
	live := filepath.Join(base, "closed")
	n, err := Start(t.Context(), loneConfig(engine, live))
	if err != nil {
		t.Fatal(err)
	}
	fillMember(t, n)
	truth, err := contentOf(n.host.Machine())
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(base, "killed")
	if err := os.CopyFS(killed, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	received := filepath.Join(base, "received")
	if err := os.CopyFS(received, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	receiveSnapshot(t, loneConfig(engine, received))
	var dirs []*storedDir
	for _, dir := range []string{live, killed, received} {
		d := &storedDir{name: engine + ", " + filepath.Base(dir), engine: engine, dir: dir, truth: truth, files: map[string][]part{}}
		d.list(t)
		found, err := readDir(copyOf(t, d))
		if err != nil {
			t.Fatalf("%s without damage: %v", d.name, err)
		}
		if diff := diffContent(found, truth); diff != "" {
			t.Fatalf("%s without damage: %s", d.name, diff)
		}
		dirs = append(dirs, d)
	}
	return dirs
}

func copyOf(t *testing.T, d *storedDir) Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(d.dir)); err != nil {
		t.Fatal(err)
	}
	return d.config(dir)
}

// list sorts the files into classes.
func (d *storedDir) list(t *testing.T) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(d.dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil || len(b) == 0 {
			return err
		}
		used := len(b)
		if strings.HasPrefix(name, logDir+"/") {
			used = len(strings.TrimRight(string(b), "\x00"))
			d.files["log, unused room"] = append(d.files["log, unused room"], part{name, int64(used), int64(len(b))})
		}
		for _, c := range classes {
			if c.is(name) {
				d.files[c.name] = append(d.files[c.name], part{name, 0, int64(used)})
				return nil
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// receiveSnapshot makes the state of a data dir one that came as a snapshot: its
// own.
func receiveSnapshot(t *testing.T, c Config) {
	t.Helper()
	n := &Node{c: &c, metrics: newMetrics()}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	n.dir, err = openDataDir(disk.OS(), c.DataDir)
	check(err)
	check(n.openStorage())
	check(replica.Recover(n.log, group, n.machine))
	snap, err := n.machine.Snapshot()
	check(err)
	stream, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	check(err)
	check(replica.WriteSnapshot(stream, group, snap.Index, snap.Term, snap))
	_, err = stream.Seek(0, 0)
	check(err)
	imp, err := n.engines.Import()
	check(err)
	_, _, err = replica.ReadSnapshot(stream, group, imp.Engine)
	check(errors.Join(err, snap.Close(), stream.Close()))
	check(imp.Adopt())
	check(errors.Join(n.closeStorage(), imp.Engine.Close()))
	check(n.engines.RemoveReplaced())
}

// fillMember writes keys with history, leases and users. The engine is flushed on
// the way, so that tables and log each hold a part.
func fillMember(t *testing.T, n *Node) {
	t.Helper()
	<-n.Ready()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{n.serve.client[0].l.Addr().String()}, Context: t.Context(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	f := &filler{t: t, c: client, r: rand.New(rand.NewPCG(1, 1))}
	f.leases(4)
	f.writes(150)
	f.users()
	f.writes(100)
	if _, err := client.Compact(t.Context(), f.rev/2, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	f.leases(2)
	f.writes(60)
	if _, err := client.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
}

type filler struct {
	t   *testing.T
	c   *clientv3.Client
	r   *rand.Rand
	rev int64
	ids []clientv3.LeaseID
}

func (f *filler) leases(count int) {
	f.t.Helper()
	for range count {
		l, err := f.c.Grant(f.t.Context(), 100_000)
		if err != nil {
			f.t.Fatal(err)
		}
		f.ids = append(f.ids, l.ID)
	}
}

// writes puts, deletes and does both in transactions.
func (f *filler) writes(count int) {
	f.t.Helper()
	for range count {
		ops := []clientv3.Op{f.op()}
		for f.r.IntN(4) == 0 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("txn/%d/%d", f.r.IntN(20), len(ops)), f.value()))
		}
		resp, err := f.c.Txn(f.t.Context()).Then(ops...).Commit()
		if err != nil {
			f.t.Fatal(err)
		}
		f.rev = resp.Header.Revision
	}
}

func (f *filler) op() clientv3.Op {
	key := fmt.Sprintf("key/%02d", f.r.IntN(60))
	switch f.r.IntN(8) {
	case 0:
		return clientv3.OpDelete(key)
	case 1, 2:
		return clientv3.OpPut(key, f.value(), clientv3.WithLease(f.ids[f.r.IntN(len(f.ids))]))
	}
	return clientv3.OpPut(key, f.value())
}

func (f *filler) value() string {
	n := f.r.IntN(200)
	if f.r.IntN(30) == 0 {
		n = 5000
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.r.IntN(256))
	}
	return string(b)
}

func (f *filler) users() {
	f.t.Helper()
	ctx := f.t.Context()
	do := func(_ any, err error) {
		f.t.Helper()
		if err != nil {
			f.t.Fatal(err)
		}
	}
	for _, name := range []string{"root", "reader"} {
		do(f.c.RoleAdd(ctx, name))
		do(f.c.UserAdd(ctx, name, "secret"))
		do(f.c.UserGrantRole(ctx, name, name))
	}
	do(f.c.RoleGrantPermission(ctx, "reader", "key/", "key0", clientv3.PermissionType(clientv3.PermRead)))
}
