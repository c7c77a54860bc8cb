package state

import (
	"context"
	"errors"
	"math/rand"
	"net/url"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
)

// oracle is a real etcd in this process.
type oracle struct {
	kv     pb.KVClient
	lease  pb.LeaseClient
	upkeep pb.MaintenanceClient
	watch  pb.WatchClient
}

func startOracle(t *testing.T) *oracle {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "fatal"
	cfg.UnsafeNoFsync = true
	cfg.TickMs, cfg.ElectionMs = 10, 100
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = loopback, loopback
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	conn, err := grpc.NewClient(etcd.Clients[0].Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &oracle{
		kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn),
		upkeep: pb.NewMaintenanceClient(conn), watch: pb.NewWatchClient(conn),
	}
}

// kinds maps etcd's error texts to the sentinels of the state machine; those
// mapped to nil are given before a request gets that far.
var kinds = map[string]error{
	rpctypes.ErrorDesc(rpctypes.ErrGRPCCompacted):        mvcc.ErrCompacted,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCFutureRev):        mvcc.ErrFutureRev,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCKeyNotFound):      ErrKeyNotFound,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCNoSpace):          ErrNoSpace,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCCorrupt):          ErrCorrupt,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound):    lease.ErrNotFound,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseExist):       lease.ErrExists,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseTTLTooLarge): lease.ErrTTLTooLarge,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCDuplicateKey):     nil,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCValueProvided):    nil,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseProvided):    nil,
}

// pending is a command whose answer by etcd is known already.
type pending struct {
	command Command
	request proto.Message
	want    proto.Message
	wantErr error
}

// differ drives etcd and a machine side by side. Commands are collected and
// applied in batches of random sizes.
type differ struct {
	t      *testing.T
	ctx    context.Context
	etcd   *oracle
	m      *testMachine
	gen    *generator
	queue  []pending
	events []RevisionEvents
	// stream watches all keys in etcd; want are the events received, watched
	// their last revision.
	stream  pb.Watch_WatchClient
	want    []*mvccpb.Event
	watched int64
	// errs counts the errors compared by kind, refused the requests that never
	// got to the state machine.
	errs    map[error]int
	refused int
}

func TestSameAnswersAsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server and sends it thousands of requests")
	}
	const seed, steps = 20, 3500
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	d := &differ{
		t: t, ctx: ctx, etcd: startOracle(t), m: newMachine(t), errs: map[error]int{},
		gen: &generator{rng: rand.New(rand.NewSource(seed)), rev: 1},
	}
	d.watched = 1
	d.watch()
	for i := 0; i < steps && !t.Failed(); i++ {
		d.step()
		d.gen.rev = max(d.m.KV().Rev(), 1)
		d.gen.compacted = d.m.KV().CompactRev()
		if i%250 == 249 {
			d.compareHashes()
		}
	}
	d.flush()
	d.compareHashes()
	d.compareEvents()
	t.Logf("revision %d; errors %v; %d refused on arrival", d.m.KV().Rev(), d.errs, d.refused)
	for name, n := range map[string]int{
		"compacted": d.errs[mvcc.ErrCompacted], "future": d.errs[mvcc.ErrFutureRev],
		"key not found": d.errs[ErrKeyNotFound], "lease not found": d.errs[lease.ErrNotFound],
		"lease exists": d.errs[lease.ErrExists], "no space": d.errs[ErrNoSpace], "corrupt": d.errs[ErrCorrupt],
	} {
		if n == 0 {
			t.Errorf("the run never met the error %q", name)
		}
	}
}

func (d *differ) step() {
	g := d.gen
	switch n := g.rng.Intn(1000); {
	case n < 300:
		send(d, KindPut, g.put(), d.etcd.kv.Put)
	case n < 400:
		send(d, KindDeleteRange, g.delete(), d.etcd.kv.DeleteRange)
	case n < 680:
		send(d, KindTxn, g.txn(2, g.chance(15)), d.etcd.kv.Txn)
	case n < 850:
		r := g.rangeRequest()
		read(d, r, d.etcd.kv.Range, d.m.Range)
	case n < 890:
		r := g.txn(0, true)
		read(d, r, d.etcd.kv.Txn, d.m.ReadTxn)
	case n < 900:
		d.catchUp()
		send(d, KindCompact, g.compaction(), d.etcd.kv.Compact)
	case n < 940:
		send(d, KindLeaseGrant, g.grant(), d.etcd.lease.LeaseGrant)
	case n < 960:
		send(d, KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: g.lease()}, d.etcd.lease.LeaseRevoke)
	case n < 980:
		d.compareLeases()
	case n < 985:
		d.alarmed()
	default:
		d.flush()
		if _, err := d.m.Step(g.rng.Intn(20) + 1); err != nil {
			d.t.Fatal(err)
		}
	}
}

// alarmed raises an alarm, sends some requests, and clears it again.
func (d *differ) alarmed() {
	kind := pb.AlarmType(d.gen.rng.Intn(2) + 1)
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) {
		r := &pb.AlarmRequest{Action: action, Alarm: kind, MemberID: 7}
		send(d, KindAlarm, r, d.etcd.upkeep.Alarm)
	}
	alarm(pb.AlarmRequest_ACTIVATE, kind)
	alarm(pb.AlarmRequest_ACTIVATE, kind)
	alarm(pb.AlarmRequest_GET, pb.AlarmType_NONE)
	for range 6 {
		send(d, KindPut, d.gen.put(), d.etcd.kv.Put)
		send(d, KindDeleteRange, d.gen.delete(), d.etcd.kv.DeleteRange)
		// One that reads only is no command in etcd, and never meets an alarm.
		if r := d.gen.txn(2, false); !IsReadOnly(r) {
			send(d, KindTxn, r, d.etcd.kv.Txn)
		}
	}
	send(d, KindLeaseGrant, d.gen.grant(), d.etcd.lease.LeaseGrant)
	send(d, KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: d.gen.lease()}, d.etcd.lease.LeaseRevoke)
	send(d, KindCompact, &pb.CompactionRequest{Revision: d.gen.rev + 100}, d.etcd.kv.Compact)
	alarm(pb.AlarmRequest_DEACTIVATE, kind)
	alarm(pb.AlarmRequest_DEACTIVATE, kind)
	alarm(pb.AlarmRequest_GET, kind)
}

// call is a method of one of etcd's clients.
type call[Q, R proto.Message] func(context.Context, Q, ...grpc.CallOption) (R, error)

// send asks etcd and queues the command for the machine.
func send[Q, R proto.Message](d *differ, k Kind, r Q, do call[Q, R]) {
	d.t.Helper()
	want, err := do(d.ctx, r)
	wantErr, refused := d.kindOf(err)
	if refused {
		d.refused++
		return
	}
	d.queue = append(d.queue, pending{command(d.t, k, r), r, want, wantErr})
	if len(d.queue) > d.gen.rng.Intn(8) {
		d.flush()
	}
}

// kindOf finds the sentinel of an error; refused means that there is none, and
// that the request must not get to the machine.
func (d *differ) kindOf(err error) (kind error, refused bool) {
	d.t.Helper()
	if err == nil {
		return nil, false
	}
	kind, known := kinds[status.Convert(err).Message()]
	if !known {
		d.t.Fatalf("etcd gave an unexpected error: %v", err)
	}
	return kind, kind == nil
}

// flush applies the queue as one batch of one or more entries.
func (d *differ) flush() {
	d.t.Helper()
	if len(d.queue) == 0 {
		return
	}
	var entries []Entry
	for _, p := range d.queue {
		if len(entries) == 0 || d.gen.chance(40) {
			e := d.m.entry()
			e.Index += uint64(len(entries))
			entries = append(entries, e)
		}
		last := &entries[len(entries)-1]
		last.Commands = append(last.Commands, p.command)
	}
	out := d.m.apply(entries...)
	d.events = append(d.events, out.Events...)
	var results []Result
	for _, e := range out.Entries {
		results = append(results, e.Results...)
	}
	for i, p := range d.queue {
		d.compare(p.request, results[i].Response, results[i].Err, p.want, p.wantErr)
	}
	d.queue = d.queue[:0]
}

// read asks both for something that needs no command.
func read[Q, R proto.Message](d *differ, r Q, do call[Q, R], mine func(Q) (R, error)) {
	d.t.Helper()
	d.flush()
	want, err := do(d.ctx, r)
	wantErr, refused := d.kindOf(err)
	if refused {
		d.t.Fatalf("etcd refused %v: %v", r, err)
	}
	got, err := mine(r)
	d.compare(r, got, err, want, wantErr)
}

func (d *differ) compare(request, got proto.Message, err error, want proto.Message, wantErr error) {
	d.t.Helper()
	if wantErr != nil || err != nil {
		d.errs[wantErr]++
		if wantErr == nil || !errors.Is(err, wantErr) {
			d.t.Errorf("%T %v\n got error %v\nwant error %v", request, request, err, wantErr)
		}
		return
	}
	clearIdentity(want)
	if !proto.Equal(got, want) {
		d.t.Errorf("%T %v\n got %s\nwant %s", request, request, prototext.Format(got), prototext.Format(want))
	}
}

// clearIdentity removes what the state machine does not know: whose answer it
// is, and in which term.
func clearIdentity(m proto.Message) {
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
		header := h.GetHeader()
		header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
	}
}

func (d *differ) compareLeases() {
	d.t.Helper()
	d.flush()
	list, err := d.etcd.lease.LeaseLeases(d.ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	var ids []lease.ID
	for _, l := range list.Leases {
		ids = append(ids, lease.ID(l.ID))
		want, err := d.etcd.lease.LeaseTimeToLive(d.ctx, &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
		if err != nil {
			d.t.Fatal(err)
		}
		got, _ := d.m.Leases().Lookup(lease.ID(l.ID))
		if got.TTLSeconds != want.GrantedTTL {
			d.t.Errorf("lease %d has TTL %d, want %d", l.ID, got.TTLSeconds, want.GrantedTTL)
		}
		slices.SortFunc(want.Keys, slices.Compare)
		if keys := d.m.Leases().Keys(lease.ID(l.ID)); !slices.EqualFunc(keys, want.Keys, slices.Equal) {
			d.t.Errorf("lease %d holds %q, want %q", l.ID, keys, want.Keys)
		}
	}
	slices.Sort(ids)
	if got := d.m.Leases().List(); !slices.Equal(got, ids) {
		d.t.Errorf("leases are %v, want %v", got, ids)
	}
}

func (d *differ) compareHashes() {
	d.t.Helper()
	d.flush()
	rev := d.m.KV().Rev()
	if rev == d.m.KV().CompactRev() {
		return // etcd answers with the hash that it took before that compaction
	}
	want, err := d.etcd.upkeep.HashKV(d.ctx, &pb.HashKVRequest{Revision: rev})
	if err != nil {
		d.t.Fatal(err)
	}
	hash, compacted, _, err := d.m.KV().HashKV(0)
	if err != nil {
		d.t.Fatal(err)
	}
	if hash != want.Hash || compacted != want.CompactRevision {
		d.t.Errorf("HashKV is %x after compaction %d, want %x after %d", hash, compacted, want.Hash, want.CompactRevision)
	}
}

// watch follows all keys in etcd.
func (d *differ) watch() {
	stream, err := d.etcd.watch.Watch(d.ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	create := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true, StartRevision: 2}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		d.t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		d.t.Fatal(err)
	}
	d.stream = stream
}

// catchUp receives etcd's events up to the newest revision. etcd looks previous
// values up when it delivers an event, and does not find them any more after
// a compaction.
func (d *differ) catchUp() {
	d.t.Helper()
	d.flush()
	for d.watched < d.m.KV().Rev() {
		resp, err := d.stream.Recv()
		if err != nil || resp.Canceled {
			d.t.Fatalf("watch: %v, %v", resp, err)
		}
		d.want = append(d.want, resp.Events...)
		d.watched = d.want[len(d.want)-1].Kv.ModRevision
	}
}

func (d *differ) compareEvents() {
	d.t.Helper()
	d.catchUp()
	var got []*mvccpb.Event
	for i, r := range d.events {
		if r.Rev != int64(i)+2 {
			d.t.Fatalf("the events at position %d are of revision %d", i, r.Rev)
		}
		got = append(got, r.Events...)
	}
	if len(got) != len(d.want) {
		d.t.Fatalf("%d events, want %d", len(got), len(d.want))
	}
	for i := range got {
		if !proto.Equal(got[i], d.want[i]) {
			d.t.Fatalf("event %d is\n%s\nwant\n%s", i, prototext.Format(got[i]), prototext.Format(d.want[i]))
		}
	}
}
