package rpc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"metastore.io/metastore/server/watch"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// side is one of the two servers, with the tokens that it gave out.
type side struct {
	conn   *grpc.ClientConn
	tokens map[string]string
}

// duel plays the same calls of several users to a real etcd and to a member.
type duel struct {
	t          *testing.T
	rng        *rand.Rand
	ctx        context.Context
	etcd, mine side
	// texts counts the errors that both gave.
	texts map[string]int
	calls int
}

func startEtcd(t *testing.T) *grpc.ClientConn {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "fatal"
	cfg.UnsafeNoFsync = true
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.BcryptCost = uint(bcrypt.MinCost)
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	for try := 0; ; try++ {
		// Its gateway calls the URL that it was told: a real port, which
		// somebody else may take first.
		addr := freeAddress(t)
		cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: addr}}
		etcd, err := embed.StartEtcd(cfg)
		if err != nil && try < 5 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(etcd.Close)
		<-etcd.Server.ReadyNotify()
		return dial(t, addr)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// dial connects without the retries of etcd's client.
func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Users and permissions as a real etcd has them: every answer and every error
// to a random sequence of calls by several users.
func TestSameAuthAsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server and sends it thousands of requests")
	}
	const seed, steps = 31, 5000
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the race detector takes its time
	defer cancel()
	s := serve(t, Options{Auth: AuthOptions{BcryptCost: bcrypt.MinCost}}, watch.Options{})
	d := &duel{
		t: t, rng: rand.New(rand.NewSource(seed)), ctx: ctx, texts: map[string]int{},
		etcd: side{startEtcd(t), map[string]string{}}, mine: side{dial(t, s.addr), map[string]string{}},
	}
	for i := 0; i < steps && !t.Failed(); i++ {
		if i%400 == 0 {
			d.populate()
		}
		d.step()
	}
	t.Logf("seed %d, %d calls, revision %d, errors %v", seed, d.calls, s.m.KV().Rev(), d.texts)
	for _, want := range []error{
		rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCInvalidAuthToken,
		rpctypes.ErrGRPCAuthFailed, rpctypes.ErrGRPCAuthNotEnabled, rpctypes.ErrGRPCInvalidAuthMgmt,
		rpctypes.ErrGRPCUserAlreadyExist, rpctypes.ErrGRPCUserNotFound, rpctypes.ErrGRPCRoleAlreadyExist,
		rpctypes.ErrGRPCRoleNotFound, rpctypes.ErrGRPCRoleNotGranted, rpctypes.ErrGRPCPermissionNotGranted,
		rpctypes.ErrGRPCRootRoleNotExist, rpctypes.ErrGRPCPermissionNotGiven, rpctypes.ErrGRPCRoleEmpty,
	} {
		if !t.Failed() && d.texts[status.Convert(want).String()] == 0 {
			t.Errorf("the run never met %q", status.Convert(want).Message())
		}
	}
}

func (d *duel) chance(percent int) bool { return d.rng.Intn(100) < percent }

func (d *duel) pick(of ...string) string { return of[d.rng.Intn(len(of))] }

func (d *duel) user() string { return d.pick("root", "u1", "u2", "u3", "u4", "") }

func (d *duel) role() string { return d.pick("root", "r1", "r2", "r3", "") }

func (d *duel) key() []byte {
	return []byte(d.pick("a", "a\x00", "b", "b/1", "c", "d", "e", "\xff", "\x00"))
}

// bounds is a range that is not reversed: what etcd says to one that holds no
// key depends on how its tree of permissions has grown.
func (d *duel) bounds() (key, end []byte) {
	key = d.key()
	switch d.rng.Intn(4) {
	case 0, 1:
		return key, nil
	case 2:
		return key, []byte{0}
	}
	if end = d.key(); bytes.Compare(key, end) >= 0 {
		end = append(bytes.Clone(key), 0)
	}
	return key, end
}

func (d *duel) leaseID() int64 { return int64(d.rng.Intn(4) + 1) }

// call makes one call as a user of both sides and compares the answers.
func call[Q, R proto.Message](d *duel, as string, method string, r Q, clean func(R)) (etcd, mine R) {
	d.t.Helper()
	var answers [2]R
	var errs [2]error
	for i, s := range []*side{&d.etcd, &d.mine} {
		ctx, cancel := context.WithTimeout(d.ctx, 10*time.Second)
		defer cancel()
		if token := s.tokens[as]; as != "" && token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
		}
		answers[i], errs[i] = invoke[R](ctx, s.conn, method, proto.Clone(r))
	}
	d.calls++
	want, got := status.Convert(errs[0]), status.Convert(errs[1])
	if want.Code() != got.Code() || want.Message() != got.Message() {
		d.t.Errorf("%s as %q: %v\n got error %v\nwant error %v", method, as, r, got, want)
		return answers[0], answers[1]
	}
	if errs[0] != nil {
		if want.Code() == codes.DeadlineExceeded {
			d.t.Fatalf("%s as %q: %v: %v", method, as, r, want)
		}
		d.texts[want.String()]++
		return answers[0], answers[1]
	}
	for _, a := range answers {
		cleanHeader(a)
		if clean != nil {
			clean(a)
		}
	}
	if !proto.Equal(answers[0], answers[1]) {
		d.t.Errorf("%s as %q: %v\n got %s\nwant %s", method, as, r, prototext.Format(answers[1]), prototext.Format(answers[0]))
	}
	return answers[0], answers[1]
}

// invoke makes a unary call, or reads the first answer of a stream.
func invoke[R proto.Message](ctx context.Context, conn *grpc.ClientConn, method string, r proto.Message) (resp R, err error) {
	resp = resp.ProtoReflect().New().Interface().(R)
	if streams := map[string]bool{
		pb.KV_RangeStream_FullMethodName: true, pb.Watch_Watch_FullMethodName: true, pb.Lease_LeaseKeepAlive_FullMethodName: true,
	}; !streams[method] {
		return resp, conn.Invoke(ctx, method, r, resp)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	both := method != pb.KV_RangeStream_FullMethodName
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: both, ServerStreams: true}, method)
	if err != nil {
		return resp, err
	}
	if err := stream.SendMsg(r); err != nil && !errors.Is(err, io.EOF) {
		return resp, err
	}
	return resp, stream.RecvMsg(resp)
}

func cleanHeader(m proto.Message) {
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
		h.GetHeader().ClusterId, h.GetHeader().MemberId, h.GetHeader().RaftTerm = 0, 0, 0
	}
}

// populate makes sure that there is a root who can do something, and a user
// with some permissions.
func (d *duel) populate() {
	d.t.Helper()
	call[*pb.AuthUserAddRequest, *pb.AuthUserAddResponse](d, "root", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: "root", Password: "root"}, nil)
	call[*pb.AuthEnableRequest, *pb.AuthEnableResponse](d, "root", pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{}, nil)
	call[*pb.AuthUserGrantRoleRequest, *pb.AuthUserGrantRoleResponse](d, "root", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}, nil)
	call[*pb.AuthEnableRequest, *pb.AuthEnableResponse](d, "root", pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{}, nil)
	d.authenticate("root", "root")
	for _, u := range []string{"u1", "u2"} {
		call[*pb.AuthUserAddRequest, *pb.AuthUserAddResponse](d, "root", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: u, Password: u}, nil)
		call[*pb.AuthRoleAddRequest, *pb.AuthRoleAddResponse](d, "root", pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: "r1"}, nil)
		call[*pb.AuthUserGrantRoleRequest, *pb.AuthUserGrantRoleResponse](d, "root", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: u, Role: "r1"}, nil)
		d.authenticate(u, u)
	}
}

func (d *duel) authenticate(user, password string) {
	d.t.Helper()
	r := &pb.AuthenticateRequest{Name: user, Password: password}
	var tokens []string
	etcd, mine := call(d, "", pb.Auth_Authenticate_FullMethodName, r, func(r *pb.AuthenticateResponse) {
		tokens = append(tokens, r.Token)
		r.Token = ""
	})
	if etcd == nil || mine == nil || len(tokens) < 2 {
		return
	}
	d.etcd.tokens[user], d.mine.tokens[user] = tokens[0], tokens[1]
}

func (d *duel) step() {
	d.t.Helper()
	as := d.pick("root", "root", "root", "u1", "u2", "u3", "u4", "", "forged")
	d.etcd.tokens["forged"], d.mine.tokens["forged"] = "x.1", "x.1"
	if as != "forged" && d.chance(25) {
		d.authenticate(as, as) // the token may have ended with a password
	}
	switch n := d.rng.Intn(100); {
	case n < 25:
		d.manage(as)
	case n < 36:
		user := d.user()
		d.authenticate(user, d.pick(user, user, user, "wrong", ""))
	case n < 43:
		d.ask(as)
	case n < 80:
		d.keys(d.pick(as, "u1", "u2", "u3"))
	case n < 92:
		d.leases(d.pick(as, "u1", "u2"))
	default:
		d.maintain(as)
	}
}

// manage changes users and roles; passwords are the users' names.
func (d *duel) manage(as string) {
	d.t.Helper()
	user, role := d.user(), d.role()
	switch d.rng.Intn(14) {
	case 0, 1:
		r := &pb.AuthUserAddRequest{Name: user, Password: user}
		if d.chance(20) {
			r.Options = &authpb.UserAddOptions{NoPassword: d.chance(50)}
		}
		call[*pb.AuthUserAddRequest, *pb.AuthUserAddResponse](d, as, pb.Auth_UserAdd_FullMethodName, r, nil)
	case 2:
		if user != "root" || d.chance(20) {
			call[*pb.AuthUserDeleteRequest, *pb.AuthUserDeleteResponse](d, as, pb.Auth_UserDelete_FullMethodName, &pb.AuthUserDeleteRequest{Name: user}, nil)
		}
	case 3:
		r := &pb.AuthUserChangePasswordRequest{Name: user, Password: user}
		if user != "root" && d.chance(20) {
			r.Password, r.HashedPassword = "", d.pick("", "*", "aGFzaA==")
		}
		call[*pb.AuthUserChangePasswordRequest, *pb.AuthUserChangePasswordResponse](d, as, pb.Auth_UserChangePassword_FullMethodName, r, nil)
	case 4, 5:
		if role == "root" && user != "root" && d.chance(80) {
			role = "r1"
		}
		call[*pb.AuthUserGrantRoleRequest, *pb.AuthUserGrantRoleResponse](d, as, pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: user, Role: role}, nil)
	case 6:
		call[*pb.AuthUserRevokeRoleRequest, *pb.AuthUserRevokeRoleResponse](d, as, pb.Auth_UserRevokeRole_FullMethodName, &pb.AuthUserRevokeRoleRequest{Name: user, Role: role}, nil)
	case 7, 8:
		call[*pb.AuthRoleAddRequest, *pb.AuthRoleAddResponse](d, as, pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: role}, nil)
	case 9:
		call[*pb.AuthRoleDeleteRequest, *pb.AuthRoleDeleteResponse](d, as, pb.Auth_RoleDelete_FullMethodName, &pb.AuthRoleDeleteRequest{Role: role}, nil)
	case 10, 11:
		r := &pb.AuthRoleGrantPermissionRequest{Name: role}
		if d.chance(95) {
			r.Perm = &authpb.Permission{PermType: authpb.Permission_Type(d.rng.Intn(4))}
			if r.Perm.Key, r.Perm.RangeEnd = d.bounds(); d.chance(5) {
				r.Perm.Key, r.Perm.RangeEnd = r.Perm.RangeEnd, r.Perm.Key
			}
		}
		call[*pb.AuthRoleGrantPermissionRequest, *pb.AuthRoleGrantPermissionResponse](d, as, pb.Auth_RoleGrantPermission_FullMethodName, r, nil)
	case 12:
		key, end := d.bounds()
		r := &pb.AuthRoleRevokePermissionRequest{Role: role, Key: key, RangeEnd: end}
		call[*pb.AuthRoleRevokePermissionRequest, *pb.AuthRoleRevokePermissionResponse](d, as, pb.Auth_RoleRevokePermission_FullMethodName, r, nil)
	case 13:
		if d.chance(50) {
			call[*pb.AuthEnableRequest, *pb.AuthEnableResponse](d, as, pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{}, nil)
		} else if d.chance(50) {
			call[*pb.AuthDisableRequest, *pb.AuthDisableResponse](d, as, pb.Auth_AuthDisable_FullMethodName, &pb.AuthDisableRequest{}, nil)
		}
	}
}

func (d *duel) ask(as string) {
	d.t.Helper()
	switch d.rng.Intn(5) {
	case 0:
		call[*pb.AuthStatusRequest, *pb.AuthStatusResponse](d, as, pb.Auth_AuthStatus_FullMethodName, &pb.AuthStatusRequest{}, nil)
	case 1:
		call[*pb.AuthUserGetRequest, *pb.AuthUserGetResponse](d, as, pb.Auth_UserGet_FullMethodName, &pb.AuthUserGetRequest{Name: d.user()}, nil)
	case 2:
		call[*pb.AuthUserListRequest, *pb.AuthUserListResponse](d, as, pb.Auth_UserList_FullMethodName, &pb.AuthUserListRequest{}, nil)
	case 3:
		call[*pb.AuthRoleGetRequest, *pb.AuthRoleGetResponse](d, as, pb.Auth_RoleGet_FullMethodName, &pb.AuthRoleGetRequest{Role: d.role()}, nil)
	case 4:
		call[*pb.AuthRoleListRequest, *pb.AuthRoleListResponse](d, as, pb.Auth_RoleList_FullMethodName, &pb.AuthRoleListRequest{}, nil)
	}
}

func (d *duel) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: d.key(), Value: fmt.Append(nil, d.rng.Intn(9)), PrevKv: d.chance(30)}
	if d.chance(30) {
		r.Lease = d.leaseID()
	}
	return r
}

func (d *duel) txn(depth int, readOnly bool) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	if d.chance(60) {
		key, end := d.bounds()
		t.Compare = append(t.Compare, &pb.Compare{Key: key, RangeEnd: end, Target: pb.Compare_VERSION, Result: pb.Compare_GREATER,
			TargetUnion: &pb.Compare_Version{Version: int64(d.rng.Intn(3))}})
	}
	for _, ops := range []*[]*pb.RequestOp{&t.Success, &t.Failure} {
		key, end := d.bounds()
		switch n := d.rng.Intn(10); {
		case readOnly && n < 7 || n < 3:
			*ops = append(*ops, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, RangeEnd: end}}})
		case n < 6 && !readOnly:
			*ops = append(*ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: d.put()}})
		case n < 8 && !readOnly:
			*ops = append(*ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: d.chance(40)}}})
		case depth > 0:
			*ops = append(*ops, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: d.txn(depth-1, readOnly)}})
		}
	}
	return t
}

func (d *duel) keys(as string) {
	d.t.Helper()
	key, end := d.bounds()
	switch d.rng.Intn(9) {
	case 0, 1:
		call[*pb.PutRequest, *pb.PutResponse](d, as, pb.KV_Put_FullMethodName, d.put(), nil)
	case 2, 3:
		r := &pb.RangeRequest{Key: key, RangeEnd: end, Serializable: d.chance(20)}
		call[*pb.RangeRequest, *pb.RangeResponse](d, as, pb.KV_Range_FullMethodName, r, nil)
	case 4:
		r := &pb.RangeRequest{Key: key, RangeEnd: end}
		call(d, as, pb.KV_RangeStream_FullMethodName, r, func(r *pb.RangeStreamResponse) { cleanHeader(r.RangeResponse) })
	case 5:
		r := &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: d.chance(40)}
		call[*pb.DeleteRangeRequest, *pb.DeleteRangeResponse](d, as, pb.KV_DeleteRange_FullMethodName, r, nil)
	case 6, 7:
		call(d, as, pb.KV_Txn_FullMethodName, d.txn(2, d.chance(30)), cleanTxn)
	case 8:
		create := &pb.WatchCreateRequest{Key: key, RangeEnd: end}
		r := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
		call(d, as, pb.Watch_Watch_FullMethodName, r, func(r *pb.WatchResponse) {
			if r.Canceled {
				d.texts[r.CancelReason]++
			}
		})
	}
}

// cleanTxn sorts nothing and removes identities only: order is part of the
// answer.
func cleanTxn(r *pb.TxnResponse) {
	for _, op := range r.Responses {
		switch o := op.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			cleanHeader(o.ResponseRange)
		case *pb.ResponseOp_ResponsePut:
			cleanHeader(o.ResponsePut)
		case *pb.ResponseOp_ResponseDeleteRange:
			cleanHeader(o.ResponseDeleteRange)
		case *pb.ResponseOp_ResponseTxn:
			cleanHeader(o.ResponseTxn)
			cleanTxn(o.ResponseTxn)
		}
	}
}

func (d *duel) leases(as string) {
	d.t.Helper()
	id := d.leaseID()
	switch d.rng.Intn(6) {
	case 0, 1:
		call[*pb.LeaseGrantRequest, *pb.LeaseGrantResponse](d, as, pb.Lease_LeaseGrant_FullMethodName, &pb.LeaseGrantRequest{ID: id, TTL: 1000}, nil)
	case 2:
		call[*pb.LeaseRevokeRequest, *pb.LeaseRevokeResponse](d, as, pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: id}, nil)
	case 3:
		call[*pb.LeaseKeepAliveRequest, *pb.LeaseKeepAliveResponse](d, as, pb.Lease_LeaseKeepAlive_FullMethodName, &pb.LeaseKeepAliveRequest{ID: id}, nil)
	case 4:
		r := &pb.LeaseTimeToLiveRequest{ID: id, Keys: d.chance(70)}
		call(d, as, pb.Lease_LeaseTimeToLive_FullMethodName, r, func(r *pb.LeaseTimeToLiveResponse) {
			r.TTL = min(r.TTL, 0)
			slices.SortFunc(r.Keys, slices.Compare)
		})
	case 5:
		call(d, as, pb.Lease_LeaseLeases_FullMethodName, &pb.LeaseLeasesRequest{}, func(r *pb.LeaseLeasesResponse) {
			slices.SortFunc(r.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
		})
	}
}

// maintain compares who may; the answers tell of the servers themselves.
func (d *duel) maintain(as string) {
	d.t.Helper()
	switch d.rng.Intn(8) {
	case 0:
		call(d, as, pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{}, func(r *pb.StatusResponse) { proto.Reset(r) })
	case 1:
		call[*pb.AlarmRequest, *pb.AlarmResponse](d, as, pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{}, nil)
	case 2:
		r := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}
		call[*pb.AlarmRequest, *pb.AlarmResponse](d, as, pb.Maintenance_Alarm_FullMethodName, r, nil)
	case 3:
		call(d, as, pb.Maintenance_Hash_FullMethodName, &pb.HashRequest{}, func(r *pb.HashResponse) { proto.Reset(r) })
	case 4:
		call(d, as, pb.Maintenance_HashKV_FullMethodName, &pb.HashKVRequest{}, func(r *pb.HashKVResponse) { proto.Reset(r) })
	case 5:
		call[*pb.MemberRemoveRequest, *pb.MemberRemoveResponse](d, as, pb.Cluster_MemberRemove_FullMethodName, &pb.MemberRemoveRequest{ID: 7}, nil)
	case 6:
		call(d, as, pb.Cluster_MemberList_FullMethodName, &pb.MemberListRequest{}, func(r *pb.MemberListResponse) { proto.Reset(r) })
	case 7:
		call[*pb.CompactionRequest, *pb.CompactionResponse](d, as, pb.KV_Compact_FullMethodName, &pb.CompactionRequest{Revision: 1 << 40}, nil)
	}
}
