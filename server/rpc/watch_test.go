package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func putCommand(t *testing.T, key, value string) state.Command {
	t.Helper()
	body, err := proto.Marshal(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return state.Command{Kind: state.KindPut, Body: body}
}

func create(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

func cancelWatch(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
}

// rawWatch is a watch stream without clientv3.
type rawWatch struct {
	t *testing.T
	pb.Watch_WatchClient
}

func openWatch(t *testing.T, ctx context.Context, s *served) rawWatch {
	t.Helper()
	return rawWatch{t, must[pb.Watch_WatchClient](t)(pb.NewWatchClient(s.conn).Watch(ctx))}
}

func (w rawWatch) send(r *pb.WatchRequest) {
	w.t.Helper()
	if err := w.Send(r); err != nil {
		w.t.Fatal(err)
	}
}

// want reads a response and compares it, but for the header's IDs and term,
// and the events' number.
func (w rawWatch) want(events int, want *pb.WatchResponse) *pb.WatchResponse {
	w.t.Helper()
	got, err := w.Recv()
	if err != nil {
		w.t.Fatalf("instead of %v: %v", want, err)
	}
	if h := got.Header; h.ClusterId != testCluster || h.MemberId != testMember || h.RaftTerm != 5 {
		w.t.Errorf("header %v", h)
	}
	flat := proto.Clone(got).(*pb.WatchResponse)
	flat.Events = nil
	flat.Header = &pb.ResponseHeader{Revision: got.Header.Revision}
	if len(got.Events) != events || !proto.Equal(flat, want) {
		w.t.Fatalf("got %v with %d events, want %v with %d", flat, len(got.Events), want, events)
	}
	return got
}

func at(rev int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: rev} }

func TestWatchProtocol(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx := t.Context()
	for i := range 3 {
		must[*clientv3.PutResponse](t)(s.client.Put(ctx, "a", fmt.Sprint(i)))
	}
	w := openWatch(t, ctx, s)
	w.send(create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2, PrevKv: true}))
	w.want(0, &pb.WatchResponse{Header: at(4), Created: true})
	r := w.want(3, &pb.WatchResponse{Header: at(4)})
	if r.Events[0].PrevKv != nil || string(r.Events[1].PrevKv.Value) != "0" || string(r.Events[2].Kv.Value) != "2" {
		t.Errorf("events %v", r.Events)
	}
	w.send(create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")}))
	w.want(0, &pb.WatchResponse{Header: at(4), WatchId: -1, Created: true, Canceled: true, CancelReason: "mvcc: watcher range is empty"})
	w.send(create(&pb.WatchCreateRequest{Key: []byte("b"), StartRevision: -1}))
	w.want(0, &pb.WatchResponse{Header: at(4), WatchId: -1, Created: true, Canceled: true, CancelReason: "etcdserver: mvcc: required revision has been compacted"})
	w.send(create(&pb.WatchCreateRequest{RangeEnd: []byte{0}, WatchId: 7, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}}))
	w.want(0, &pb.WatchResponse{Header: at(4), WatchId: 7, Created: true})
	w.send(create(&pb.WatchCreateRequest{Key: []byte("b"), WatchId: 7}))
	w.want(0, &pb.WatchResponse{Header: at(4), WatchId: -1, Created: true, Canceled: true, CancelReason: "mvcc: duplicate watch ID provided on the WatchStream"})
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
	w.want(0, &pb.WatchResponse{Header: at(4), WatchId: -1})

	w.send(cancelWatch(55)) // nothing, and the server lives
	w.send(&pb.WatchRequest{})
	w.send(cancelWatch(0))
	w.want(0, &pb.WatchResponse{Header: at(4), Canceled: true})
	must[*clientv3.DeleteResponse](t)(s.client.Delete(ctx, "a"))
	r = w.want(1, &pb.WatchResponse{Header: at(5), WatchId: 7})
	if r.Events[0].Type != mvccpb.Event_DELETE || r.Events[0].PrevKv != nil {
		t.Errorf("event %v", r.Events[0])
	}

	must[*clientv3.CompactResponse](t)(s.client.Compact(ctx, 4))
	w.send(create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2}))
	w.want(0, &pb.WatchResponse{Header: at(5), WatchId: 1, Created: true})
	w.want(0, &pb.WatchResponse{Header: at(0), WatchId: 1, Canceled: true, CompactRevision: 4})
	w.send(cancelWatch(1))
	w.want(0, &pb.WatchResponse{Header: at(5), WatchId: 1, Canceled: true})

	// A client that sends no more still gets its events.
	if err := w.CloseSend(); err != nil {
		t.Fatal(err)
	}
	must[*clientv3.PutResponse](t)(s.client.Put(ctx, "c", ""))
	must[*clientv3.DeleteResponse](t)(s.client.Delete(ctx, "c"))
	w.want(1, &pb.WatchResponse{Header: at(7), WatchId: 7})
}

// What the codec makes by hand is what it makes of the same response otherwise.
func TestSharedEventsOnTheWire(t *testing.T) {
	events := func(revs ...int64) (list []*mvccpb.Event) {
		for _, rev := range revs {
			list = append(list, &mvccpb.Event{Type: mvccpb.Event_EventType(rev % 2), Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: rev}})
		}
		return list
	}
	for _, want := range []*pb.WatchResponse{
		{Header: &pb.ResponseHeader{}, Events: events(2)},
		{Header: &pb.ResponseHeader{ClusterId: 1 << 63, MemberId: 7, Revision: 1 << 40, RaftTerm: 300}, WatchId: 1<<63 - 1, Events: events(5, 6, 7)},
		{Header: &pb.ResponseHeader{ClusterId: 1, Revision: 1}, WatchId: 128, Events: events(8, 9)},
	} {
		last := len(want.Events) - 1
		coded := &codedEvents{header: want.Header, watchID: want.WatchId, parts: []*watch.Events{{List: want.Events[:last]}, {List: want.Events[last:]}}}
		b, err := newCodec().Marshal(coded)
		if err != nil {
			t.Fatal(err)
		}
		got := &pb.WatchResponse{}
		if err := proto.Unmarshal(b.Materialize(), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
}

func TestWatchClient(t *testing.T) {
	s := serve(t, Options{}, watch.Options{OutboxEvents: 4, ProgressInterval: 100 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := s.client.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatalf("first response %+v", r)
	}
	const n = 200
	for i := range n {
		s.Propose(ctx, putCommand(t, "k", fmt.Sprint(i)))
	}
	next := 0
	for next < n {
		r := <-events
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		for _, ev := range r.Events {
			if string(ev.Kv.Value) != fmt.Sprint(next) || (next > 0 && string(ev.PrevKv.Value) != fmt.Sprint(next-1)) {
				t.Fatalf("event %d is %v", next, ev)
			}
			next++
		}
	}
	progress := s.client.Watch(ctx, "z", clientv3.WithProgressNotify())
	if r := <-progress; !r.IsProgressNotify() || r.Header.Revision != n+1 {
		t.Errorf("progress %+v", r)
	}
	cancel()
	for range events { // closed, since the watch is cancelled
	}
}

func TestFragments(t *testing.T) {
	s := serve(t, Options{MaxRequestBytes: 16 << 10}, watch.Options{})
	w := openWatch(t, t.Context(), s)
	w.send(create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b"), Fragment: true}))
	w.send(create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b")}))
	w.want(0, &pb.WatchResponse{Header: at(1), Created: true})
	w.want(0, &pb.WatchResponse{Header: at(1), WatchId: 1, Created: true})
	// One revision larger than two messages may be.
	big := make([]*pb.RequestOp, 5)
	for i := range big {
		big[i] = putOp(fmt.Sprintf("a%d", i))
		big[i].GetRequestPut().Value = make([]byte, 250<<10)
	}
	body, err := proto.Marshal(&pb.TxnRequest{Success: big})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Propose(t.Context(), state.Command{Kind: state.KindTxn, Body: body}); err != nil {
		t.Fatal(err)
	}
	var parts, events int
	for whole := false; parts < 3 || !whole; {
		r, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.WatchId == 1 {
			whole = len(r.Events) == 5 && !r.Fragment
			continue
		}
		parts++
		events += len(r.Events)
		if proto.Size(r) >= 16<<10+requestOverheadBytes {
			t.Errorf("a fragment of %d bytes", proto.Size(r))
		}
		if r.Fragment != (events < 5) {
			t.Errorf("fragment %d with %d of 5 events says %v", parts, events, r.Fragment)
		}
	}
	if parts != 3 || events != 5 {
		t.Errorf("%d fragments with %d events", parts, events)
	}
}

func TestStreamsThatRequireALeader(t *testing.T) {
	s := serve(t, Options{LeaderLossTimeout: 50 * time.Millisecond}, watch.Options{})
	ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	needs, free := openWatch(t, ctx, s), openWatch(t, t.Context(), s)
	alive := must[pb.Lease_LeaseKeepAliveClient](t)(pb.NewLeaseClient(s.conn).LeaseKeepAlive(ctx))
	for _, w := range []rawWatch{needs, free} {
		w.send(create(&pb.WatchCreateRequest{Key: []byte("a")}))
		w.want(0, &pb.WatchResponse{Header: at(1), Created: true})
	}
	if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if r, err := alive.Recv(); err != nil || r.TTL != 0 {
		t.Fatalf("keep-alive of an unknown lease: %v, %v", r, err)
	}
	s.set(func(st *replica.Status) { st.Leader = 0 })
	if _, err := needs.Recv(); !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		t.Errorf("watch ended with %v", err)
	}
	if _, err := alive.Recv(); !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		t.Errorf("keep-alive ended with %v", err)
	}
	if _, err := openWatch(t, ctx, s).Recv(); !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		t.Errorf("new watch: %v", err)
	}
	if _, err := pb.NewKVClient(s.conn).Range(ctx, &pb.RangeRequest{Key: []byte("a")}); !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		t.Errorf("get: %v", err)
	}
	if _, _, err := s.Propose(t.Context(), putCommand(t, "a", "")); err != nil {
		t.Fatal(err)
	}
	free.want(1, &pb.WatchResponse{Header: at(2)})
}

func TestLearner(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	s.set(func(st *replica.Status) { st.Learner = true })
	ctx, c := t.Context(), s.client
	must[*clientv3.GetResponse](t)(c.Get(ctx, "a", clientv3.WithSerializable()))
	if st := must[*clientv3.StatusResponse](t)(c.Status(ctx, s.addr)); !st.IsLearner {
		t.Errorf("status %v", st)
	}
	const text = "etcdserver: rpc not supported for learner"
	kv := pb.NewKVClient(s.conn)
	_, getErr := kv.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	_, putErr := kv.Put(ctx, &pb.PutRequest{Key: []byte("a")})
	_, listErr := pb.NewClusterClient(s.conn).MemberList(ctx, &pb.MemberListRequest{})
	_, watchErr := openWatch(t, ctx, s).Recv()
	for name, err := range map[string]error{"get": getErr, "put": putErr, "members": listErr, "watch": watchErr} {
		if st := status.Convert(err); st.Code() != codes.FailedPrecondition || st.Message() != text {
			t.Errorf("%s on a learner: %v", name, err)
		}
	}
}

func TestWatchEndsWithTheServer(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	w := openWatch(t, t.Context(), s)
	w.send(create(&pb.WatchCreateRequest{Key: []byte("a")}))
	w.want(0, &pb.WatchResponse{Header: at(1), Created: true})
	s.hub.Close()
	if _, err := w.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "server stopped") {
		t.Errorf("watch ended with %v", err)
	}
}
