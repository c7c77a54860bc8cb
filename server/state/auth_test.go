package state

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/crypto/bcrypt"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine/memory"
)

// withUsers has checking on, with root, and the user u who may read and write
// the keys from a on and before c.
func withUsers(t *testing.T, m *testMachine) {
	t.Helper()
	hash, err := auth.HashPassword("pw", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	m.do(KindUserAdd, &pb.AuthUserAddRequest{Name: "root", HashedPassword: hash})
	m.do(KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	m.do(KindUserAdd, &pb.AuthUserAddRequest{Name: "u", HashedPassword: hash})
	m.do(KindRoleAdd, &pb.AuthRoleAddRequest{Name: "r"})
	m.do(KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: "u", Role: "r"})
	m.do(KindRoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: &authpb.Permission{
		PermType: authpb.Permission_READWRITE, Key: []byte("a"), RangeEnd: []byte("c")}})
	m.do(KindAuthEnable, &pb.AuthEnableRequest{})
}

func (m *testMachine) as(user string) auth.Identity {
	return auth.Identity{User: user, Revision: m.Auth().Revision()}
}

// by is a command of a user.
func by(t *testing.T, id auth.Identity, k Kind, body proto.Message) Command {
	c := command(t, k, body)
	c.By = id
	return c
}

func (m *testMachine) runAs(id auth.Identity, k Kind, body proto.Message) error {
	m.t.Helper()
	return m.runAll(by(m.t.(*testing.T), id, k, body)).Entries[0].Results[0].Err
}

// What a user may do is judged when the command is applied.
func TestCommandsAreJudgedWhenApplied(t *testing.T) {
	m := newMachine(t)
	withUsers(t, m)
	put := func(key string) *pb.PutRequest { return &pb.PutRequest{Key: []byte(key), Value: []byte("v")} }
	txn := &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: put("z")}}}}
	u, root := m.as("u"), m.as("root")
	m.do(KindLeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 60})
	leased := put("z")
	leased.Lease = 1
	rev := m.KV().Rev()
	for _, c := range []struct {
		name string
		by   auth.Identity
		kind Kind
		body proto.Message
		want error
	}{
		{"nobody", auth.Identity{}, KindPut, put("a"), auth.ErrUserEmpty},
		{"beyond", u, KindPut, put("c"), auth.ErrPermissionDenied},
		{"range", u, KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}, auth.ErrPermissionDenied},
		{"branch not taken", u, KindTxn, txn, auth.ErrPermissionDenied},
		{"admin", u, KindUserDelete, &pb.AuthUserDeleteRequest{Name: "root"}, auth.ErrPermissionDenied},
		{"nobody admin", auth.Identity{}, KindAuthDisable, &pb.AuthDisableRequest{}, auth.ErrUserEmpty},
		{"old", auth.Identity{User: "u", Revision: u.Revision - 1}, KindPut, put("a"), auth.ErrOldRevision},
	} {
		if err := m.runAs(c.by, c.kind, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if m.KV().Rev() != rev {
		t.Error("a refused command made a revision")
	}
	if err := m.runAs(root, KindPut, leased); err != nil {
		t.Fatal(err)
	}
	// A lease that holds another's key is not the user's to revoke or to use.
	if err := m.runAs(u, KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: 1}); !errors.Is(err, auth.ErrPermissionDenied) {
		t.Errorf("revoke: %v", err)
	}
	mine := put("a")
	mine.Lease = 1
	if err := m.runAs(u, KindPut, mine); !errors.Is(err, auth.ErrPermissionDenied) {
		t.Errorf("put with another's lease: %v", err)
	}
}

// A permission that is revoked before a command is applied holds no more, also
// within one entry.
func TestRevokedBeforeApplied(t *testing.T) {
	m := newMachine(t)
	withUsers(t, m)
	u := m.as("u")
	put := by(t, u, KindPut, &pb.PutRequest{Key: []byte("a")})
	revoke := by(t, m.as("root"), KindUserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "u", Role: "r"})
	results := m.runAll(put, revoke, put).Entries[0].Results
	if results[0].Err != nil || results[1].Err != nil || !errors.Is(results[2].Err, auth.ErrOldRevision) {
		t.Errorf("got %v, %v, %v", results[0].Err, results[1].Err, results[2].Err)
	}
	if err := m.runAs(m.as("u"), KindPut, &pb.PutRequest{Key: []byte("a")}); !errors.Is(err, auth.ErrPermissionDenied) {
		t.Errorf("with the new revision: %v", err)
	}
}

// Users are part of what a machine opens with; tokens are not.
func TestUsersOutliveTheMachine(t *testing.T) {
	dir := t.TempDir()
	m := openMachine(t, memory.Opener{}, dir)
	m.bootstrap()
	withUsers(t, m)
	r := m.do(KindAuthenticate, &pb.InternalAuthenticateRequest{Name: "u", SimpleToken: "secret"}).(*pb.AuthenticateResponse)
	if user, ok := m.Tokens().Lookup(r.Token); !ok || user != "u" {
		t.Errorf("token %q stands for %q, %v", r.Token, user, ok)
	}
	hash, rev := m.hash(), m.Auth().Revision()
	if _, err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	again := openMachine(t, memory.Opener{}, dir)
	if !again.Auth().Enabled() || again.Auth().Revision() != rev || again.hash() != hash {
		t.Errorf("opened with checking %v at revision %d", again.Auth().Enabled(), again.Auth().Revision())
	}
	if err := again.runAs(again.as("u"), KindPut, &pb.PutRequest{Key: []byte("z")}); !errors.Is(err, auth.ErrPermissionDenied) {
		t.Errorf("put beyond: %v", err)
	}
	if err := again.Auth().CheckPassword("u", "pw"); err != nil {
		t.Error(err)
	}
	if _, ok := again.Tokens().Lookup(r.Token); ok {
		t.Error("a token outlived the machine")
	}
}

// What ends a user's right to a token ends the tokens.
func TestTokensEndWithTheirUsers(t *testing.T) {
	for name, end := range map[string]func(m *testMachine) error{
		"deleted": func(m *testMachine) error {
			return m.runAs(m.as("root"), KindUserDelete, &pb.AuthUserDeleteRequest{Name: "u"})
		},
		"password": func(m *testMachine) error {
			return m.runAs(m.as("root"), KindUserChangePassword, &pb.AuthUserChangePasswordRequest{Name: "u"})
		},
		"disabled": func(m *testMachine) error { return m.runAs(m.as("root"), KindAuthDisable, &pb.AuthDisableRequest{}) },
	} {
		m := newMachine(t)
		withUsers(t, m)
		r := m.do(KindAuthenticate, &pb.InternalAuthenticateRequest{Name: "u", SimpleToken: "secret"}).(*pb.AuthenticateResponse)
		if err := end(m); err != nil {
			t.Fatal(err)
		}
		if _, ok := m.Tokens().Lookup(r.Token); ok {
			t.Errorf("%s: the token is good still", name)
		}
	}
}
