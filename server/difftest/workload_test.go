package difftest

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var (
	wantedOps = flag.Int("difftest.ops", 100_000, "requests of the differential workload")
	seed      = flag.Uint64("difftest.seed", 1, "seed of the differential workload")
)

// The workload goes in rounds: batches of requests, then all watchers catch up
// and are compared, then keys are compacted, and watchers end.
const (
	batchesPerRound = 5
	opsPerBatch     = 200
	roundsPerPhase  = 7 // with users checked, then without
	mostWatchers    = 60
)

// watcher is one that lives on every side.
type watcher struct {
	as      string
	id      int64
	request *pb.WatchCreateRequest
	// from is the first revision that was not compared yet.
	from int64
	// doomed: it asked for what is compacted.
	doomed bool
	// settled: its first events were compared.
	settled bool
}

// workload is the progress of one run.
type workload struct {
	t        *testing.T
	sides    []*side
	g        *generator
	ops      int
	watchers []*watcher
	// history has the events of the revisions that are not compacted.
	history []*mvccpb.Event
	// compactions are the revisions that were compacted to.
	compactions []int64
	// met counts the errors by their text, calls by their method.
	met, calls map[string]int
}

// The same long workload on a real etcd and on every engine: every answer,
// every event and every error.
func TestSameAnswersAsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("plays a long workload to an etcd server")
	}
	w := &workload{
		t: t, sides: startSides(t, limits{}), met: map[string]int{}, calls: map[string]int{},
		g: &generator{rng: rand.New(rand.NewPCG(*seed, 0)), rev: 1},
	}
	defer w.play(closeWatches{})
	w.play(createWatch{witness, &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true}})
	w.play(w.call("", pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("a")}))
	for round := 0; w.ops < *wantedOps; round++ {
		if round%roundsPerPhase == roundsPerPhase-1 {
			w.changePhase()
		}
		for range batchesPerRound {
			var batch []step
			for range opsPerBatch {
				batch = append(batch, w.next())
			}
			w.play(batch...)
		}
		w.settle()
		w.endRound(round)
	}
	w.settle()
	t.Logf("seed %d: %d requests without a difference, revision %d", *seed, w.ops, w.g.rev)
	t.Logf("requests: %v", w.calls)
	t.Logf("errors: %v", w.met)
	w.checkErrorsMet()
}

// play does the steps in order on every side at once, and compares.
func (w *workload) play(steps ...step) {
	w.t.Helper()
	answers := make([][]answer, len(w.sides))
	var all sync.WaitGroup
	for i, s := range w.sides {
		all.Go(func() {
			for _, step := range steps {
				a := step.play(w.t.Context(), s)
				if answers[i] = append(answers[i], a); stuck(a.err) {
					return
				}
			}
		})
	}
	all.Wait()
	for n, step := range steps {
		w.ops++
		for i, s := range w.sides {
			if a := answers[i][n]; stuck(a.err) {
				w.t.Fatalf("%s is stuck: seed %d, request %d\n%v\n%v", s.name, *seed, w.ops, step, a)
			}
		}
		want := answers[0][n]
		for i, s := range w.sides[1:] {
			if what := difference(want, answers[i+1][n]); what != "" {
				w.t.Fatalf("%s differs: seed %d, request %d (go test ./server/difftest -run SameAnswersAsEtcd -difftest.seed=%d -difftest.ops=%d)\n%v\n%s:\n     %v\netcd:\n     %v",
					what, *seed, w.ops, *seed, w.ops, step, s.name, answers[i+1][n], want)
			}
		}
		w.learn(step, want)
	}
}

// learn keeps what the next requests are made from.
func (w *workload) learn(s step, a answer) {
	if a.err != nil {
		w.met[status.Convert(a.err).Message()]++
	}
	for _, m := range a.messages {
		if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
			w.g.rev = max(w.g.rev, h.GetHeader().GetRevision())
		}
	}
	switch s := s.(type) {
	case call:
		w.calls[s.method[strings.LastIndex(s.method, "/")+1:]]++
		w.learnCall(s, a)
	case createWatch:
		w.calls["Watch"]++
		if a.err != nil || s.as == witness {
			return
		}
		r := a.messages[0].(*pb.WatchResponse)
		if r.Canceled {
			w.met[r.CancelReason]++
			return
		}
		start := s.request.StartRevision
		w.watchers = append(w.watchers, &watcher{
			as: s.as, id: r.WatchId, request: s.request, doomed: start > 0 && start < w.g.compacted,
			from: max(start, 0),
		})
		if start == 0 {
			w.watchers[len(w.watchers)-1].from = r.Header.Revision + 1
		}
	case cancelWatch:
		w.forget(func(v *watcher) bool { return v.as == s.as && v.id == s.id })
	case closeWatches:
		w.watchers = nil
	case catchUp:
		w.history = append(w.history, a.messages[0].(*pb.WatchResponse).Events...)
	}
}

func (w *workload) learnCall(c call, a answer) {
	if a.err != nil {
		return
	}
	switch r := c.request.(type) {
	case *pb.CompactionRequest:
		w.g.compacted = r.Revision
		w.compactions = append(w.compactions, r.Revision)
		w.history = slices.DeleteFunc(w.history, func(e *mvccpb.Event) bool { return e.Kv.ModRevision < r.Revision })
	case *pb.AuthEnableRequest:
		w.g.checked = true
	case *pb.AuthDisableRequest:
		w.g.checked = false
	}
}

func (w *workload) forget(gone func(*watcher) bool) { w.watchers = slices.DeleteFunc(w.watchers, gone) }

func (w *workload) call(as, method string, r proto.Message) step { return call{as, method, r} }

// caller is who makes the next request.
func (w *workload) caller() string {
	if !w.g.checked && w.g.chance(90) {
		return ""
	}
	return w.g.pick("root", "root", "root", "root", "u1", "u1", "u2", "u2", "u3", "")
}

// next is a random request that needs no preparation.
func (w *workload) next() step {
	g, as := w.g, w.caller()
	switch n := g.rng.IntN(1000); {
	case n < 290:
		return w.call(as, pb.KV_Put_FullMethodName, g.put())
	case n < 370:
		return w.call(as, pb.KV_DeleteRange_FullMethodName, g.delete())
	case n < 580:
		return w.call(as, pb.KV_Txn_FullMethodName, g.txn(2, g.chance(15)))
	case n < 790:
		return w.call(as, pb.KV_Range_FullMethodName, g.get())
	case n < 830:
		return w.call(as, pb.KV_RangeStream_FullMethodName, g.stream())
	case n < 880:
		return w.lease(as)
	case n < 900:
		if len(w.watchers) < mostWatchers {
			return createWatch{as, g.watch()}
		}
		return w.call(as, pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{})
	case n < 925:
		method, r := g.manage()
		return w.call(as, method, r)
	case n < 940:
		user := g.user()
		return w.call("", pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: user, Password: g.pick(user, user, user, user, "wrong", "")})
	case n < 950:
		return w.call(as, pb.KV_Compact_FullMethodName, w.refusedCompaction())
	}
	return w.upkeep(as)
}

func (w *workload) lease(as string) step {
	g := w.g
	id := g.lease()
	switch g.rng.IntN(10) {
	case 0, 1, 2, 3:
		return w.call(as, pb.Lease_LeaseGrant_FullMethodName, g.grant())
	case 4, 5:
		return w.call(as, pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: id})
	case 6:
		return w.call(as, pb.Lease_LeaseKeepAlive_FullMethodName, &pb.LeaseKeepAliveRequest{ID: id})
	case 7, 8:
		return w.call(as, pb.Lease_LeaseTimeToLive_FullMethodName, &pb.LeaseTimeToLiveRequest{ID: id, Keys: g.chance(70)})
	}
	return w.call(as, pb.Lease_LeaseLeases_FullMethodName, &pb.LeaseLeasesRequest{})
}

// refusedCompaction is to a revision that is compacted, or not there yet. It is
// not to 0 in the beginning, which etcd takes, and remembers a hash for.
func (w *workload) refusedCompaction() *pb.CompactionRequest {
	rev := w.g.rev + 1_000_000
	if w.g.compacted > 0 && w.g.chance(50) {
		rev = w.g.rng.Int64N(w.g.compacted + 1)
	}
	return &pb.CompactionRequest{Revision: rev, Physical: w.g.chance(50)}
}

func (w *workload) upkeep(as string) step {
	g := w.g
	switch g.rng.IntN(8) {
	case 0, 1:
		return w.call(as, pb.Maintenance_HashKV_FullMethodName, &pb.HashKVRequest{Revision: w.hashable()})
	case 2:
		return w.call(as, pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{})
	case 3:
		return w.call(as, pb.Cluster_MemberList_FullMethodName, &pb.MemberListRequest{Linearizable: g.chance(50)})
	case 4:
		return w.call(as, pb.Cluster_MemberRemove_FullMethodName, &pb.MemberRemoveRequest{ID: uint64(g.rng.IntN(3))})
	case 5:
		return w.call(as, pb.Cluster_MemberAdd_FullMethodName, &pb.MemberAddRequest{PeerURLs: []string{g.pick("http://127.0.0.1:0", "127.0.0.1:0")}})
	case 6:
		return w.call(as, pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{})
	}
	return w.call(as, pb.Maintenance_Hash_FullMethodName, &pb.HashRequest{})
}

// hashable is a revision that was not compacted to: for those etcd answers with
// a hash that it took while it compacted, until it starts anew.
func (w *workload) hashable() int64 {
	for {
		if rev := w.g.revision(); !slices.Contains(w.compactions, rev) {
			return rev
		}
	}
}

// settle waits until every watcher has got what the witness saw for it.
func (w *workload) settle() {
	w.t.Helper()
	// A revision of its own, so that there is something to wait for.
	w.play(w.call("root", pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("a")}))
	now := w.g.rev
	w.play(catchUp{now})
	var steps []step
	streams := map[string]bool{}
	for _, v := range w.watchers {
		e := expect{as: v.as, id: v.id, canceled: v.doomed, early: v.request.StartRevision > 0 && !v.settled}
		v.settled = true
		if !v.doomed {
			e.events = v.count(w.history)
			v.from = max(v.from, now+1)
		}
		steps = append(steps, e)
		if _, ok := streams[v.as]; !ok {
			streams[v.as] = true
		}
		if v.request.StartRevision > now {
			streams[v.as] = false // a watcher of the future has no progress
		}
	}
	w.play(steps...)
	for _, v := range slices.Clone(w.watchers) {
		if v.doomed { // etcd tells no progress until they are cancelled as well
			w.play(cancelWatch{v.as, v.id})
		}
	}
	for _, v := range w.watchers {
		if streams[v.as] {
			streams[v.as] = false
			w.play(requestProgress{v.as, now})
		}
	}
}

// endRound ends some watchers, compacts, and now and then does what takes time.
func (w *workload) endRound(round int) {
	w.t.Helper()
	g := w.g
	for _, v := range slices.Clone(w.watchers) {
		if g.chance(25) {
			w.play(cancelWatch{v.as, v.id})
		}
	}
	if low := g.compacted + 1; low <= g.rev && g.chance(60) {
		rev := low + g.rng.Int64N(g.rev-low+1)
		w.play(w.call("root", pb.KV_Compact_FullMethodName, &pb.CompactionRequest{Revision: rev, Physical: g.chance(50)}))
	}
	switch round % 20 {
	case 3:
		w.alarm(pb.AlarmType(1 + round/20%2)) // NOSPACE, then CORRUPT
	case 13:
		w.expire()
	}
}

// alarm raises an alarm, sends some requests, and clears it again.
func (w *workload) alarm(kind pb.AlarmType) {
	w.t.Helper()
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) step {
		return w.call("root", pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{Action: action, Alarm: kind, MemberID: 7})
	}
	steps := []step{alarm(pb.AlarmRequest_ACTIVATE, kind), alarm(pb.AlarmRequest_ACTIVATE, kind), alarm(pb.AlarmRequest_GET, pb.AlarmType_NONE)}
	for range 30 {
		steps = append(steps, w.next())
	}
	w.play(append(steps, alarm(pb.AlarmRequest_DEACTIVATE, kind), alarm(pb.AlarmRequest_DEACTIVATE, kind), alarm(pb.AlarmRequest_GET, kind))...)
}

// expire lets a lease end, which takes a key along.
func (w *workload) expire() {
	w.t.Helper()
	const id = 99
	w.play(
		w.call("root", pb.Lease_LeaseGrant_FullMethodName, &pb.LeaseGrantRequest{ID: id, TTL: 1}),
		w.call("root", pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("a/1"), Lease: id}),
		awaitExpiry{id},
		w.call("root", pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("a/1")}),
	)
}

// changePhase has users checked from now on, or not any more.
func (w *workload) changePhase() {
	w.t.Helper()
	w.settle()
	w.play(closeWatches{})
	if w.g.checked {
		w.play(w.call("root", pb.Auth_AuthDisable_FullMethodName, &pb.AuthDisableRequest{}))
		return
	}
	steps := []step{
		w.call("", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: "root", Password: "root"}),
		w.call("", pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: "root"}),
		w.call("", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}),
		w.call("", pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: "r1"}),
	}
	for _, r := range []*authpb.Permission{
		{PermType: authpb.Permission_READWRITE, Key: []byte("a"), RangeEnd: []byte("c")},
		{PermType: authpb.Permission_READ, Key: []byte("k/"), RangeEnd: []byte("k0")},
		{PermType: authpb.Permission_WRITE, Key: []byte("k/1"), RangeEnd: []byte("k/3")},
	} {
		steps = append(steps, w.call("", pb.Auth_RoleGrantPermission_FullMethodName, &pb.AuthRoleGrantPermissionRequest{Name: "r1", Perm: r}))
	}
	for _, user := range []string{"u1", "u2"} {
		steps = append(steps,
			w.call("", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: user, Password: user}),
			w.call("", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: user, Role: "r1"}))
	}
	steps = append(steps, w.call("", pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{}))
	for _, user := range []string{"root", "u1", "u2"} {
		steps = append(steps, w.call("", pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: user, Password: user}))
	}
	w.play(steps...)
}

// count is how many events of the history a watcher that was not looked at
// since v.from gets.
func (v *watcher) count(history []*mvccpb.Event) int {
	n := 0
	for _, e := range history {
		if e.Kv.ModRevision >= v.from && v.wants(e) {
			n++
		}
	}
	return n
}

func (v *watcher) wants(e *mvccpb.Event) bool {
	for _, f := range v.request.Filters {
		if f == pb.WatchCreateRequest_NOPUT && e.Type == mvccpb.Event_PUT || f == pb.WatchCreateRequest_NODELETE && e.Type == mvccpb.Event_DELETE {
			return false
		}
	}
	key, end := v.request.Key, v.request.RangeEnd
	switch {
	case len(end) == 0 && len(key) == 0:
		return bytes.Equal(e.Kv.Key, []byte{0})
	case len(end) == 0:
		return bytes.Equal(e.Kv.Key, key)
	case bytes.Equal(end, []byte{0}):
		return bytes.Compare(e.Kv.Key, key) >= 0
	}
	return bytes.Compare(e.Kv.Key, key) >= 0 && bytes.Compare(e.Kv.Key, end) < 0
}

// checkErrorsMet wants a run that has met what it is there for.
func (w *workload) checkErrorsMet() {
	w.t.Helper()
	if *wantedOps < 50_000 {
		return
	}
	for _, want := range []error{
		rpctypes.ErrGRPCCompacted, rpctypes.ErrGRPCFutureRev, rpctypes.ErrGRPCKeyNotFound, rpctypes.ErrGRPCDuplicateKey,
		rpctypes.ErrGRPCValueProvided, rpctypes.ErrGRPCLeaseProvided, rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCLeaseExist,
		rpctypes.ErrGRPCLeaseTTLTooLarge, rpctypes.ErrGRPCNoSpace, rpctypes.ErrGRPCCorrupt, rpctypes.ErrGRPCUserEmpty,
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthFailed,
		rpctypes.ErrGRPCMemberNotFound, rpctypes.ErrGRPCMemberBadURLs,
	} {
		if text := status.Convert(want).Message(); w.met[text] == 0 {
			w.t.Errorf("the run never met %q", text)
		}
	}
}
