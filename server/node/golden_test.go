package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/rpc"
	"metastore.io/metastore/server/state"
)

// Golden data dirs are what each version wrote, with what it answered: tars of
// dirs in goldenDir, named version-engine-kind, and the answers of an engine's
// dirs, which are the same, as JSON. Later versions open all of them. make golden
// writes those of this version.
const (
	goldenDir      = "testdata/golden"
	goldenMaxBytes = 100_000
)

var writeGolden = flag.Bool("golden.write", false, "write the golden data dirs of this version")

// goldenKinds are how the dirs were left: closed in order, killed with a log that
// is not applied, and with a state that came as a snapshot.
var goldenKinds = []string{"closed", "killed", "received"}

// golden is what a member answers.
type golden struct {
	Version, Engine           string
	Revision, CompactRevision int64
	Revisions                 []goldenRevision
	Events                    []goldenEvents
	Leases                    []goldenLease
	AuthEnabled               bool
	AuthRevision              uint64
	Users                     []*authpb.User
	Roles                     []*authpb.Role
	ClusterID                 uint64
	ClusterVersion            string
	Members                   []state.Member
	Removed                   []uint64
	Alarms                    []*pb.AlarmMember
}

type goldenRevision struct {
	Revision int64
	Hash     uint32
	KVs      []*mvccpb.KeyValue
}

type goldenEvents struct {
	Revision int64
	Events   []*mvccpb.Event
}

type goldenLease struct {
	ID, GrantedTTL int64
	Keys           [][]byte
}

// record asks a member for everything that is up to a revision; 0 is the newest.
func record(t *testing.T, m *state.Machine, rev int64, removed []uint64) golden {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kv := m.KV()
	if rev == 0 {
		rev = kv.Rev()
	}
	g := golden{Revision: rev, CompactRevision: kv.CompactRev(), ClusterID: m.ClusterID(), ClusterVersion: m.ClusterVersion()}
	for at := g.CompactRevision; at <= rev; at += max((rev-at+1)/3, 1) {
		found, err := kv.Range([]byte{0}, []byte{0}, mvcc.RangeOptions{Rev: at})
		check(err)
		hash, _, _, err := kv.HashKV(at)
		check(err)
		g.Revisions = append(g.Revisions, goldenRevision{at, hash, found.KVs})
	}
	for from := g.CompactRevision; from <= rev; {
		var err error
		from, err = kv.History(from, rev, 64<<10, true, func(at int64, events []*mvccpb.Event) error {
			g.Events = append(g.Events, goldenEvents{at, events})
			return nil
		})
		check(err)
	}
	leases := m.Leases()
	for _, id := range leases.List() {
		l, _ := leases.Lookup(id)
		g.Leases = append(g.Leases, goldenLease{int64(id), l.TTLSeconds, leases.Keys(id)})
	}
	users := m.Auth()
	g.AuthEnabled, g.AuthRevision, g.Users, g.Roles = users.Enabled(), users.Revision(), users.Users(), users.Roles()
	g.Members, g.Alarms = m.Members(), m.Alarms()
	for _, id := range removed {
		if m.Removed(id) {
			g.Removed = append(g.Removed, id)
		}
	}
	return g
}

func (g golden) text(t *testing.T) []byte {
	t.Helper()
	b, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// same wants the same answers, and tells the first line that is not.
func (g golden) same(t *testing.T, want golden) {
	t.Helper()
	got, wanted := g.text(t), want.text(t)
	if bytes.Equal(got, wanted) {
		return
	}
	if diff := diffContent(strings.Split(string(got), "\n"), strings.Split(string(wanted), "\n")); diff != "" {
		t.Error(diff)
	}
}

// goldenConfig is that of the member whose dirs are kept.
func goldenConfig(engine, dir string) Config {
	c := loneConfig(engine, dir)
	c.MaxLearners = 3
	return c
}

func (n *Node) client(t *testing.T, user, password string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{n.serve.client[0].l.Addr().String()}, Context: t.Context(), Logger: zap.NewNop(),
		Username: user, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Every golden data dir is whole to this version and answers as it did; it can be
// written to, and comes back with both.
func TestGolden(t *testing.T) {
	for _, engine := range damageEngines() {
		for _, kind := range goldenKinds {
			dirs, err := filepath.Glob(filepath.Join(goldenDir, "*-"+engine+"-"+kind+".tar.gz"))
			if err != nil || len(dirs) == 0 {
				t.Errorf("no golden data dir of the %s engine that was %s: %v", engine, kind, err)
			}
			for _, packed := range dirs {
				t.Run(strings.TrimSuffix(filepath.Base(packed), ".tar.gz"), func(t *testing.T) { testGolden(t, packed, engine, kind) })
			}
		}
	}
}

func testGolden(t *testing.T, packed, engine, kind string) {
	var want golden
	b, err := os.ReadFile(strings.TrimSuffix(packed, "-"+kind+".tar.gz") + ".json")
	if err := errors.Join(err, json.Unmarshal(b, &want)); err != nil {
		t.Fatal(err)
	}
	if len(want.Revisions) < 4 || len(want.Leases) < 3 || len(want.Users) < 2 || len(want.Roles) < 2 || !want.AuthEnabled ||
		len(want.Members) < 3 || len(want.Removed) < 1 || len(want.Alarms) < 1 || want.CompactRevision < 2 || want.Engine != engine {
		t.Fatalf("the answers are not complete: %d revisions, %d leases, %d users, %d roles, members %+v, alarms %v",
			len(want.Revisions), len(want.Leases), len(want.Users), len(want.Roles), want.Members, want.Alarms)
	}
	dir := filepath.Join(t.TempDir(), "data")
	untar(t, packed, dir)
	checkGolden(t, dir, kind, want)
	writeToGolden(t, dir, want)
}

// checkGolden compares what is stored, before any member is started on it.
func checkGolden(t *testing.T, dir, kind string, want golden) {
	t.Helper()
	got := answersOf(t, dir, want.Removed)
	got.Version = want.Version
	got.same(t, want)
	r, err := Check(CheckOptions{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if r.FlushedIndex <= 1 || kind == "killed" && r.FlushedIndex >= r.AppliedIndex {
		t.Errorf("not both engine and log hold a part: %+v", r)
	}
}

// writeToGolden starts a member on a golden dir twice.
func writeToGolden(t *testing.T, dir string, want golden) {
	t.Helper()
	const key = "written/by/a/later/version"
	n, err := Start(t.Context(), goldenConfig(want.Engine, dir))
	if err != nil {
		t.Fatal(err)
	}
	<-n.Ready()
	n.sameAs(t, want)
	c := n.client(t, "root", "secret")
	if _, err := c.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	put, err := c.Put(t.Context(), key, "new")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	if n, err = Start(t.Context(), goldenConfig(want.Engine, dir)); err != nil {
		t.Fatal(err)
	}
	<-n.Ready()
	want.Alarms = []*pb.AlarmMember{}
	n.sameAs(t, want)
	got, err := n.client(t, "reader", "secret").Get(t.Context(), key)
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "new" || got.Header.Revision != put.Header.Revision {
		t.Errorf("after a restart %s is %v, %v; it was written at revision %d", key, got, err, put.Header.Revision)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// sameAs wants the recorded answers; a newer version may raise the cluster's.
func (n *Node) sameAs(t *testing.T, want golden) {
	t.Helper()
	if err := n.host.ReadBarrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := record(t, n.host.Machine(), want.Revision, want.Removed)
	got.Version, got.Engine, got.ClusterVersion = want.Version, want.Engine, want.ClusterVersion
	if len(got.Alarms) == 0 {
		got.Alarms = []*pb.AlarmMember{}
	}
	got.same(t, want)
}

// TestWriteGolden writes what TestGolden reads later.
func TestWriteGolden(t *testing.T) {
	if !*writeGolden {
		t.Skip("make golden runs this")
	}
	for _, engine := range damageEngines() {
		base := t.TempDir()
		closed := filepath.Join(base, "closed")
		n, err := Start(t.Context(), goldenConfig(engine, closed))
		if err != nil {
			t.Fatal(err)
		}
		removed := fillGolden(t, n)
		if err := os.CopyFS(filepath.Join(base, "killed"), os.DirFS(closed)); err != nil {
			t.Fatal(err)
		}
		if err := n.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(base, "received"), os.DirFS(closed)); err != nil {
			t.Fatal(err)
		}
		receiveSnapshot(t, goldenConfig(engine, filepath.Join(base, "received")))
		name := filepath.Join(goldenDir, "v"+rpc.Version+"-"+engine)
		keep(t, name+".json", answersOf(t, closed, removed).text(t))
		for _, kind := range goldenKinds {
			keep(t, name+"-"+kind+".tar.gz", tarOf(t, filepath.Join(base, kind)))
		}
	}
}

// answersOf are those after a restart: a member that has compacted tells another
// hash of the compacted revision until then.
func answersOf(t *testing.T, dir string, removed []uint64) (g golden) {
	t.Helper()
	k, err := newChecker(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err = k.run(0); err == nil {
		g = record(t, k.n.machine, 0, removed)
		g.Version, g.Engine = rpc.Version, k.report.Engine
	}
	if err := k.close(err); err != nil {
		t.Fatal(err)
	}
	return g
}
