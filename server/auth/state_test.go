package auth

import (
	"errors"
	"reflect"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
)

const testGroup engine.GroupID = 9

// book applies changes to a state and to an engine, as apply does.
type book struct {
	*State
	t *testing.T
	e engine.Engine
}

func newBook(t *testing.T) *book {
	t.Helper()
	e, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return &book{State: newState(testGroup), t: t, e: e}
}

// try makes one change, and checks that a refused one changed nothing and that
// the rows say what the state says.
func (k *book) try(change func(s *State, b *engine.Batch) (*State, error)) error {
	k.t.Helper()
	b := engine.NewBatch()
	before := k.snapshot()
	next, err := change(k.State, b)
	if !reflect.DeepEqual(k.snapshot(), before) {
		k.t.Fatal("a change touched the state before it")
	}
	if err != nil {
		if b.Len() != 0 || !IsResult(err) {
			k.t.Fatalf("%v: %d rows are staged", err, b.Len())
		}
		return err
	}
	if err := k.e.Apply(b); err != nil {
		k.t.Fatal(err)
	}
	k.State = next
	stored, err := Open(k.e, testGroup)
	if err != nil {
		k.t.Fatal(err)
	}
	if got, want := (&book{State: stored}).snapshot(), k.snapshot(); !reflect.DeepEqual(got, want) {
		k.t.Fatalf("the rows say\n%v\nthe state says\n%v", got, want)
	}
	if !reflect.DeepEqual(stored.allowed, next.allowed) {
		k.t.Fatal("permissions differ after opening")
	}
	return nil
}

func (k *book) must(change func(s *State, b *engine.Batch) (*State, error)) {
	k.t.Helper()
	if err := k.try(change); err != nil {
		k.t.Fatal(err)
	}
}

// snapshot is all that a state says.
func (k *book) snapshot() []string {
	out := []string{}
	for _, u := range k.Users() {
		out = append(out, string(must(proto.MarshalOptions{Deterministic: true}.Marshal(u))))
	}
	for _, r := range k.Roles() {
		out = append(out, string(must(proto.MarshalOptions{Deterministic: true}.Marshal(r))))
	}
	return append(out, string(rune(k.Revision())), map[bool]string{true: "on", false: "off"}[k.Enabled()])
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func op[R any](method func(*State, *engine.Batch, R) (*State, error), r R) func(*State, *engine.Batch) (*State, error) {
	return func(s *State, b *engine.Batch) (*State, error) { return method(s, b, r) }
}

func addUser(name string) func(*State, *engine.Batch) (*State, error) {
	return op((*State).AddUser, &pb.AuthUserAddRequest{Name: name, HashedPassword: must(HashPassword("pw-"+name, bcrypt.MinCost))})
}

func addRole(name string) func(*State, *engine.Batch) (*State, error) {
	return op((*State).AddRole, &pb.AuthRoleAddRequest{Name: name})
}

func grant(user, role string) func(*State, *engine.Batch) (*State, error) {
	return op((*State).GrantRole, &pb.AuthUserGrantRoleRequest{User: user, Role: role})
}

func allow(role string, p *authpb.Permission) func(*State, *engine.Batch) (*State, error) {
	return op((*State).GrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p})
}

// enabled has root, the user u with the role r, and checking on.
func enabled(t *testing.T) *book {
	t.Helper()
	k := newBook(t)
	k.must(addUser("root"))
	k.must(grant("root", "root"))
	k.must(addUser("u"))
	k.must(addRole("r"))
	k.must(grant("u", "r"))
	k.must(allow("r", perm(readWrite, "a", "c")))
	k.must((*State).Enable)
	return k
}

func TestRevisions(t *testing.T) {
	k := newBook(t)
	disable := func(s *State, b *engine.Batch) (*State, error) { return s.Disable(b), nil }
	for i, step := range []struct {
		name   string
		change func(*State, *engine.Batch) (*State, error)
		rises  bool
		err    error
	}{
		{"enable without root", (*State).Enable, false, ErrRootUserNotExist},
		{"add root", addUser("root"), true, nil},
		{"add root again", addUser("root"), false, ErrUserAlreadyExist},
		{"enable without role", (*State).Enable, false, ErrRootRoleNotExist},
		{"grant root", grant("root", "root"), true, nil},
		{"grant root again", grant("root", "root"), false, nil},
		{"disable what is off", disable, false, nil},
		{"enable", (*State).Enable, false, nil},
		{"enable again", (*State).Enable, false, nil},
		{"disable", disable, true, nil},
		{"add role", addRole("r"), true, nil},
		{"grant missing role", grant("root", "x"), false, ErrRoleNotFound},
		{"grant missing user", grant("x", "r"), false, ErrUserNotFound},
		{"permission", allow("r", perm(read, "a", "")), true, nil},
		{"same permission", allow("r", perm(write, "a", "")), true, nil},
		{"no permission", allow("r", nil), false, ErrPermissionNotGiven},
		{"bad range", allow("r", perm(read, "b", "a")), false, ErrInvalidMgmt},
		{"no role", allow("x", perm(read, "a", "")), false, ErrRoleNotFound},
	} {
		rev := k.Revision()
		if err := k.try(step.change); !errors.Is(err, step.err) {
			t.Errorf("%d %s: got error %v, want %v", i, step.name, err, step.err)
		}
		if (k.Revision() == rev+1) != step.rises || (!step.rises && k.Revision() != rev) {
			t.Errorf("%d %s: revision %d after %d", i, step.name, k.Revision(), rev)
		}
	}
	perms, err := k.RolePermissions("r")
	if err != nil || len(perms) != 1 || perms[0].PermType != write {
		t.Errorf("the role has %v, %v", perms, err)
	}
}

// While checking is on, root cannot be locked out.
func TestRootStays(t *testing.T) {
	k := enabled(t)
	k.must(addRole("root"))
	for name, change := range map[string]func(*State, *engine.Batch) (*State, error){
		"user": op((*State).DeleteUser, &pb.AuthUserDeleteRequest{Name: "root"}),
		"role": op((*State).DeleteRole, &pb.AuthRoleDeleteRequest{Role: "root"}),
		"its":  op((*State).RevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "root"}),
	} {
		if err := k.try(change); !errors.Is(err, ErrInvalidMgmt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.must(func(s *State, b *engine.Batch) (*State, error) { return s.Disable(b), nil })
	k.must(op((*State).DeleteRole, &pb.AuthRoleDeleteRequest{Role: "root"}))
	if k.HasRole("root", "root") {
		t.Error("a deleted role is still granted")
	}
}

func TestChecks(t *testing.T) {
	k := enabled(t)
	now := k.Revision()
	me := Identity{User: "u", Revision: now}
	for _, c := range []struct {
		name string
		by   Identity
		end  string
		want error
	}{
		{"allowed", me, "c", nil},
		{"more than allowed", me, "d", ErrPermissionDenied},
		{"root", Identity{User: "root", Revision: now}, open, nil},
		{"nobody", Identity{}, "c", ErrUserEmpty},
		{"old", Identity{User: "u", Revision: now - 1}, "c", ErrOldRevision},
		{"old root", Identity{User: "root", Revision: now - 1}, "c", ErrOldRevision},
		{"stranger", Identity{User: "x", Revision: now}, "c", ErrPermissionDenied},
	} {
		if err := k.CheckRead(c.by, []byte("a"), []byte(c.end)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	for by, want := range map[Identity]error{
		me: ErrPermissionDenied, {}: ErrUserEmpty, {User: "x", Revision: now}: ErrUserNotFound, {User: "root", Revision: 1}: nil,
	} {
		if err := k.CheckAdmin(by); !errors.Is(err, want) {
			t.Errorf("admin %v: got %v, want %v", by, err, want)
		}
	}
	// What is revoked is refused, whichever way it goes.
	k.must(op((*State).RevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: "r", Key: []byte("a"), RangeEnd: []byte("c")}))
	me.Revision = k.Revision()
	if err := k.CheckRead(me, []byte("a"), nil); !errors.Is(err, ErrPermissionDenied) {
		t.Errorf("after revocation: %v", err)
	}
}

func TestRequestsAreCheckedWhole(t *testing.T) {
	k := enabled(t)
	k.must(allow("r", perm(read, "ro", "")))
	k.must(allow("r", perm(write, "wo", "")))
	me := Identity{User: "u", Revision: k.Revision()}
	keys := func(id int64) [][]byte {
		return map[int64][][]byte{1: {[]byte("a"), []byte("wo")}, 2: {[]byte("a"), []byte("ro")}}[id]
	}
	get := func(key, end string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
	}
	put := func(r *pb.PutRequest) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
	}
	del := func(key, end string, prev bool) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end), PrevKv: prev}}}
	}
	txn := func(tx *pb.TxnRequest) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: tx}}
	}
	for _, c := range []struct {
		name    string
		op      *pb.RequestOp
		allowed bool
	}{
		{"get", get("a", "c"), true},
		{"get beyond", get("a", "d"), false},
		{"get write-only", get("wo", ""), false},
		{"put", put(&pb.PutRequest{Key: []byte("wo")}), true},
		{"put with the previous", put(&pb.PutRequest{Key: []byte("wo"), PrevKv: true}), false},
		{"put read-only", put(&pb.PutRequest{Key: []byte("ro")}), false},
		{"put with own lease", put(&pb.PutRequest{Key: []byte("a"), Lease: 1}), true},
		{"put with another's lease", put(&pb.PutRequest{Key: []byte("a"), Lease: 2}), false},
		{"delete", del("a", "c", true), true},
		{"delete beyond", del("a", open, false), false},
		{"delete with the previous", del("wo", "", true), false},
		{"empty", &pb.RequestOp{}, true},
		{"nested", txn(&pb.TxnRequest{Failure: []*pb.RequestOp{get("z", "")}}), false},
		{"nested compare", txn(&pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("z")}}}), false},
		{"compared range", txn(&pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("a"), RangeEnd: []byte("d")}}}), false},
	} {
		for i, tx := range []*pb.TxnRequest{{Success: []*pb.RequestOp{c.op}}, {Failure: []*pb.RequestOp{c.op}}} {
			if err := k.CheckTxn(me, tx, keys); (err == nil) != c.allowed {
				t.Errorf("%s, branch %d: %v", c.name, i, err)
			}
		}
	}
}

func TestPasswords(t *testing.T) {
	k := enabled(t)
	k.must(op((*State).AddUser, &pb.AuthUserAddRequest{Name: "cert", Options: &authpb.UserAddOptions{NoPassword: true}}))
	for _, c := range []struct {
		user, password string
		want           error
	}{
		{"u", "pw-u", nil}, {"u", "pw", ErrAuthFailed}, {"u", "", ErrAuthFailed}, {"x", "pw-u", ErrAuthFailed}, {"cert", "", ErrNoPasswordUser},
	} {
		if err := k.CheckPassword(c.user, c.password); !errors.Is(err, c.want) {
			t.Errorf("%s %q: got %v, want %v", c.user, c.password, err, c.want)
		}
	}
	change := &pb.AuthUserChangePasswordRequest{Name: "u", HashedPassword: must(HashPassword("new", bcrypt.MinCost))}
	k.must(op((*State).ChangePassword, change))
	if err := k.CheckPassword("u", "new"); err != nil {
		t.Error(err)
	}
	change.HashedPassword = "*"
	if err := k.try(op((*State).ChangePassword, change)); !errors.Is(err, ErrNoPasswordUser) {
		t.Errorf("a hash that is none: %v", err)
	}
	if Cost(0) != bcrypt.DefaultCost || Cost(5) != 5 || Cost(99) != bcrypt.DefaultCost {
		t.Error("unknown costs are not replaced")
	}
}

// The bytes of the first formats: they must decode for ever.
func TestRowFormats(t *testing.T) {
	b := engine.NewBatch()
	Import(b, 1, true, 5,
		[]*authpb.User{{Name: []byte("n"), Password: []byte("h"), Roles: []string{"r1", "r2"}}, {Name: []byte("c"), Options: &authpb.UserAddOptions{NoPassword: true}}},
		[]*authpb.Role{{Name: []byte("r"), KeyPermission: []*authpb.Permission{perm(readWrite, "a", open)}}})
	want := map[string]string{
		"\x00\x00\x00\x01auth/status": "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x05",
		"\x00\x00\x00\x01auth/user/n": "\x01\x00\x01h\x02\x02r1\x02r2",
		"\x00\x00\x00\x01auth/user/c": "\x01\x01\x00\x00",
		"\x00\x00\x00\x01auth/role/r": "\x01\x01\x02\x01a\x01\x00",
	}
	err := b.Each(func(op engine.Op) error {
		if want[string(op.Key)] != string(op.Value) {
			t.Errorf("row %q is %q, want %q", op.Key, op.Value, want[string(op.Key)])
		}
		delete(want, string(op.Key))
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("missing rows: %q, %v", want, err)
	}
}

func FuzzRow(f *testing.F) {
	f.Add([]byte("user/n"), []byte("\x01\x00\x01h\x02\x02r1\x02r2"))
	f.Add([]byte("role/r"), []byte("\x01\x01\x02\x01a\x01\x00"))
	f.Add([]byte("status"), []byte("\x01\x01\x00\x00\x00\x00\x00\x00\x00\x05"))
	f.Add([]byte("role/r"), []byte("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := newState(testGroup)
		if s.row(key, value) != nil {
			return
		}
		b := engine.NewBatch()
		for _, u := range s.users {
			putUser(b, testGroup, u)
		}
		for _, r := range s.roles {
			putRole(b, testGroup, r)
		}
		if string(key) == rowStatus {
			putStatus(b, testGroup, s.enabled, s.revision)
		}
		_ = b.Each(func(op engine.Op) error {
			if again := string(op.Value); again != string(value) {
				t.Fatalf("%q encodes to %q", value, again)
			}
			return nil
		})
	})
}
