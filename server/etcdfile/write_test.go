package etcdfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
)

// etcd's own code reads every bucket.
func TestEtcdReadsWhatIsWritten(t *testing.T) {
	s := newFullStore(t)
	s.raise()
	lg := zap.NewNop()
	be := backend.NewDefaultBackend(lg, s.file())
	defer be.Close()
	if err := schema.Validate(lg, be.ReadTx()); err != nil {
		t.Error(err)
	}
	if v, err := schema.DetectSchemaVersion(lg, be.ReadTx()); err != nil || v.String() != StorageVersion {
		t.Errorf("storage version %v: %v", v, err)
	}
	index, term := s.Applied()
	if i, tm := schema.ReadConsistentIndex(be.ReadTx()); i != index || tm != term {
		t.Errorf("index %d of term %d, want %d of %d", i, tm, index, term)
	}
	conf := schema.UnsafeConfStateFromBackend(lg, be.ReadTx())
	if !slices.Equal(conf.Voters, []uint64{0xa}) || !slices.Equal(conf.Learners, []uint64{0xc}) {
		t.Errorf("membership of raft: %v", conf)
	}
	mb := schema.NewMembershipBackend(lg, be)
	if v := mb.ClusterVersionFromBackend(); v == nil || v.String() != "3.7.0" {
		t.Errorf("cluster version %v", v)
	}
	members, removed := mb.MustReadMembersFromBackend()
	one, learner := members[types.ID(0xa)], members[types.ID(0xc)]
	if len(members) != 2 || one == nil || one.Name != "one" || one.IsLearner || one.PeerURLs[0] != "http://a:2380" || one.ClientURLs[0] != "http://a:2379" ||
		learner == nil || !learner.IsLearner || len(removed) != 1 || !removed[types.ID(0xb)] {
		t.Errorf("members %v, removed %v", members, removed)
	}
	alarms, err := schema.NewAlarmBackend(lg, be).GetAllAlarms()
	if err != nil || len(alarms) != 1 || alarms[0].Alarm != pb.AlarmType_NOSPACE || alarms[0].MemberID != 0xa {
		t.Errorf("alarms %v: %v", alarms, err)
	}
	wantUsers(t, be)
	wantKeys(t, be, s)
}

func wantUsers(t *testing.T, be backend.Backend) {
	t.Helper()
	auth := schema.NewAuthBackend(zap.NewNop(), be)
	root, guest := auth.GetUser("root"), auth.GetUser("guest")
	if root == nil || string(root.Password) != "hash" && string(root.Password) != "aGFzaA==" || !slices.Equal(root.Roles, []string{"root"}) || guest == nil || !guest.Options.GetNoPassword() {
		t.Errorf("users %v and %v", root, guest)
	}
	want := &authpb.Role{Name: []byte("reader"), KeyPermission: []*authpb.Permission{permission(authpb.Permission_READ, "a", "b")}}
	if got := auth.GetRole("reader"); !proto.Equal(got, want) {
		t.Errorf("role %v, want %v", got, want)
	}
	tx := auth.ReadTx()
	tx.RLock()
	defer tx.RUnlock()
	if tx.UnsafeReadAuthEnabled() || tx.UnsafeReadAuthRevision() < 2 {
		t.Errorf("users count: %v, at revision %d", tx.UnsafeReadAuthEnabled(), tx.UnsafeReadAuthRevision())
	}
}

// wantKeys opens the keys and leases as a starting etcd does.
func wantKeys(t *testing.T, be backend.Backend, s *store) {
	t.Helper()
	leases := lease.NewLessor(zap.NewNop(), be, nil, lease.LessorConfig{MinLeaseTTL: 1})
	defer leases.Stop()
	kv := mvcc.New(zap.NewNop(), be, leases, mvcc.StoreConfig{})
	defer kv.Close()
	for _, l := range []struct {
		id, ttl int64
		key     string
	}{{7, 60, "leased"}, {-7, 9_000_000_000, "also"}} {
		got := leases.Lookup(lease.LeaseID(l.id))
		if got == nil || got.TTL() != l.ttl || !slices.Equal(got.Keys(), []string{l.key}) {
			t.Errorf("lease %d: %v", l.id, got)
		}
	}
	if kv.Rev() != s.KV().Rev() {
		t.Errorf("revision %d, want %d", kv.Rev(), s.KV().Rev())
	}
	want, compacted, _, err := s.KV().HashKV(0)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := kv.HashStorage().HashByRev(0)
	if err != nil || got.Hash != want || got.CompactRevision != compacted {
		t.Errorf("hash %x compacted to %d, want %x compacted to %d: %v", got.Hash, got.CompactRevision, want, compacted, err)
	}
}

func TestStreamChunks(t *testing.T) {
	s := newFullStore(t)
	for range 40 {
		s.put("big", string(make([]byte, 10_000)), 0)
	}
	dir := t.TempDir()
	tmp, err := Write(t.Context(), dir, s.snapshot())
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the folder holds %v while the snapshot is sent: %v", names, err)
	}
	var all, last []byte
	err = tmp.Stream(func(chunk []byte, remaining int64) error {
		if want := max(tmp.SizeBytes()-int64(len(all)+len(chunk)), 0); remaining != want {
			t.Errorf("after %d bytes %d remain, want %d", len(all)+len(chunk), remaining, want)
		}
		if len(chunk) > ChunkBytes {
			t.Errorf("a chunk of %d bytes", len(chunk))
		}
		all, last = append(all, chunk...), chunk
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	db := all[:len(all)-sumBytes]
	if sum := sha256.Sum256(db); !bytes.Equal(sum[:], last) || int64(len(db)) != tmp.SizeBytes() || len(all)%sectorBytes != sumBytes {
		t.Errorf("%d bytes end with the sha256 %x, want %x after %d", len(all), last, sum, tmp.SizeBytes())
	}
	stop := errors.New("the client left")
	if err := tmp.Stream(func([]byte, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the stream ends with %v", err)
	}
}

// cancelling ends the context in the middle of the rows.
type cancelling struct {
	engine.Snapshot
	cancel context.CancelFunc
}

func (c cancelling) Scan(s engine.Space, from, to []byte, fn func(k, v []byte) (bool, error)) error {
	n := 0
	return c.Snapshot.Scan(s, from, to, func(k, v []byte) (bool, error) {
		if n++; n == 5 && s == engine.Revisions {
			c.cancel()
		}
		return fn(k, v)
	})
}

func TestWriteCancelled(t *testing.T) {
	s := newFullStore(t)
	for range 6 {
		s.put("big", string(make([]byte, 1<<20)), 0)
	}
	ctx, cancel := context.WithCancel(t.Context())
	snap := *s.snapshot()
	snap.Snapshot = cancelling{snap.Snapshot, cancel}
	dir := t.TempDir()
	if _, err := Write(ctx, dir, &snap); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled snapshot ends with %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("a cancelled snapshot leaves %v: %v", names, err)
	}
	blocked := writeFile(t, []byte("a file, not a folder"))
	if _, err := Write(t.Context(), blocked, s.snapshot()); err == nil {
		t.Error("a snapshot was made in a folder that is a file")
	}
}
