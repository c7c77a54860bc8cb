package difftest

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// generator makes random requests around a small set of keys, leases, users
// and revisions, so that they meet.
type generator struct {
	rng *rand.Rand
	// rev and compacted are about what the store has; bounds for revisions.
	rev, compacted int64
	// keep lets the puts of a transaction keep values and leases. Then it has
	// no deletes up to the end of all keys: etcd does not see that such a
	// delete names the same key, and panics.
	keep bool
	// checked: users are checked now. Then there are no reversed ranges: what
	// etcd says to those depends on how its tree of permissions has grown.
	checked bool
}

var oddKeys = []string{
	"a", "a/", "a/1", "a/2", "a/\xff", "b", "b\x00", "\x00", "\xff", "\xff\xff", "\xf0\x28", "zz",
}

func (g *generator) chance(percent int) bool { return g.rng.IntN(100) < percent }

func (g *generator) pick(of ...string) string { return of[g.rng.IntN(len(of))] }

// key is an odd one, or one of a row of keys that is long enough for many
// chunks of a RangeStream.
func (g *generator) key() []byte {
	if g.chance(30) {
		return fmt.Appendf(nil, "k/%02d", g.rng.IntN(60))
	}
	return []byte(g.pick(oddKeys...))
}

func (g *generator) end(from []byte) []byte {
	switch g.rng.IntN(6) {
	case 0, 1:
		return nil
	case 2:
		return []byte{0}
	case 3:
		return prefixEnd(from)
	}
	end := g.key()
	if g.checked && bytes.Compare(from, end) >= 0 {
		return append(bytes.Clone(from), 0)
	}
	return end // maybe before from
}

// prefixEnd ends the range of all keys that begin with from.
func prefixEnd(from []byte) []byte {
	end := bytes.Clone(from)
	if end[len(end)-1] == 0xff {
		return []byte{0}
	}
	end[len(end)-1]++
	return end
}

// bounds is a range that is not reversed.
func (g *generator) bounds() (key, end []byte) {
	before := g.checked
	g.checked = true
	defer func() { g.checked = before }()
	key = g.key()
	return key, g.end(key)
}

func (g *generator) lease() int64 { return g.rng.Int64N(8) + 1 }

func (g *generator) revision() int64 {
	if g.chance(60) {
		return 0
	}
	return g.oldRevision()
}

// oldRevision is around the compacted ones, around the newest, or between.
func (g *generator) oldRevision() int64 {
	return g.compacted - 3 + g.rng.Int64N(max(g.rev-g.compacted, 0)+6)
}

func (g *generator) value() []byte { return fmt.Appendf(nil, "v%d", g.rng.IntN(5)) }

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), PrevKv: g.chance(30)}
	switch g.rng.IntN(10) {
	case 0:
		if r.IgnoreValue = true; g.chance(10) {
			r.Value = g.value() // refused
		}
	case 1:
	default:
		r.Value = g.value()
	}
	switch g.rng.IntN(10) {
	case 0:
		if r.IgnoreLease = true; g.chance(10) {
			r.Lease = g.lease()
		}
	case 1, 2, 3:
		r.Lease = g.lease()
	}
	return r
}

func (g *generator) delete() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.chance(40)}
	if g.chance(20) {
		r.RangeEnd = g.end(r.Key)
	}
	return r
}

func (g *generator) get() *pb.RangeRequest {
	r := &pb.RangeRequest{
		Key: g.key(), Revision: g.revision(), Serializable: g.chance(40),
		KeysOnly: g.chance(15), CountOnly: g.chance(10),
	}
	r.RangeEnd = g.end(r.Key)
	if g.chance(20) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	r.Limit = []int64{0, 0, 0, -1, 1, 2, 3, 12, 100, math.MaxInt64}[g.rng.IntN(10)]
	if g.chance(40) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.chance(8) {
			*bound = g.rng.Int64N(g.rev + 3)
		}
	}
	return r
}

// stream is a range for RangeStream, mostly one that it takes. None has a target
// to sort by and no order: etcd takes it, sorts each chunk, and goes on after the
// key that came out last.
func (g *generator) stream() *pb.RangeRequest {
	r := g.get()
	if r.SortOrder == pb.RangeRequest_NONE {
		r.SortTarget = pb.RangeRequest_KEY
	}
	if g.chance(90) {
		r.SortOrder, r.SortTarget = pb.RangeRequest_NONE, pb.RangeRequest_KEY
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	return r
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.rng.IntN(4))}
	if g.chance(30) {
		c.RangeEnd = g.end(c.Key)
	}
	switch c.Target = pb.Compare_CompareTarget(g.rng.IntN(5)); c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: g.rng.Int64N(4)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.someRevision()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.someRevision()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.rng.Int64N(4)}
	}
	if g.chance(3) {
		c.TargetUnion = nil
	}
	return c
}

func (g *generator) someRevision() int64 {
	if g.chance(40) {
		return 0
	}
	return max(g.rev-g.rng.Int64N(30), 0)
}

func (g *generator) txn(depth int, readOnly bool) *pb.TxnRequest {
	g.keep = g.chance(50)
	return g.subTxn(depth, readOnly)
}

func (g *generator) subTxn(depth int, readOnly bool) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range g.rng.IntN(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	for range g.rng.IntN(4) {
		t.Success = append(t.Success, g.op(depth, readOnly))
	}
	for range g.rng.IntN(3) {
		t.Failure = append(t.Failure, g.op(depth, readOnly))
	}
	return t
}

func (g *generator) op(depth int, readOnly bool) *pb.RequestOp {
	kind := g.rng.IntN(10)
	switch {
	case kind == 0 && depth > 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.subTxn(depth-1, readOnly)}}
	case kind < 4 || readOnly:
		r := g.get()
		if g.chance(70) {
			r.Revision = 0
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
	case kind < 8:
		p := g.put()
		p.IgnoreValue, p.IgnoreLease = p.IgnoreValue && g.keep, p.IgnoreLease && g.keep
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: p}}
	}
	d := g.delete()
	if g.keep && bytes.Equal(d.RangeEnd, []byte{0}) {
		d.RangeEnd = nil
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}}
}

// grant asks for a lease that outlives the run.
func (g *generator) grant() *pb.LeaseGrantRequest {
	r := &pb.LeaseGrantRequest{ID: g.lease(), TTL: 1_000_000 + g.rng.Int64N(1000)}
	if g.chance(5) {
		r.TTL = 9_000_000_001
	}
	return r
}

func (g *generator) watch() *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{
		PrevKv: g.chance(50), Fragment: g.chance(20), ProgressNotify: g.chance(10),
	}
	r.Key, r.RangeEnd = g.key(), nil
	switch g.rng.IntN(6) {
	case 0:
		r.RangeEnd = g.end(r.Key)
	case 1:
		r.Key = nil
	case 2, 3:
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	default:
		r.RangeEnd = prefixEnd(r.Key)
	}
	if g.chance(60) {
		r.StartRevision = g.oldRevision()
	}
	if g.chance(15) {
		r.WatchId = g.rng.Int64N(12)
	}
	for _, f := range []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE} {
		if g.chance(15) {
			r.Filters = append(r.Filters, f)
		}
	}
	return r
}

// Users have their names as passwords.

func (g *generator) user() string { return g.pick("root", "u1", "u2", "u3", "u4", "") }

func (g *generator) role() string { return g.pick("root", "r1", "r2", "r3", "") }

// manage changes users and roles, or asks about them. It leaves root alone,
// which the workload needs.
func (g *generator) manage() (method string, r proto.Message) {
	user, role := g.user(), g.role()
	if role == "root" && g.chance(80) {
		role = "r1"
	}
	changed := user
	if changed == "root" {
		changed = "u1"
	}
	switch g.rng.IntN(17) {
	case 0, 1:
		add := &pb.AuthUserAddRequest{Name: user, Password: user}
		if user != "root" && g.chance(20) {
			add.Options = &authpb.UserAddOptions{NoPassword: g.chance(50)}
		}
		return pb.Auth_UserAdd_FullMethodName, add
	case 2:
		return pb.Auth_UserDelete_FullMethodName, &pb.AuthUserDeleteRequest{Name: changed}
	case 3:
		change := &pb.AuthUserChangePasswordRequest{Name: changed, Password: changed}
		if g.chance(20) {
			change.Password, change.HashedPassword = "", g.pick("", "*", "aGFzaA==")
		}
		return pb.Auth_UserChangePassword_FullMethodName, change
	case 4, 5:
		return pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: user, Role: role}
	case 6:
		return pb.Auth_UserRevokeRole_FullMethodName, &pb.AuthUserRevokeRoleRequest{Name: changed, Role: role}
	case 7:
		return pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: role}
	case 8:
		return pb.Auth_RoleDelete_FullMethodName, &pb.AuthRoleDeleteRequest{Role: role}
	case 9, 10, 11:
		return pb.Auth_RoleGrantPermission_FullMethodName, g.grantPermission(role)
	case 12:
		key, end := g.bounds()
		return pb.Auth_RoleRevokePermission_FullMethodName, &pb.AuthRoleRevokePermissionRequest{Role: role, Key: key, RangeEnd: end}
	}
	return g.askUsers()
}

func (g *generator) grantPermission(role string) *pb.AuthRoleGrantPermissionRequest {
	r := &pb.AuthRoleGrantPermissionRequest{Name: role}
	if g.chance(95) {
		r.Perm = &authpb.Permission{PermType: authpb.Permission_Type(g.rng.IntN(4))}
		r.Perm.Key, r.Perm.RangeEnd = g.bounds()
	}
	return r
}

func (g *generator) askUsers() (method string, r proto.Message) {
	switch g.rng.IntN(5) {
	case 0:
		return pb.Auth_AuthStatus_FullMethodName, &pb.AuthStatusRequest{}
	case 1:
		return pb.Auth_UserGet_FullMethodName, &pb.AuthUserGetRequest{Name: g.user()}
	case 2:
		return pb.Auth_UserList_FullMethodName, &pb.AuthUserListRequest{}
	case 3:
		return pb.Auth_RoleGet_FullMethodName, &pb.AuthRoleGetRequest{Role: g.role()}
	}
	return pb.Auth_RoleList_FullMethodName, &pb.AuthRoleListRequest{}
}
