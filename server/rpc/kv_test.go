package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/watch"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestKV(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx, c := t.Context(), s.client
	key, value := string([]byte{0xff, 0, 0xfe}), string([]byte{0x80, 0})
	p := must[*clientv3.PutResponse](t)(c.Put(ctx, key, value))
	if h := p.Header; h.ClusterId != testCluster || h.MemberId != testMember || h.RaftTerm != 5 || h.Revision != 2 {
		t.Errorf("header %v", h)
	}
	g := must[*clientv3.GetResponse](t)(c.Get(ctx, key))
	if g.Count != 1 || string(g.Kvs[0].Value) != value || g.Header.ClusterId != testCluster || g.Header.Revision != 2 {
		t.Errorf("got %v", g)
	}
	txn := must[*clientv3.TxnResponse](t)(c.Txn(ctx).
		If(clientv3.Compare(clientv3.Version(key), "=", 1)).
		Then(clientv3.OpPut("a", "1"), clientv3.OpGet(key)).Commit())
	if !txn.Succeeded || txn.Header.Revision != 3 || len(txn.Responses) != 2 || txn.Header.RaftTerm != 5 {
		t.Errorf("txn %v", txn)
	}
	d := must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "nothing", clientv3.WithPrefix()))
	if d.Deleted != 0 || d.Header.Revision != 3 {
		t.Errorf("delete of nothing: %v", d)
	}
	d = must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "a", clientv3.WithPrevKV()))
	if d.Deleted != 1 || string(d.PrevKvs[0].Value) != "1" || d.Header.Revision != 4 {
		t.Errorf("delete: %v", d)
	}
	co := must[*clientv3.CompactResponse](t)(c.Compact(ctx, 3, clientv3.WithCompactPhysical()))
	if co.Header.Revision != 4 {
		t.Errorf("compact: %v", co)
	}
	if _, err := c.Get(ctx, key, clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("get of a compacted revision: %v", err)
	}
	if _, err := c.Get(ctx, key, clientv3.WithRev(5)); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("get of a future revision: %v", err)
	}
}

func TestReadsAskForWhatTheyNeed(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx, c := t.Context(), s.client
	barriers := func(f func() error) int {
		t.Helper()
		before := s.barriers
		if err := f(); err != nil {
			t.Fatal(err)
		}
		return s.barriers - before
	}
	get := func(o ...clientv3.OpOption) clientv3.Op { return clientv3.OpGet("a", o...) }
	txn := func(ops ...clientv3.Op) func() error {
		return func() error {
			_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version("a"), "=", 0)).Then(ops...).Commit()
			return err
		}
	}
	do := func(op clientv3.Op) func() error { return func() error { _, err := c.Do(ctx, op); return err } }
	for name, tc := range map[string]struct {
		want int
		f    func() error
	}{
		"get":                  {1, do(get())},
		"serializable get":     {0, do(get(clientv3.WithSerializable()))},
		"txn of reads":         {1, txn(get(), get(clientv3.WithSerializable()))},
		"txn of serializable":  {0, txn(get(clientv3.WithSerializable()))},
		"txn of compares":      {1, txn()},
		"member list":          {1, func() error { _, err := c.MemberList(ctx); return err }},
		"serializable members": {0, func() error { _, err := c.MemberList(ctx, clientv3.WithSerializable()); return err }},
	} {
		index, _ := s.m.Applied()
		if got := barriers(tc.f); got != tc.want {
			t.Errorf("%s: %d read barriers, want %d", name, got, tc.want)
		}
		if now, _ := s.m.Applied(); now != index {
			t.Errorf("%s was proposed", name)
		}
	}
	// A nested transaction is a command, as in etcd.
	index, _ := s.m.Applied()
	if err := txn(clientv3.OpTxn(nil, []clientv3.Op{get()}, nil))(); err != nil {
		t.Fatal(err)
	}
	if now, _ := s.m.Applied(); now == index {
		t.Error("a nested transaction was not proposed")
	}
	s.setFail(replica.ErrTimeout)
	if _, err := c.Get(ctx, "a", clientv3.WithSerializable()); err != nil {
		t.Errorf("serializable get without a quorum: %v", err)
	}
}

func putOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func delOp(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func txnOp(success, failure []*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: success, Failure: failure}}}
}

func ops(o ...*pb.RequestOp) []*pb.RequestOp { return o }

// TestBadRequests has etcd's answers to requests that are wrong.
func TestBadRequests(t *testing.T) {
	s := serve(t, Options{MaxTxnOps: 4, MaxRequestBytes: 1 << 16}, watch.Options{})
	s.Propose(t.Context(), putCommand(t, "a", "v"))
	kv := pb.NewKVClient(s.conn)
	le := pb.NewLeaseClient(s.conn)
	cl := pb.NewClusterClient(s.conn)
	mt := pb.NewMaintenanceClient(s.conn)
	ctx := t.Context()
	key := []byte("a")
	rng := func(r *pb.RangeRequest) error { _, err := kv.Range(ctx, r); return err }
	put := func(r *pb.PutRequest) error { _, err := kv.Put(ctx, r); return err }
	txn := func(o ...*pb.RequestOp) error { _, err := kv.Txn(ctx, &pb.TxnRequest{Success: o}); return err }
	stream := func(r *pb.RangeRequest) error {
		st, err := kv.RangeStream(ctx, r)
		if err == nil {
			_, err = st.Recv()
		}
		return err
	}
	for _, tc := range []struct {
		name string
		err  error
		code codes.Code
		text string
	}{
		{"range without key", rng(&pb.RangeRequest{}), codes.InvalidArgument, "etcdserver: key is not provided"},
		{"range order", rng(&pb.RangeRequest{Key: key, SortOrder: 9}), codes.InvalidArgument, "etcdserver: invalid sort option"},
		{"range target", rng(&pb.RangeRequest{Key: key, SortTarget: 9}), codes.InvalidArgument, "etcdserver: invalid sort option"},
		{"range in the future", rng(&pb.RangeRequest{Key: key, Revision: 99}), codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{"put without key", put(&pb.PutRequest{}), codes.InvalidArgument, "etcdserver: key is not provided"},
		{"put value ignored", put(&pb.PutRequest{Key: key, Value: key, IgnoreValue: true}), codes.InvalidArgument, "etcdserver: value is provided"},
		{"put lease ignored", put(&pb.PutRequest{Key: key, Lease: 7, IgnoreLease: true}), codes.InvalidArgument, "etcdserver: lease is provided"},
		{"put ignores what is not there", put(&pb.PutRequest{Key: []byte("no"), IgnoreValue: true}), codes.InvalidArgument, "etcdserver: key not found"},
		{"put with unknown lease", put(&pb.PutRequest{Key: key, Lease: 7}), codes.NotFound, "etcdserver: requested lease not found"},
		{"put too large", put(&pb.PutRequest{Key: key, Value: make([]byte, 1<<16)}), codes.InvalidArgument, "etcdserver: request is too large"},
		{"message too large", put(&pb.PutRequest{Key: key, Value: make([]byte, 1<<16+600<<10)}), codes.ResourceExhausted, "grpc: received message larger than max"},
		{"delete without key", one2(kv.DeleteRange(ctx, &pb.DeleteRangeRequest{})), codes.InvalidArgument, "etcdserver: key is not provided"},
		{"compact the future", one2(kv.Compact(ctx, &pb.CompactionRequest{Revision: 99})), codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},

		{"txn with 5 operations", txn(putOp("1"), putOp("2"), putOp("3"), putOp("4"), putOp("5")), codes.InvalidArgument, "etcdserver: too many operations in txn request"},
		{"txn with 5 nested", txn(putOp("1"), putOp("2"), txnOp(ops(putOp("3"), putOp("4")), nil)), codes.InvalidArgument, "etcdserver: too many operations in txn request"},
		{"txn with empty op", txn(&pb.RequestOp{}), codes.InvalidArgument, "etcdserver: key not found"},
		{"txn compare without key", one2(kv.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{{}}})), codes.InvalidArgument, "etcdserver: key is not provided"},
		{"txn failure branch", one2(kv.Txn(ctx, &pb.TxnRequest{Failure: ops(putOp(""))})), codes.InvalidArgument, "etcdserver: key is not provided"},
		{"txn twice", txn(putOp("a"), putOp("a")), codes.InvalidArgument, "etcdserver: duplicate key given in txn request"},

		{"stream without key", stream(&pb.RangeRequest{}), codes.InvalidArgument, "etcdserver: key is not provided"},
		{"stream sorted", stream(&pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_DESCEND}), codes.Unimplemented, "RangeStream does not support custom sort orders"},
		{"stream filtered", stream(&pb.RangeRequest{Key: key, MinModRevision: 1}), codes.Unimplemented, "RangeStream does not support revision filters"},
		{"stream in the future", stream(&pb.RangeRequest{Key: key, Revision: 99}), codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},

		{"lease TTL", one2(le.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 9_000_000_001})), codes.OutOfRange, "etcdserver: too large lease TTL"},
		{"lease revoke", one2(le.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7})), codes.NotFound, "etcdserver: requested lease not found"},

		{"member add without URL", one2(cl.MemberAdd(ctx, &pb.MemberAddRequest{})), codes.InvalidArgument, "etcdserver: given member URLs are invalid"},
		{"member add bad URL", one2(cl.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"nowhere"}})), codes.InvalidArgument, "etcdserver: given member URLs are invalid"},
		{"member add twice", one2(cl.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:2380"}})), codes.FailedPrecondition, "etcdserver: Peer URLs already exists"},
		{"member remove unknown", one2(cl.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 7})), codes.NotFound, "etcdserver: member not found"},
		{"member remove last", one2(cl.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: testMember})), codes.FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members"},
		{"member promote voter", one2(cl.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: testMember})), codes.FailedPrecondition, "etcdserver: can only promote a learner member"},
		{"member update unknown", one2(cl.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 7, PeerURLs: []string{"http://h:1"}})), codes.NotFound, "etcdserver: member not found"},

		{"move to nobody", one2(mt.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 7})), codes.FailedPrecondition, "etcdserver: bad leader transferee"},
		{"hash of the future", one2(mt.HashKV(ctx, &pb.HashKVRequest{Revision: 99})), codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{"downgrade to nonsense", one2(mt.Downgrade(ctx, &pb.DowngradeRequest{})), codes.InvalidArgument, "etcdserver: wrong downgrade target version format"},
		{"downgrade of nothing", one2(mt.Downgrade(ctx, &pb.DowngradeRequest{Version: "3.6"})), codes.FailedPrecondition, "etcdserver: cluster version not found during downgrade"},
		{"downgrade somehow", one2(mt.Downgrade(ctx, &pb.DowngradeRequest{Action: 7})), codes.Unknown, "etcdserver: unknown method"},
		{"auth", one2(pb.NewAuthClient(s.conn).AuthEnable(ctx, &pb.AuthEnableRequest{})), codes.FailedPrecondition, "etcdserver: root user does not exist"},
	} {
		st := status.Convert(tc.err)
		if st.Code() != tc.code || !strings.HasPrefix(st.Message(), tc.text) || (strings.HasPrefix(tc.text, "etcdserver") && st.Message() != tc.text) {
			t.Errorf("%s: %v %q, want %v %q", tc.name, st.Code(), st.Message(), tc.code, tc.text)
		}
	}
	if rev := s.m.KV().Rev(); rev != 2 {
		t.Errorf("bad requests made revision %d", rev)
	}
}

func one2[T any](_ T, err error) error { return err }

func TestTxnKeysOnce(t *testing.T) {
	for _, tc := range []struct {
		name string
		ok   bool
		ops  []*pb.RequestOp
	}{
		{"different keys", true, ops(putOp("a"), putOp("b"), delOp("c", "d"))},
		{"put twice", false, ops(putOp("a"), putOp("a"))},
		{"delete and put", false, ops(delOp("a", ""), putOp("a"))},
		{"put and delete", false, ops(putOp("b"), delOp("a", "c"))},
		{"end is outside", true, ops(putOp("c"), delOp("a", "c"))},
		{"delete twice", true, ops(delOp("a", "c"), delOp("a", "c"), delOp("b", ""))},
		{"delete all", true, ops(delOp("\x00", "\x00"), putOp("a"))},
		{"put nested", false, ops(putOp("a"), txnOp(ops(putOp("a")), nil))},
		{"put nested in failure", false, ops(putOp("a"), txnOp(nil, ops(putOp("a"))))},
		{"both branches", true, ops(txnOp(ops(putOp("a")), ops(putOp("a"))))},
		{"branch deletes, branch puts", true, ops(txnOp(ops(delOp("a", "")), ops(putOp("a"))))},
		{"both branches and outside", false, ops(txnOp(ops(putOp("a")), ops(putOp("a"))), putOp("a"))},
		{"siblings put", false, ops(txnOp(ops(putOp("a")), nil), txnOp(nil, ops(putOp("a"))))},
		{"sibling deletes, then puts", false, ops(txnOp(ops(delOp("a", "b")), nil), txnOp(ops(putOp("a")), nil))},
		{"sibling puts, then deletes", true, ops(txnOp(ops(putOp("a")), nil), txnOp(ops(delOp("a", "b")), nil))},
		{"delete outside, put nested", false, ops(txnOp(ops(putOp("a")), nil), delOp("A", "b"))},
		{"delete nested deep, put outside", false, ops(txnOp(nil, ops(txnOp(ops(delOp("a", "b")), nil))), putOp("a"))},
	} {
		err := checkKeysOnce(tc.ops)
		if ok := err == nil; ok != tc.ok || (!ok && !errors.Is(err, rpctypes.ErrGRPCDuplicateKey)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for _, e := range wireErrors {
		got := wireError(fmt.Errorf("somewhere: %w", e.domain))
		if status.Code(got) == codes.OK || status.Convert(got).Message() != status.Convert(e.wire).Message() {
			t.Errorf("%v became %v", e.domain, got)
		}
	}
	both := fmt.Errorf("%w: %w", replica.ErrTimeout, replica.ErrNoLeader)
	if got := wireError(both); !errors.Is(got, rpctypes.ErrGRPCTimeoutDueToLeaderFail) {
		t.Errorf("timeout without leader: %v", got)
	}
	if got := wireError(fmt.Errorf("x: %w", context.DeadlineExceeded)); status.Code(got) != codes.DeadlineExceeded {
		t.Errorf("deadline: %v", got)
	}
	if got := wireError(errors.New("odd")); status.Code(got) != codes.Unknown {
		t.Errorf("unknown: %v", got)
	}
}

func TestQuota(t *testing.T) {
	s := serve(t, Options{QuotaBytes: 512 << 10}, watch.Options{})
	ctx, c := t.Context(), s.client
	must[*clientv3.PutResponse](t)(c.Put(ctx, "a", "fits"))
	if _, err := c.Put(ctx, "b", strings.Repeat("x", 1<<20)); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("put over the quota: %v", err)
	}
	alarms := must[*clientv3.AlarmResponse](t)(c.AlarmList(ctx))
	if len(alarms.Alarms) != 1 || alarms.Alarms[0].Alarm != pb.AlarmType_NOSPACE || alarms.Alarms[0].MemberID != testMember {
		t.Errorf("alarms %v", alarms.Alarms)
	}
	index, _ := s.m.Applied()
	if _, err := c.Put(ctx, "b", strings.Repeat("x", 1<<20)); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("put over the quota, again: %v", err)
	}
	if now, _ := s.m.Applied(); now != index {
		t.Error("the alarm was raised twice")
	}
	if _, err := c.Put(ctx, "b", "small"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("small put under the alarm: %v", err)
	}
	if _, err := c.Txn(ctx).Then(clientv3.OpPut("b", "")).Commit(); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("txn under the alarm: %v", err)
	}
	if _, err := c.Grant(ctx, 60); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("grant under the alarm: %v", err)
	}
	must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "a"))
	must[*clientv3.AlarmResponse](t)(c.AlarmDisarm(ctx, &clientv3.AlarmMember{}))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "b", "small"))
}

func TestRangeStream(t *testing.T) {
	s := serve(t, Options{MaxRequestBytes: 4 << 10}, watch.Options{})
	ctx := t.Context()
	const n = 300
	for i := range n {
		must[*clientv3.PutResponse](t)(s.client.Put(ctx, fmt.Sprintf("k%04d", i), strings.Repeat("v", 100)))
	}
	kv := pb.NewKVClient(s.conn)
	all := func() *pb.RangeRequest { return &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")} }
	for name, tc := range map[string]struct {
		change func(*pb.RangeRequest)
		chunks int // at least
	}{
		"all":        {func(*pb.RangeRequest) {}, 6},
		"keys":       {func(r *pb.RangeRequest) { r.KeysOnly = true }, 3},
		"limited":    {func(r *pb.RangeRequest) { r.Limit = 25 }, 2},
		"limit one":  {func(r *pb.RangeRequest) { r.Limit = 1 }, 1},
		"limit all":  {func(r *pb.RangeRequest) { r.Limit = n }, 6},
		"one key":    {func(r *pb.RangeRequest) { r.Key, r.RangeEnd = []byte("k0005"), nil }, 1},
		"nothing":    {func(r *pb.RangeRequest) { r.Key = []byte("kz") }, 1},
		"count":      {func(r *pb.RangeRequest) { r.CountOnly = true }, 1},
		"old":        {func(r *pb.RangeRequest) { r.Revision = 101 }, 2},
		"from a key": {func(r *pb.RangeRequest) { r.Key, r.RangeEnd = []byte("k0200"), []byte{0} }, 3},
	} {
		r := all()
		tc.change(r)
		want := must[*pb.RangeResponse](t)(kv.Range(ctx, r))
		stream := must[pb.KV_RangeStreamClient](t)(kv.RangeStream(ctx, r))
		got := &pb.RangeResponse{}
		var kvs []*mvccpb.KeyValue
		chunks := 0
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got.Header != nil {
				t.Errorf("%s: a chunk follows the one with the header", name)
			}
			got = resp.RangeResponse
			kvs = append(kvs, got.Kvs...)
			chunks++
		}
		got.Kvs = kvs
		if !proto.Equal(got, want) {
			t.Errorf("%s: %d pairs, count %d, more %v, %v; want %d pairs, count %d, more %v, %v", name,
				len(got.Kvs), got.Count, got.More, got.Header, len(want.Kvs), want.Count, want.More, want.Header)
		}
		if chunks < tc.chunks {
			t.Errorf("%s: %d chunks", name, chunks)
		}
	}
}

// A sort target without an order sorts each chunk by itself; every pair still
// comes once.
func TestRangeStreamSortsChunks(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx := t.Context()
	const n = 3 * firstChunkKeys
	for i := range n {
		must[*clientv3.PutResponse](t)(s.client.Put(ctx, fmt.Sprintf("k%02d", i), fmt.Sprintf("v%02d", n-i)))
	}
	stream := must[pb.KV_RangeStreamClient](t)(pb.NewKVClient(s.conn).RangeStream(ctx, &pb.RangeRequest{
		Key: []byte("k"), RangeEnd: []byte("l"), SortTarget: pb.RangeRequest_VALUE,
	}))
	seen := map[string]bool{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		byValue := func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
		if kvs := resp.RangeResponse.Kvs; !slices.IsSortedFunc(kvs, byValue) {
			t.Errorf("a chunk is not in the order of values: %v", kvs)
		}
		for _, kv := range resp.RangeResponse.Kvs {
			if seen[string(kv.Key)] {
				t.Errorf("%s came twice", kv.Key)
			}
			seen[string(kv.Key)] = true
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d pairs came", len(seen), n)
	}
}

// Writes while a stream is under way are not in it.
func TestRangeStreamIsOneRevision(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx := t.Context()
	for i := range 30 {
		must[*clientv3.PutResponse](t)(s.client.Put(ctx, fmt.Sprintf("k%02d", i), "old"))
	}
	c := chunks{s: s.s, ctx: ctx, key: []byte("k"), end: []byte("l"), left: 1 << 40, shape: &pb.RangeRequest{}}
	var last *pb.RangeResponse
	total := 0
	err := c.send(func(m any) error {
		r := m.(*pb.RangeStreamResponse)
		for _, kv := range r.RangeResponse.Kvs {
			if !bytes.Equal(kv.Value, []byte("old")) {
				t.Errorf("%s is %s", kv.Key, kv.Value)
			}
			total++
		}
		last = r.RangeResponse
		_, err := s.client.Put(ctx, "k29", "new")
		return err
	})
	if err != nil || total != 30 || last.Count != 30 || last.Header.Revision != 31 {
		t.Errorf("%d pairs, last chunk %v, %v", total, last.Header, err)
	}
}
