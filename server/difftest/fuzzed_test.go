package difftest

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var oddOps = flag.Int("difftest.odd", 6_000, "requests that no client should send")

// playAll plays the steps in order on every side at once, wants the same
// answers, and gives etcd's.
func playAll(t testing.TB, sides []*side, steps ...step) []answer {
	t.Helper()
	answers := make([][]answer, len(sides))
	var all sync.WaitGroup
	for i, s := range sides {
		all.Go(func() {
			for _, step := range steps {
				answers[i] = append(answers[i], step.play(t.Context(), s))
			}
		})
	}
	all.Wait()
	for n, step := range steps {
		want := answers[0][n]
		for i, s := range sides[1:] {
			if what := difference(want, answers[i+1][n]); what != "" {
				t.Errorf("%s differs:\n%v\n%s:\n     %v\netcd:\n     %v", what, step, s.name, answers[i+1][n], want)
			}
		}
	}
	return answers[0]
}

// odd is one run of requests that no client should send.
type odd struct {
	t     testing.TB
	sides []*side
	o     oddities
	names []string // of all methods
	// checked: users are checked.
	checked bool
	// compactions are the revisions that were compacted to.
	compactions []int64
	// skipped counts what was not sent, by the reason; met the errors.
	skipped, met map[string]int
	sent         int
}

func startOdd(t testing.TB) *odd {
	t.Helper()
	o := &odd{
		t: t, sides: startSides(t, limits{}), o: oddities{rand.New(rand.NewPCG(*seed, 1))},
		skipped: map[string]int{}, met: map[string]int{},
	}
	for name := range methods {
		o.names = append(o.names, name)
	}
	slices.Sort(o.names)
	return o
}

// Requests that no client should send get the same answer, be it an error or
// not, and leave the same state.
func TestSameAnswersToOddRequests(t *testing.T) {
	if testing.Short() {
		t.Skip("plays thousands of requests to an etcd server")
	}
	o := startOdd(t)
	o.play(*oddOps / 2)
	o.checkUsers()
	o.play(*oddOps - *oddOps/2)
	t.Logf("seed %d: %d requests; not sent: %v", *seed, o.sent, o.skipped)
	t.Logf("%d different errors: %v", len(o.met), o.met)
	for _, want := range []error{
		rpctypes.ErrGRPCEmptyKey, rpctypes.ErrGRPCInvalidSortOption, rpctypes.ErrGRPCKeyNotFound, rpctypes.ErrGRPCCompacted,
		rpctypes.ErrGRPCFutureRev, rpctypes.ErrGRPCLeaseTTLTooLarge, rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCUserEmpty,
		rpctypes.ErrGRPCRoleEmpty, rpctypes.ErrGRPCPermissionNotGiven, rpctypes.ErrGRPCPermissionDenied,
		rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCMemberNotFound, rpctypes.ErrGRPCMemberBadURLs,
		rpctypes.ErrGRPCBadLeaderTransferee, rpctypes.ErrGRPCWrongDowngradeVersionFormat,
	} {
		if text := status.Convert(want).Message(); !t.Failed() && o.met[text] == 0 {
			t.Errorf("the run never met %q", text)
		}
	}
}

// FuzzOddRequests goes on from there: what it finds depends on what was sent
// before in the same run.
func FuzzOddRequests(f *testing.F) {
	o := startOdd(f)
	for n := range 200 {
		method := n % len(o.names)
		f.Add(uint8(method), o.o.body(methods[o.names[method]].input.Descriptor()))
	}
	f.Fuzz(func(t *testing.T, method uint8, body []byte) {
		c := oddCall{method: o.names[int(method)%len(o.names)], body: body}
		if o.unfit(c) != "" {
			return
		}
		o.learn(c, playAll(t, o.sides, append([]step{c}, o.makeUp(c.request())...)...)[0])
	})
}

func (o *odd) play(n int) {
	o.t.Helper()
	for ; n > 0 && !o.t.Failed(); n -= 50 {
		var steps []step
		for range 50 {
			c := o.next()
			steps = append(append(steps, c), o.makeUp(c.request())...)
		}
		o.sent += len(steps)
		for i, a := range playAll(o.t, o.sides, steps...) {
			o.learn(steps[i], a)
		}
	}
}

// oddMetadata is what callers may say beside their request.
var oddMetadata = [][]string{
	{"token", "nobody's"}, {"token", ""}, {"token", "a.1"}, {"token", "a.b.c"}, {"token", "x.99999999999999999999"},
	{"token", "1", "token", "2"}, {"authorization", "Bearer x"}, {"authorization", ""}, {"Token", "T"},
	{"hasleader", "true"}, {"hasleader", "perhaps"}, {"hasleader", ""}, {"client-api-version", "2.0"},
	{"client-api-version", ""}, {"grpcgateway-accept", "x"}, {"x-bin", "\x00\xff"},
}

func (o *odd) next() oddCall {
	for {
		name := pickOf(o.o.rng, o.names)
		if o.o.chance(50) { // what there is most to say to
			name = pickOf(o.o.rng, []string{pb.KV_Range_FullMethodName, pb.KV_Put_FullMethodName, pb.KV_Txn_FullMethodName, pb.Watch_Watch_FullMethodName})
		}
		c := oddCall{method: name, body: o.o.body(methods[name].input.Descriptor())}
		if o.checked {
			c.as = pickOf(o.o.rng, []string{"root", "root", "u1", "u1", ""})
		}
		if o.o.chance(10) {
			c.md = pickOf(o.o.rng, oddMetadata)
		}
		why := o.unfit(c)
		if why == "" {
			return c
		}
		o.skipped[why]++
	}
}

// makeUp undoes at once what would change the answers to all that follows, or
// what ends by itself at a time of its own.
func (o *odd) makeUp(r proto.Message) []step {
	switch r := r.(type) {
	case *pb.AlarmRequest:
		if r.Action == pb.AlarmRequest_ACTIVATE {
			off := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: r.MemberID, Alarm: r.Alarm}
			return []step{call{"root", pb.Maintenance_Alarm_FullMethodName, off}}
		}
	case *pb.LeaseGrantRequest:
		if r.TTL < 1_000_000 && r.ID != 0 {
			return []step{call{"root", pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: r.ID}}}
		}
	}
	return nil
}

func (o *odd) learn(s step, a answer) {
	if a.err != nil {
		o.met[status.Convert(a.err).Message()]++
		return
	}
	if c, ok := s.(oddCall); ok {
		if r, ok := c.request().(*pb.CompactionRequest); ok {
			o.compactions = append(o.compactions, r.Revision)
		}
	}
}

// unfit says why a call cannot be made: etcd runs in this process, and all that
// follows is to have one answer.
func (o *odd) unfit(c oddCall) string {
	r := c.request()
	if o.checked && reversed(r) {
		return "etcd's answer depends on how its tree of permissions has grown"
	}
	switch r := r.(type) {
	case *pb.TxnRequest:
		if keeps(r) && deletesToEnd(r) {
			return "etcd does not see that the delete names the same key, and panics"
		}
	case *pb.AlarmRequest:
		if _, ok := pb.AlarmRequest_AlarmAction_name[int32(r.Action)]; !ok {
			return "etcd panics of an action that it does not know"
		}
	case *pb.MemberAddRequest:
		if !r.IsLearner {
			return "a second voter would take the quorum along"
		}
	case *pb.DowngradeRequest:
		if r.Action == pb.DowngradeRequest_ENABLE {
			return "the versions follow some time later"
		}
	case *pb.CompactionRequest:
		if r.Revision == 0 && len(o.compactions) == 0 {
			return "etcd takes it, and remembers a hash"
		}
	case *pb.HashKVRequest:
		if slices.Contains(o.compactions, r.Revision) {
			return "etcd answers with a hash that it took while it compacted"
		}
	case *pb.LeaseGrantRequest:
		if r.TTL < 1_000_000 && r.ID == 0 {
			return "it would end while the run goes on"
		}
	case *pb.AuthDisableRequest:
		if o.checked {
			return "users are to be checked"
		}
	case *v3electionpb.LeaderRequest:
		if c.method == v3electionpb.Election_Observe_FullMethodName {
			return "it would go on for ever"
		}
	case *v3lockpb.LockRequest:
		return waits(r.Lease)
	case *v3electionpb.CampaignRequest:
		return waits(r.Lease)
	case *v3electionpb.ProclaimRequest:
		if r.Leader != nil && r.Leader.Lease == 0 {
			return serversLease
		}
	}
	return ""
}

const serversLease = "the key would have a lease that the server chose"

// waits says why one who wants a lock cannot be asked for: with this one lease
// nobody has to wait for another.
func waits(lease int64) string {
	if lease == 0 {
		return serversLease
	}
	if lease != 7 {
		return "it would wait for the owner of lease 7"
	}
	return ""
}

// reversed tells whether a range in a message ends before it begins.
func reversed(m proto.Message) bool {
	if m == nil {
		return false
	}
	found := false
	var walk func(protoreflect.Message)
	walk = func(m protoreflect.Message) {
		if r, ok := m.Interface().(interface {
			GetKey() []byte
			GetRangeEnd() []byte
		}); ok {
			end := r.GetRangeEnd()
			found = found || len(end) > 0 && !bytes.Equal(end, []byte{0}) && bytes.Compare(r.GetKey(), end) >= 0
		}
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case f.Message() == nil || f.IsMap():
			case f.IsList():
				for i := range v.List().Len() {
					walk(v.List().Get(i).Message())
				}
			default:
				walk(v.Message())
			}
			return true
		})
	}
	walk(m.ProtoReflect())
	return found
}

// anyOp tells whether an operation of a transaction, or of one nested in it, is
// such.
func anyOp(t *pb.TxnRequest, such func(*pb.RequestOp) bool) bool {
	return slices.ContainsFunc(slices.Concat(t.GetSuccess(), t.GetFailure()), func(op *pb.RequestOp) bool {
		return such(op) || op.GetRequestTxn() != nil && anyOp(op.GetRequestTxn(), such)
	})
}

func keeps(t *pb.TxnRequest) bool {
	return anyOp(t, func(op *pb.RequestOp) bool {
		return op.GetRequestPut().GetIgnoreValue() || op.GetRequestPut().GetIgnoreLease()
	})
}

func deletesToEnd(t *pb.TxnRequest) bool {
	return anyOp(t, func(op *pb.RequestOp) bool {
		return bytes.Equal(op.GetRequestDeleteRange().GetRangeEnd(), []byte{0})
	})
}

// checkUsers has users checked from now on.
func (o *odd) checkUsers() {
	o.t.Helper()
	o.checked = true
	const root = "root"
	playAll(o.t, o.sides,
		call{"", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: root, Password: root}},
		call{"", pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: root}},
		call{"", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: root, Role: root}},
		call{"", pb.Auth_UserDelete_FullMethodName, &pb.AuthUserDeleteRequest{Name: "u1"}},
		call{"", pb.Auth_RoleDelete_FullMethodName, &pb.AuthRoleDeleteRequest{Role: "r1"}},
		call{"", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: "u1", Password: "u1"}},
		call{"", pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: "r1"}},
		call{"", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: "u1", Role: "r1"}},
		call{"", pb.Auth_RoleGrantPermission_FullMethodName, &pb.AuthRoleGrantPermissionRequest{
			Name: "r1", Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("a"), RangeEnd: []byte("c")}}},
		call{"", pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{}},
		call{"", pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: root, Password: root}},
		call{"", pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: "u1", Password: "u1"}},
	)
}
