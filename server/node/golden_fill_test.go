package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fillGolden writes some of all that a member stores. It gives the members that
// it removed.
func fillGolden(t *testing.T, n *Node) (removed []uint64) {
	t.Helper()
	<-n.Ready()
	g := &goldenFiller{t: t, c: n.client(t, "", "")}
	g.leases(100_000, 5000, 3600)
	g.writes(40)
	g.users()
	removed = g.members()
	compacted := g.put("key/00", "before the compaction")
	g.writes(25)
	g.must(g.c.Compact(t.Context(), compacted, clientv3.WithCompactPhysical()))
	g.leases(1000)
	g.writes(10)
	for range 8 { // entries that the engine does not have yet at a kill
		g.put("last", "words")
	}
	_, member, err := n.dir.marker.ids()
	g.must(nil, err)
	g.must(pb.NewMaintenanceClient(g.c.ActiveConnection()).Alarm(t.Context(), &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE,
	}))
	g.must(g.c.AuthEnable(t.Context()))
	return removed
}

type goldenFiller struct {
	t   *testing.T
	c   *clientv3.Client
	ids []clientv3.LeaseID
	n   int
}

func (g *goldenFiller) must(_ any, err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *goldenFiller) leases(ttls ...int64) {
	g.t.Helper()
	for _, ttl := range ttls {
		l, err := g.c.Grant(g.t.Context(), ttl)
		g.must(nil, err)
		g.ids = append(g.ids, l.ID)
	}
}

func (g *goldenFiller) put(key, value string, opts ...clientv3.OpOption) (rev int64) {
	g.t.Helper()
	r, err := g.c.Put(g.t.Context(), key, value, opts...)
	g.must(nil, err)
	return r.Header.Revision
}

// writes makes changes of every kind, one after the other.
func (g *goldenFiller) writes(count int) {
	g.t.Helper()
	for range count {
		g.n++
		key, value := fmt.Sprintf("key/%02d", g.n%17), fmt.Sprintf("value %d", g.n)
		switch g.n % 9 {
		case 1:
			g.put(key, value, clientv3.WithLease(g.ids[g.n%len(g.ids)]))
		case 2:
			g.must(g.c.Delete(g.t.Context(), fmt.Sprintf("key/%02d", (g.n-1)%17)))
		case 3:
			g.must(g.c.Txn(g.t.Context()).Then(
				clientv3.OpPut(key, value), clientv3.OpPut("txn/"+key, ""), clientv3.OpDelete("large"),
				clientv3.OpPut("\x00binary\xff\xfe", value)).Commit())
		case 4:
			g.must(g.c.Delete(g.t.Context(), "txn/", clientv3.WithPrefix()))
		case 5:
			g.put("large", strings.Repeat(value+" ", 100))
		default:
			g.put(key, value)
		}
	}
}

func (g *goldenFiller) users() {
	g.t.Helper()
	ctx := g.t.Context()
	for _, name := range []string{"root", "reader"} {
		g.must(g.c.RoleAdd(ctx, name))
		g.must(g.c.UserAdd(ctx, name, "secret"))
		g.must(g.c.UserGrantRole(ctx, name, name))
	}
	g.must(g.c.UserAddWithOptions(ctx, "certificate", "", &clientv3.UserAddOptions{NoPassword: true}))
	for key, end := range map[string]string{"a": "", "written/": "written0", "z": "\x00"} {
		g.must(g.c.RoleGrantPermission(ctx, "reader", key, end, clientv3.PermissionType(clientv3.PermRead)))
	}
	g.must(g.c.RoleGrantPermission(ctx, "reader", "txn/", "txn0", clientv3.PermissionType(clientv3.PermReadWrite)))
}

// members adds learners that never come, and removes one for good.
func (g *goldenFiller) members() (removed []uint64) {
	g.t.Helper()
	for port := range 3 {
		r, err := g.c.MemberAddAsLearner(g.t.Context(), []string{fmt.Sprintf("http://127.0.0.1:%d", port+1)})
		g.must(nil, err)
		removed = []uint64{r.Member.ID}
	}
	g.must(g.c.MemberRemove(g.t.Context(), removed[0]))
	return removed
}

// keep writes a file that is not there yet.
func keep(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		t.Fatalf("%s is there already: what a version wrote stays as it is", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", name, len(content))
}

func tarOf(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if b.Len() > goldenMaxBytes {
		t.Errorf("the tar of %s has %d bytes, at most %d are to be kept", dir, b.Len(), goldenMaxBytes)
	}
	return b.Bytes()
}

func untar(t *testing.T, packed, dir string) {
	t.Helper()
	f, err := os.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := filepath.Join(dir, h.Name)
		content, err := io.ReadAll(r)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
