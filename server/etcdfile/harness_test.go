package etcdfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/state"
)

const testGroup engine.GroupID = 3

// store is a machine that applies what it is given.
type store struct {
	*state.Machine
	t      testing.TB
	engine engine.Engine
}

func newStore(t testing.TB) *store {
	t.Helper()
	e := newEngine(t)
	m, err := state.Open(state.Options{Engine: e, Group: testGroup})
	if err != nil {
		t.Fatal(err)
	}
	return &store{m, t, e}
}

func newEngine(t testing.TB) engine.Engine {
	t.Helper()
	e, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func (s *store) apply(e state.Entry) state.EntryResult {
	s.t.Helper()
	index, _ := s.Applied()
	e.Index, e.Term = index+1, 4
	out, err := s.Apply([]state.Entry{e})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Entries[0]
}

func (s *store) do(k state.Kind, m proto.Message) {
	s.t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	if r := s.apply(state.Entry{Commands: []state.Command{{Kind: k, Body: body}}}).Results[0]; r.Err != nil {
		s.t.Fatalf("command %d: %v", k, r.Err)
	}
}

func (s *store) change(c state.MemberChange) {
	s.t.Helper()
	if r := s.apply(state.Entry{Change: &c}).Change; r.Err != nil {
		s.t.Fatalf("%v: %v", c.Kind, r.Err)
	}
}

func (s *store) put(key, value string, lease int64) {
	s.t.Helper()
	s.do(state.KindPut, &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
}

// newFullStore has something of everything, and a compaction whose rows are not
// gone yet.
func newFullStore(t testing.TB) *store {
	s := newStore(t)
	if err := s.Bootstrap(77, []state.Member{{ID: 0xa, PeerURLs: []string{"http://a:2380"}}, {ID: 0xb, PeerURLs: []string{"http://b:2380"}}}); err != nil {
		t.Fatal(err)
	}
	s.apply(state.Entry{Commands: []state.Command{{Kind: state.KindClusterVersion, Body: []byte("3.7.0")}}})
	s.do(state.KindMemberPublish, &pb.Member{ID: 0xa, Name: "one", ClientURLs: []string{"http://a:2379"}})
	s.change(state.MemberChange{Kind: state.AddLearner, Member: state.Member{ID: 0xc, PeerURLs: []string{"http://c:2380"}}})
	s.change(state.MemberChange{Kind: state.Remove, Member: state.Member{ID: 0xb}})
	s.do(state.KindLeaseGrant, &pb.LeaseGrantRequest{ID: 7, TTL: 60})
	s.do(state.KindLeaseGrant, &pb.LeaseGrantRequest{ID: -7, TTL: 9_000_000_000})
	for i := range 50 {
		s.put(fmt.Sprintf("k%02d", i%20), fmt.Sprint(i), 0)
	}
	s.put("leased", "\x00\xff", 7)
	s.put("also", "", -7)
	s.do(state.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("k0"), RangeEnd: []byte("k1")})
	s.do(state.KindCompact, &pb.CompactionRequest{Revision: 30})
	if _, err := s.Step(1000); err != nil {
		t.Fatal(err)
	}
	s.do(state.KindCompact, &pb.CompactionRequest{Revision: 40})
	s.do(state.KindRoleAdd, &pb.AuthRoleAddRequest{Name: "root"})
	s.do(state.KindRoleAdd, &pb.AuthRoleAddRequest{Name: "reader"})
	s.do(state.KindRoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: "reader", Perm: permission(authpb.Permission_READ, "a", "b")})
	for _, name := range []string{"root", "guest"} {
		s.do(state.KindUserAdd, &pb.AuthUserAddRequest{Name: name, HashedPassword: "aGFzaA==", Options: &authpb.UserAddOptions{NoPassword: name == "guest"}})
	}
	s.do(state.KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	s.do(state.KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: "guest", Role: "reader"})
	return s
}

// raise turns an alarm on: nothing can be put any more.
func (s *store) raise() {
	s.t.Helper()
	s.do(state.KindAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 0xa, Alarm: pb.AlarmType_NOSPACE})
}

func (s *store) snapshot() *state.Snapshot {
	s.t.Helper()
	snap, err := s.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = snap.Close() })
	return snap
}

// file writes the store's snapshot to a file, as a client that saves it.
func (s *store) file() string {
	s.t.Helper()
	tmp, err := Write(s.t.Context(), s.t.TempDir(), s.snapshot())
	if err != nil {
		s.t.Fatal(err)
	}
	var all bytes.Buffer
	err = tmp.Stream(func(chunk []byte, _ int64) error {
		all.Write(chunk)
		return nil
	})
	if err := errors.Join(err, tmp.Close()); err != nil {
		s.t.Fatal(err)
	}
	return writeFile(s.t, all.Bytes())
}

func writeFile(t testing.TB, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func open(t testing.TB, path string, check HashCheck) *File {
	t.Helper()
	f, err := Open(path, check)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// rows lists what an engine holds of a group.
func rows(t testing.TB, r engine.Reader, s engine.Space, under string) []string {
	t.Helper()
	var all []string
	from := testGroup.Key([]byte(under))
	err := r.Scan(s, from, engine.PrefixEnd(from), func(k, v []byte) (bool, error) {
		all = append(all, fmt.Sprintf("%q = %q", k, v))
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func permission(kind authpb.Permission_Type, key, end string) *authpb.Permission {
	return &authpb.Permission{PermType: kind, Key: []byte(key), RangeEnd: []byte(end)}
}
