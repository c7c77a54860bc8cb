package state

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/lease"
)

// FuzzRow: a row that is taken is the one that would be written.
func FuzzRow(f *testing.F) {
	b := engine.NewBatch()
	putApplied(b, testGroup, 9, 3, 7)
	putClusterID(b, testGroup, 77)
	putClusterVersion(b, testGroup, "3.7.0")
	putMember(b, testGroup, sampleMember)
	putRemoved(b, testGroup, 5)
	putAlarm(b, testGroup, alarm{kind: pb.AlarmType_NOSPACE, member: 10}, true)
	prefix := len(rowKey(testGroup, ""))
	_ = b.Each(func(op engine.Op) error {
		f.Add(op.Key[prefix:], op.Value)
		return nil
	})
	f.Add([]byte(rowMember), []byte{rowVersion})
	f.Fuzz(func(t *testing.T, name, value []byte) {
		s := &stored{}
		if err := s.row(name, value); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%q = %q: %v", name, value, err)
			}
			return
		}
		b := engine.NewBatch()
		c := &s.cluster
		switch {
		case string(name) == rowApplied:
			if value[0] == rowVersion {
				return // the first format is read only
			}
			putApplied(b, testGroup, s.index, s.term, s.rev)
		case string(name) == rowCluster:
			putClusterID(b, testGroup, c.id)
		case string(name) == rowVersionTag:
			putClusterVersion(b, testGroup, c.version)
		case len(c.members) == 1:
			putMember(b, testGroup, c.members[0])
		case len(c.removed) == 1:
			putRemoved(b, testGroup, c.removed[0])
		case len(c.alarms) == 1:
			putAlarm(b, testGroup, c.alarms[0], true)
		}
		found := false
		_ = b.Each(func(op engine.Op) error {
			found = found || bytes.Equal(op.Key[prefix:], name) && bytes.Equal(op.Value, value)
			return nil
		})
		if !found {
			t.Fatalf("%q = %q gives %+v, which is written otherwise", name, value, s)
		}
	})
}

// fuzzMachine is a machine with something of everything, on a disk of its own.
func fuzzMachine(t testing.TB) *testMachine {
	t.Helper()
	m := openMachine(t, memory.Opener{FS: memdisk.New(1)}, "/engine")
	m.bootstrap()
	m.do(KindLeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 60})
	for _, key := range []string{"a", "b", "c", "a"} {
		m.do(KindPut, &pb.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: 1})
	}
	m.do(KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("b")})
	return m
}

// FuzzApply applies any two commands, which are committed and so have to have a
// result, the same on every member: in one entry, in two, and after a restart.
func FuzzApply(f *testing.F) {
	add := func(c Command) { f.Add(uint8(c.Kind), c.Body, uint8(KindPut), []byte("\x0a\x01a\x12\x01w")) }
	for _, c := range []struct {
		kind Kind
		body proto.Message
	}{
		{KindPut, &pb.PutRequest{Key: []byte("a"), IgnoreValue: true, PrevKv: true, Lease: 1}},
		{KindPut, &pb.PutRequest{Value: []byte("no key")}},
		{KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true}},
		{KindTxn, &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("v")}}},
			Success: []*pb.RequestOp{
				{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("d")}}},
				{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{{}}}}},
				{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), SortTarget: 9, SortOrder: 2}}},
			}}},
		{KindCompact, &pb.CompactionRequest{Revision: 4}},
		{KindLeaseGrant, &pb.LeaseGrantRequest{ID: -5, TTL: -1}},
		{KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 1}},
		{KindAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: 9, MemberID: 8}},
		{KindMemberPublish, &pb.Member{ID: 10, Name: "\xff"}},
		{KindMemberUpdate, &pb.Member{ID: 10, PeerURLs: []string{""}}},
		{KindUserAdd, &pb.AuthUserAddRequest{Name: "root", HashedPassword: "!"}},
		{KindRoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: "r"}},
		{KindAuthenticate, &pb.InternalAuthenticateRequest{Name: "root"}},
	} {
		body, _ := proto.Marshal(c.body) // the name that is no UTF-8 gives nothing
		add(Command{Kind: c.kind, Body: body})
	}
	add(LeaseExpire(1, []lease.ID{1, 1, 2}))
	add(Command{Kind: KindClusterVersion, Body: []byte("x")})
	add(Command{Kind: KindAuthEnable})
	f.Fuzz(func(t *testing.T, kind1 uint8, body1 []byte, kind2 uint8, body2 []byte) {
		cmds := []Command{{Kind: Kind(kind1), Body: body1}, {Kind: Kind(kind2), Body: body2}}
		one, two := fuzzMachine(t), fuzzMachine(t)
		index, term := one.Applied()
		out, err := one.Apply([]Entry{{Index: index + 1, Term: term, Commands: cmds[:1]}, {Index: index + 2, Term: term, Commands: cmds[1:]}})
		if err != nil {
			if !errors.Is(err, ErrUnknownCommand) || one.failed != nil {
				t.Fatalf("%d %q: %v", kind1, body1, err)
			}
			return
		}
		for i, c := range cmds {
			r := two.runAll(c).Entries[0].Results[0]
			want := out.Entries[i].Results[0]
			if fmt.Sprint(r.Err) != fmt.Sprint(want.Err) || !proto.Equal(r.Response, want.Response) {
				t.Fatalf("command %d gives %v, %v, and elsewhere %v, %v", i, want.Response, want.Err, r.Response, r.Err)
			}
		}
		sameState(t, "in one batch and in two", one, two)
		hash := one.hash()
		again, err := Open(Options{Engine: one.engine, Group: testGroup})
		if err != nil {
			t.Fatalf("opened again: %v", err)
		}
		sameState(t, "opened again", &testMachine{Machine: again, t: t}, one)
		if one.hash() != hash {
			t.Fatal("opening changed the state")
		}
	})
}
