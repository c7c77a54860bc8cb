package replica

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/state"
)

// requests makes commands and reads that meet: around some thousand keys in
// folders, few leases, users and roles, and revisions that there are.
type requests struct {
	rng            *rand.Rand
	rev, compacted int64
	authRevision   uint64
	authEnabled    bool
}

// look takes in what there is.
func (g *requests) look(rev, compacted int64, a *auth.State) {
	g.rev, g.compacted = rev, compacted
	g.authRevision, g.authEnabled = a.Revision(), a.Enabled()
}

func (g *requests) oneIn(n int) bool { return g.rng.IntN(n) == 0 }

func (g *requests) key() []byte {
	switch g.rng.IntN(20) {
	case 0:
		return []byte{byte(g.rng.IntN(256))}
	case 1:
		return fmt.Appendf(nil, "d%d", g.rng.IntN(40))
	case 2, 3, 4, 5:
		return fmt.Appendf(nil, "d%d/k%04d", g.rng.IntN(40), g.rng.IntN(2000)) // one among very many
	}
	return fmt.Appendf(nil, "d%d/k%d", g.rng.IntN(40), g.rng.IntN(30))
}

// span is a key, a folder or all from a key on.
func (g *requests) span() (key, end []byte) {
	key = g.key()
	switch g.rng.IntN(12) {
	case 0:
		return key, []byte{0}
	case 1, 2, 3, 4:
		folder := fmt.Appendf(nil, "d%d/", g.rng.IntN(40))
		end = bytes.Clone(folder)
		end[len(end)-1]++
		return folder, end
	case 5:
		return key, g.key() // maybe before key
	case 6:
		return []byte{0}, []byte{0}
	}
	return key, nil
}

func (g *requests) value() []byte {
	n := g.rng.IntN(60)
	switch g.rng.IntN(300) {
	case 0:
		n = 100_000
	case 1, 2, 3:
		n = 5000
	}
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(g.rng.Uint32()>>8) & 0x3f
	}
	return v
}

func (g *requests) lease() int64 { return int64(g.rng.IntN(12)) - 2 }

// revision is mostly one that can be read.
func (g *requests) revision() int64 {
	if g.oneIn(10) {
		return g.compacted - 5 + g.rng.Int64N(max(g.rev-g.compacted, 0)+20)
	}
	low := max(g.compacted, 1)
	return low + g.rng.Int64N(max(g.rev-low, 0)+1)
}

func (g *requests) entry(index uint64) state.Entry {
	e := state.Entry{Index: index, Term: 1 + index/5000}
	if g.oneIn(400) {
		id := uint64(1+g.rng.IntN(6)) * 10
		e.Change = &state.MemberChange{
			Kind:   state.MemberChangeKind(1 + g.rng.IntN(4)),
			Member: state.Member{ID: id, PeerURLs: []string{fmt.Sprintf("http://%d:1", id)}},
		}
		return e
	}
	for range g.rng.IntN(8) {
		c := g.command(e.Term)
		c.By = g.identity()
		e.Commands = append(e.Commands, c)
	}
	return e
}

// identity is root's mostly, and sometimes one whose time is over.
func (g *requests) identity() auth.Identity {
	if !g.authEnabled && !g.oneIn(50) {
		return auth.Identity{}
	}
	id := auth.Identity{User: "root", Revision: g.authRevision}
	if g.oneIn(4) {
		id.User = g.user()
	}
	if g.oneIn(30) {
		id.Revision--
	}
	return id
}

func (g *requests) user() string { return []string{"root", "u1", "u2", "u3", ""}[g.rng.IntN(5)] }
func (g *requests) role() string { return []string{"root", "r1", "r2", "r3"}[g.rng.IntN(4)] }

func (g *requests) command(term uint64) state.Command {
	switch n := g.rng.IntN(1000); {
	case n < 520:
		return encode(state.KindPut, g.put())
	case n < 640:
		return encode(state.KindDeleteRange, g.delete())
	case n < 900:
		return encode(state.KindTxn, g.txn(2, false))
	case n < 906:
		return encode(state.KindCompact, &pb.CompactionRequest{Revision: g.revision()})
	case n < 945:
		return encode(state.KindLeaseGrant, &pb.LeaseGrantRequest{ID: g.lease(), TTL: g.rng.Int64N(1 << 34)})
	case n < 955:
		return encode(state.KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: g.lease()})
	case n < 965:
		return state.LeaseExpire(term-uint64(g.rng.IntN(2)), []lease.ID{lease.ID(g.lease()), lease.ID(g.lease())})
	case n < 971:
		on, kind := pb.AlarmRequest_DEACTIVATE, pb.AlarmType(1+g.rng.IntN(2))
		if g.oneIn(10) && (kind == pb.AlarmType_NOSPACE || g.oneIn(4)) {
			on = pb.AlarmRequest_ACTIVATE // the other one lets nothing through
		}
		return encode(state.KindAlarm, &pb.AlarmRequest{Action: on, Alarm: kind, MemberID: 10})
	case n < 976:
		return encode(state.KindMemberPublish, &pb.Member{ID: 10, Name: fmt.Sprint(g.rng.IntN(9)), ClientURLs: []string{"http://c:1"}})
	case n < 978:
		return state.Command{Kind: state.KindClusterVersion, Body: fmt.Appendf(nil, "3.%d.0", g.rng.IntN(9))}
	case n < 980:
		return state.Command{Kind: state.KindPut, Body: []byte{0xff}}
	}
	return g.authCommand()
}

func (g *requests) authCommand() state.Command {
	perm := &authpb.Permission{PermType: authpb.Permission_Type(g.rng.IntN(3))}
	perm.Key, perm.RangeEnd = g.span()
	switch g.rng.IntN(14) {
	case 0:
		return encode(state.KindAuthEnable, &pb.AuthEnableRequest{})
	case 1, 2:
		return encode(state.KindAuthDisable, &pb.AuthDisableRequest{})
	case 3:
		return encode(state.KindAuthenticate, &pb.InternalAuthenticateRequest{Name: g.user(), SimpleToken: "t"})
	case 4, 5:
		return encode(state.KindUserAdd, &pb.AuthUserAddRequest{Name: g.user(), HashedPassword: "aGFzaA==", Options: &authpb.UserAddOptions{NoPassword: g.oneIn(3)}})
	case 6:
		return encode(state.KindUserDelete, &pb.AuthUserDeleteRequest{Name: g.user()})
	case 7:
		return encode(state.KindUserChangePassword, &pb.AuthUserChangePasswordRequest{Name: g.user(), HashedPassword: "bmV3"})
	case 8:
		return encode(state.KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: g.user(), Role: g.role()})
	case 9:
		return encode(state.KindUserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: g.user(), Role: g.role()})
	case 10:
		return encode(state.KindRoleAdd, &pb.AuthRoleAddRequest{Name: g.role()})
	case 11:
		return encode(state.KindRoleDelete, &pb.AuthRoleDeleteRequest{Role: g.role()})
	case 12:
		return encode(state.KindRoleRevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: g.role(), Key: perm.Key, RangeEnd: perm.RangeEnd})
	}
	return encode(state.KindRoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: g.role(), Perm: perm})
}

func encode(k state.Kind, m proto.Message) state.Command {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err) // nothing here is invalid
	}
	return state.Command{Kind: k, Body: body}
}

func (g *requests) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.oneIn(4)}
	if g.oneIn(15) {
		r.Value, r.IgnoreValue = nil, true
	}
	switch g.rng.IntN(12) {
	case 0:
		r.IgnoreLease = true
	case 1, 2:
		r.Lease = max(g.lease(), 0)
	}
	return r
}

func (g *requests) delete() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.oneIn(3)}
	if r.Key, r.RangeEnd = g.span(); string(r.RangeEnd) == "\x00" && !g.oneIn(50) {
		r.RangeEnd = nil // all at once only now and then
	}
	return r
}

func (g *requests) rangeRequest() *pb.RangeRequest {
	r := &pb.RangeRequest{KeysOnly: g.oneIn(6), CountOnly: g.oneIn(10)}
	r.Key, r.RangeEnd = g.span()
	if g.oneIn(2) {
		r.Revision = g.revision()
	}
	if string(r.RangeEnd) == "\x00" || g.oneIn(3) {
		r.Limit = 1 + g.rng.Int64N(40)
	}
	if g.oneIn(5) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	if g.oneIn(10) {
		r.MinModRevision = g.revision()
	}
	return r
}

func (g *requests) txn(depth int, readOnly bool) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range g.rng.IntN(3) {
		c := &pb.Compare{Result: pb.Compare_CompareResult(g.rng.IntN(4))}
		c.Key, c.RangeEnd = g.span()
		switch c.Target = pb.Compare_CompareTarget(g.rng.IntN(5)); c.Target {
		case pb.Compare_VERSION:
			c.TargetUnion = &pb.Compare_Version{Version: g.rng.Int64N(4)}
		case pb.Compare_CREATE:
			c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.revision()}
		case pb.Compare_MOD:
			c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.revision()}
		case pb.Compare_VALUE:
			c.TargetUnion = &pb.Compare_Value{Value: g.value()}
		case pb.Compare_LEASE:
			c.TargetUnion = &pb.Compare_Lease{Lease: g.lease()}
		}
		t.Compare = append(t.Compare, c)
	}
	for _, branch := range []*[]*pb.RequestOp{&t.Success, &t.Failure} {
		for range g.rng.IntN(4) {
			*branch = append(*branch, g.op(depth, readOnly))
		}
	}
	return t
}

func (g *requests) op(depth int, readOnly bool) *pb.RequestOp {
	switch n := g.rng.IntN(10); {
	case n == 0 && depth > 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth-1, readOnly)}}
	case n < 4 || readOnly:
		r := g.rangeRequest()
		if !g.oneIn(4) {
			r.Revision = 0
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
	case n < 9:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.delete()}}
}
