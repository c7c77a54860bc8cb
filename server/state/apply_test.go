package state

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
)

func put(key, value string) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func putLeased(key string, id int64) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: id}
}

func opPut(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opDelete(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func wantText(t *testing.T, got proto.Message, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", prototext.Format(got), prototext.Format(want))
	}
}

// seeded holds a=1, b=2 (revisions 2, 3) and the leases 1 and 2; the key l
// (revision 4) is attached to lease 1.
func seeded(t *testing.T) *testMachine {
	m := newMachine(t)
	m.do(KindPut, put("a", "1"))
	m.do(KindPut, put("b", "2"))
	m.do(KindLeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 10})
	m.do(KindLeaseGrant, &pb.LeaseGrantRequest{ID: 2, TTL: 10})
	m.do(KindPut, putLeased("l", 1))
	return m
}

// TestFailedCommandsChangeNothing: invariant 9. Each fails, and nothing but the
// applied index is different afterwards.
func TestFailedCommandsChangeNothing(t *testing.T) {
	badTxn := func(last *pb.RequestOp) *pb.TxnRequest {
		return &pb.TxnRequest{Success: []*pb.RequestOp{
			opPut(put("new", "x")), opDelete(&pb.DeleteRangeRequest{Key: []byte("a")}), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{last}}),
		}}
	}
	keepValue := func(key string) *pb.PutRequest { return &pb.PutRequest{Key: []byte(key), IgnoreValue: true} }
	for _, c := range []struct {
		name string
		kind Kind
		body proto.Message
		want error
	}{
		{"put to no lease", KindPut, putLeased("a", 9), lease.ErrNotFound},
		{"keep the value of no key", KindPut, keepValue("none"), ErrKeyNotFound},
		{"keep the lease of no key", KindPut, &pb.PutRequest{Key: []byte("none"), IgnoreLease: true}, ErrKeyNotFound},
		{"txn that puts to no lease", KindTxn, badTxn(opPut(putLeased("z", 9))), lease.ErrNotFound},
		{"txn that keeps the value of no key", KindTxn, badTxn(opPut(keepValue("none"))), ErrKeyNotFound},
		{"txn that keeps what it put", KindTxn, badTxn(opPut(keepValue("new"))), ErrKeyNotFound},
		{"txn that keeps what it deleted", KindTxn, badTxn(opPut(keepValue("a"))), ErrKeyNotFound},
		{"txn that keeps what it deleted in a range", KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{
			opDelete(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}), opPut(keepValue("b")),
		}}, ErrKeyNotFound},
		{"txn that reads the future", KindTxn, badTxn(opRange(&pb.RangeRequest{Key: []byte("a"), Revision: 5})), mvcc.ErrFutureRev},
		{"compact the future", KindCompact, &pb.CompactionRequest{Revision: 5}, mvcc.ErrFutureRev},
		{"grant without an ID", KindLeaseGrant, &pb.LeaseGrantRequest{TTL: 1}, lease.ErrNotFound},
		{"grant twice", KindLeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 1}, lease.ErrExists},
		{"grant too long", KindLeaseGrant, &pb.LeaseGrantRequest{ID: 3, TTL: 9_000_000_001}, lease.ErrTTLTooLarge},
		{"revoke nothing", KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 3}, lease.ErrNotFound},
		{"publish an unknown member", KindMemberPublish, &pb.Member{ID: 99}, ErrMemberNotFound},
		{"update an unknown member", KindMemberUpdate, &pb.Member{ID: 99}, ErrMemberNotFound},
		{"take another's URL", KindMemberUpdate, &pb.Member{ID: 10, PeerURLs: []string{"http://b:2380"}}, ErrPeerURLExists},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := seeded(t)
			before := rowsOf(t, m)
			out := m.runAll(command(t, c.kind, c.body))
			r := out.Entries[0].Results[0]
			if !errors.Is(r.Err, c.want) || r.Response != nil {
				t.Errorf("got %v, %v; want %v", r.Response, r.Err, c.want)
			}
			if len(out.Events) != 0 || out.Rev != 4 || m.KV().Rev() != 4 {
				t.Errorf("it made events %v, revision %d", out.Events, out.Rev)
			}
			if after := rowsOf(t, m); !slices.Equal(before, after) {
				t.Errorf("rows were\n%q, are\n%q", before, after)
			}
			if keys := m.Leases().Keys(1); len(keys) != 1 {
				t.Errorf("lease 1 holds %q", keys)
			}
		})
	}
}

// rowsOf lists all rows but the applied index.
func rowsOf(t *testing.T, m *testMachine) (rows []string) {
	t.Helper()
	applied := string(rowKey(testGroup, rowApplied))
	for s := engine.Space(0); s < engine.SpaceCount; s++ {
		err := m.engine.Scan(s, nil, nil, func(key, value []byte) (bool, error) {
			if string(key) != applied {
				rows = append(rows, fmt.Sprintf("%d %q=%q", s, key, value))
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

func TestMalformedBodies(t *testing.T) {
	m := seeded(t)
	before := rowsOf(t, m)
	for k := KindPut; k <= KindLeaseExpire; k++ {
		out := m.runAll(Command{Kind: k, Body: []byte{0xff, 0xff, 0xff}})
		if err := out.Entries[0].Results[0].Err; !errors.Is(err, ErrMalformed) {
			t.Errorf("kind %d: %v", k, err)
		}
	}
	if !slices.Equal(before, rowsOf(t, m)) {
		t.Error("a malformed command changed something")
	}
}

func TestHeadersAndRevisions(t *testing.T) {
	m := seeded(t)
	at := func(rev int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: rev} }
	wantText(t, m.do(KindPut, put("a", "3")), &pb.PutResponse{Header: at(5)})
	wantText(t, m.do(KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("none"), RangeEnd: []byte("nonf")}),
		&pb.DeleteRangeResponse{Header: at(5)})
	wantText(t, m.do(KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("b"), PrevKv: true}), &pb.DeleteRangeResponse{
		Header: at(6), Deleted: 1,
		PrevKvs: []*mvccpb.KeyValue{{Key: []byte("b"), Value: []byte("2"), CreateRevision: 3, ModRevision: 3, Version: 1}},
	})
	wantText(t, m.do(KindTxn, &pb.TxnRequest{}), &pb.TxnResponse{Header: at(6), Succeeded: true})
	wantText(t, m.do(KindCompact, &pb.CompactionRequest{Revision: 3}), &pb.CompactionResponse{Header: at(6)})
	wantText(t, m.do(KindLeaseGrant, &pb.LeaseGrantRequest{ID: 5, TTL: 7}), &pb.LeaseGrantResponse{Header: at(6), ID: 5, TTL: 7})
	wantText(t, m.do(KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 5}), &pb.LeaseRevokeResponse{Header: at(6)})
	wantText(t, m.do(KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 1}), &pb.LeaseRevokeResponse{Header: at(7)})
	wantText(t, m.do(KindMemberPublish, &pb.Member{ID: 10}).(*pb.MemberUpdateResponse).Header, at(7))
	wantText(t, m.do(KindAlarm, &pb.AlarmRequest{}), &pb.AlarmResponse{Header: at(7)})
}

// TestTxn: one revision, inner requests see earlier ones, nested compares see
// the state before, the header of a nested response is empty.
func TestTxn(t *testing.T) {
	m := seeded(t)
	readA := opRange(&pb.RangeRequest{Key: []byte("a")})
	got := m.do(KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{
		readA,
		opPut(put("a", "9")),
		readA,
		opTxn(&pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("1")}}},
			Success: []*pb.RequestOp{opDelete(&pb.DeleteRangeRequest{Key: []byte("b")}), opRange(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("c"), CountOnly: true})},
		}),
	}})
	at := func(rev int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: rev} }
	pair := func(value string, mod, version int64) []*mvccpb.KeyValue {
		return []*mvccpb.KeyValue{{Key: []byte("a"), Value: []byte(value), CreateRevision: 2, ModRevision: mod, Version: version}}
	}
	wantText(t, got, &pb.TxnResponse{Header: at(5), Succeeded: true, Responses: []*pb.ResponseOp{
		rangeOp(&pb.RangeResponse{Header: at(4), Kvs: pair("1", 2, 1), Count: 1}),
		{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: at(5)}}},
		rangeOp(&pb.RangeResponse{Header: at(5), Kvs: pair("9", 5, 2), Count: 1}),
		txnOp(&pb.TxnResponse{Header: at(0), Succeeded: true, Responses: []*pb.ResponseOp{
			{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Header: at(5), Deleted: 1}}},
			rangeOp(&pb.RangeResponse{Header: at(5), Count: 1}),
		}}),
	}})
}

func TestOverwriteDetachesLease(t *testing.T) {
	m := seeded(t)
	m.do(KindPut, putLeased("l", 2))
	if len(m.Leases().Keys(1)) != 0 || len(m.Leases().Keys(2)) != 1 {
		t.Error("the key did not move to lease 2")
	}
	m.do(KindPut, &pb.PutRequest{Key: []byte("l"), Value: []byte("w"), IgnoreLease: true})
	if len(m.Leases().Keys(2)) != 1 {
		t.Error("ignore_lease detached the key")
	}
	m.do(KindPut, put("l", "x"))
	if len(m.Leases().Keys(2)) != 0 {
		t.Error("a put without a lease left the key attached")
	}
	m.do(KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 1})
	m.do(KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 2})
	if r, err := m.Range(&pb.RangeRequest{Key: []byte("l")}); err != nil || r.Count != 1 {
		t.Errorf("a revoked lease took a key that it did not hold: %v, %v", r, err)
	}
}

func TestLeaseExpire(t *testing.T) {
	m := seeded(t)
	for _, key := range []string{"z", "c", "m"} {
		m.do(KindPut, putLeased(key, 2))
	}
	_, term := m.Applied()
	out := m.runAll(LeaseExpire(term+1, []lease.ID{1, 2}))
	if out.Rev != 7 || m.Leases().Len() != 2 {
		t.Errorf("an expiry of another term revoked leases: revision %d", out.Rev)
	}
	out = m.runAll(LeaseExpire(term, []lease.ID{2, 99, 1, 2}))
	if err := out.Entries[0].Results[0].Err; err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range out.Events {
		for _, e := range r.Events {
			got = append(got, fmt.Sprintf("%d %v %s was %d", r.Rev, e.Type, e.Kv.Key, e.PrevKv.GetModRevision()))
		}
	}
	want := []string{"8 DELETE c was 6", "8 DELETE m was 7", "8 DELETE z was 5", "9 DELETE l was 4"}
	if !slices.Equal(got, want) {
		t.Errorf("events are %q, want %q", got, want)
	}
	if m.Leases().Len() != 0 {
		t.Error("leases are left")
	}
}

func TestAlarms(t *testing.T) {
	m := seeded(t)
	alarm := func(a pb.AlarmRequest_AlarmAction, k pb.AlarmType) []*pb.AlarmMember {
		return m.do(KindAlarm, &pb.AlarmRequest{Action: a, Alarm: k, MemberID: 10}).(*pb.AlarmResponse).Alarms
	}
	errOf := func(k Kind, body proto.Message) error { return m.run(k, body).Err }
	grant := func(id int64) error { return errOf(KindLeaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: 1}) }
	putIn := func(b bool) *pb.TxnRequest {
		nested := []*pb.RequestOp{opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{opPut(put("a", "x"))}})}
		if b {
			return &pb.TxnRequest{Success: nested}
		}
		return &pb.TxnRequest{Success: []*pb.RequestOp{opDelete(&pb.DeleteRangeRequest{Key: []byte("b")})}}
	}

	if got := alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE); len(got) != 1 || got[0].MemberID != 10 {
		t.Errorf("activated %v", got)
	}
	for name, err := range map[string]error{
		"put": errOf(KindPut, put("a", "x")), "txn with a put": errOf(KindTxn, putIn(true)), "grant": grant(5),
	} {
		if !errors.Is(err, ErrNoSpace) {
			t.Errorf("%s without space: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"delete": errOf(KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("a")}), "txn": errOf(KindTxn, putIn(false)),
		"revoke": errOf(KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 1}), "compact": errOf(KindCompact, &pb.CompactionRequest{Revision: 2}),
	} {
		if err != nil {
			t.Errorf("%s without space: %v", name, err)
		}
	}

	alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_CORRUPT)
	if got := m.Alarms(); len(got) != 2 || !m.HasAlarm(pb.AlarmType_CORRUPT) {
		t.Errorf("alarms are %v", got)
	}
	_, term := m.Applied()
	for name, err := range map[string]error{
		"put": errOf(KindPut, put("a", "x")), "delete": errOf(KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("a")}),
		"txn": errOf(KindTxn, putIn(false)), "compact": errOf(KindCompact, &pb.CompactionRequest{Revision: 3}),
		"grant": grant(6), "revoke": errOf(KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 2}),
		"expire": m.runAll(LeaseExpire(term, []lease.ID{2})).Entries[0].Results[0].Err,
	} {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s while corrupt: %v", name, err)
		}
	}
	if got := alarm(pb.AlarmRequest_GET, pb.AlarmType_NONE); len(got) != 2 {
		t.Errorf("all alarms: %v", got)
	}
	if got := alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_CORRUPT); len(got) != 1 {
		t.Errorf("deactivated %v", got)
	}
	if got := alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_CORRUPT); len(got) != 0 {
		t.Errorf("deactivated twice: %v", got)
	}
	alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_NOSPACE)
	if err := errOf(KindPut, put("a", "x")); err != nil || len(m.Alarms()) != 0 {
		t.Errorf("after all alarms: %v, %v", err, m.Alarms())
	}
}

func TestClusterVersion(t *testing.T) {
	m := newMachine(t)
	if err := m.runAll(Command{Kind: KindClusterVersion, Body: []byte("3.7.0")}).Entries[0].Results[0].Err; err != nil {
		t.Fatal(err)
	}
	if err := m.runAll(Command{Kind: KindClusterVersion, Body: []byte("three")}).Entries[0].Results[0].Err; !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
	if v := m.ClusterVersion(); v != "3.7.0" {
		t.Errorf("the version is %q", v)
	}
}

func TestDowngrade(t *testing.T) {
	m := newMachine(t)
	run := func(on bool, target string) error {
		return m.runAll(command(t, KindDowngrade, &pb.DowngradeInfo{Enabled: on, TargetVersion: target})).Entries[0].Results[0].Err
	}
	if err := run(true, "3.6.0"); err != nil || m.Downgrade() != "3.6.0" {
		t.Errorf("enabled: %q, %v", m.Downgrade(), err)
	}
	if err := run(true, "three"); !errors.Is(err, ErrMalformed) || m.Downgrade() != "3.6.0" {
		t.Errorf("enabled for nonsense: %q, %v", m.Downgrade(), err)
	}
	stored, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	if stored.Cluster.Downgrade != "3.6.0" {
		t.Errorf("stored: %q", stored.Cluster.Downgrade)
	}
	if err := run(false, ""); err != nil || m.Downgrade() != "" {
		t.Errorf("cancelled: %q, %v", m.Downgrade(), err)
	}
}

func TestReadTxnRefusesWrites(t *testing.T) {
	m := seeded(t)
	write := &pb.TxnRequest{Failure: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut(put("a", "x"))}})}}
	if IsReadOnly(write) {
		t.Error("a nested put counts as reading")
	}
	if _, err := m.ReadTxn(write); err == nil {
		t.Error("it was answered")
	}
	if IsReadOnly(&pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{})}})}}) {
		t.Error("a nested transaction counts as reading")
	}
}
