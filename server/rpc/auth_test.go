package rpc

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/watch"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// authed is a member with checking on: root, and the user u who may read and
// write the keys from a on and before c.
type authed struct {
	*served
	raw  *grpc.ClientConn // without the retries of etcd's client
	auth pb.AuthClient
	kv   pb.KVClient
}

func serveAuthed(t *testing.T, scheme auth.Scheme) *authed {
	t.Helper()
	s := serve(t, Options{Auth: AuthOptions{Scheme: scheme, BcryptCost: bcrypt.MinCost}}, watch.Options{})
	a := &authed{served: s, raw: dial(t, s.addr)}
	a.auth, a.kv = pb.NewAuthClient(a.raw), pb.NewKVClient(a.raw)
	ctx := t.Context()
	perm := &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("a"), RangeEnd: []byte("c")}
	for _, err := range []error{
		one2(a.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "top-secret"})),
		one2(a.auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})),
		one2(a.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "u", Password: "secret"})),
		one2(a.auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "r"})),
		one2(a.auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "u", Role: "r"})),
		one2(a.auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm})),
		one2(a.auth.AuthEnable(ctx, &pb.AuthEnableRequest{})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// as is a context with a token of a user.
func (a *authed) as(t *testing.T, user, password string) context.Context {
	t.Helper()
	r, err := a.auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, r.Token)
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if w := status.Convert(want); status.Code(got) != w.Code() || status.Convert(got).Message() != w.Message() {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// A password never gets into a command, and so into no log.
func TestPasswordsAreHashedBeforeTheyAreProposed(t *testing.T) {
	a := serveAuthed(t, auth.Scheme{})
	root := a.as(t, "root", "top-secret")
	for _, err := range []error{
		one2(a.auth.UserChangePassword(root, &pb.AuthUserChangePasswordRequest{Name: "u", Password: "better"})),
		one2(a.auth.UserAdd(root, &pb.AuthUserAddRequest{Name: "cert", Password: "unused-secret", Options: &authpb.UserAddOptions{NoPassword: true}})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	a.as(t, "u", "better")
	bodies := a.proposed()
	if len(bodies) < 10 {
		t.Fatalf("%d commands were seen", len(bodies))
	}
	for _, password := range []string{"secret", "better"} {
		for _, body := range bodies {
			if bytes.Contains(body, []byte(password)) {
				t.Errorf("a command holds %q: %q", password, body)
			}
		}
	}
}

func TestOnlyUsersAreServed(t *testing.T) {
	a := serveAuthed(t, auth.Scheme{})
	u := a.as(t, "u", "secret")
	get := func(ctx context.Context, key, end string) error {
		return one2(a.kv.Range(ctx, &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}))
	}
	wantErr(t, "nobody", get(t.Context(), "a", ""), rpctypes.ErrGRPCUserEmpty)
	wantErr(t, "own", get(u, "a", "c"), nil)
	wantErr(t, "beyond", get(u, "a", "d"), rpctypes.ErrGRPCPermissionDenied)
	for _, token := range []string{"", "x", "x.1", "x.999999", ".1"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, token)
		wantErr(t, fmt.Sprintf("token %q", token), get(ctx, "a", ""), rpctypes.ErrGRPCInvalidAuthToken)
	}
	stream, err := a.kv.RangeStream(u, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	if err == nil {
		_, err = stream.Recv()
	}
	wantErr(t, "stream", err, rpctypes.ErrGRPCPermissionDenied)
	snapshot, err := pb.NewMaintenanceClient(a.raw).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err == nil {
		_, err = snapshot.Recv()
	}
	wantErr(t, "snapshot", err, rpctypes.ErrGRPCUserEmpty)
	_, err = a.auth.UserGet(u, &pb.AuthUserGetRequest{Name: "u"})
	wantErr(t, "own roles", err, nil)
	_, err = a.auth.UserGet(u, &pb.AuthUserGetRequest{Name: "root"})
	wantErr(t, "root's roles", err, rpctypes.ErrGRPCPermissionDenied)
	long := strings.Repeat("x", 73)
	_, err = a.auth.UserAdd(a.as(t, "root", "top-secret"), &pb.AuthUserAddRequest{Name: "long", Password: long})
	wantErr(t, "long password", err, wireError(bcrypt.ErrPasswordTooLong))
}

// A token that this member cannot know yet makes it catch up before it judges.
func TestTokenFromAnotherMember(t *testing.T) {
	a := serveAuthed(t, auth.Scheme{})
	a.setFail(replica.ErrNoLeader)
	ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, "x.999999")
	_, err := a.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Serializable: true})
	wantErr(t, "without a leader", err, rpctypes.ErrGRPCNoLeader)
	ctx = metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, "x.1")
	_, err = a.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Serializable: true})
	wantErr(t, "of the past", err, rpctypes.ErrGRPCInvalidAuthToken)
}

// A signed token holds for the users as they were: after a change its owner has
// to authenticate again.
func TestSignedTokensGrowOld(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	scheme, err := auth.ParseScheme("jwt,sign-method=HS256,ttl=1m,priv-key=" + key)
	if err != nil {
		t.Fatal(err)
	}
	a := serveAuthed(t, scheme)
	u := a.as(t, "u", "secret")
	put := func() error { return one2(a.kv.Put(u, &pb.PutRequest{Key: []byte("a")})) }
	wantErr(t, "new", put(), nil)
	if _, err := a.auth.RoleAdd(a.as(t, "root", "top-secret"), &pb.AuthRoleAddRequest{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "put", put(), rpctypes.ErrGRPCAuthOldRevision)
	wantErr(t, "get", one2(a.kv.Range(u, &pb.RangeRequest{Key: []byte("a")})), rpctypes.ErrGRPCAuthOldRevision)
	u = a.as(t, "u", "secret")
	wantErr(t, "again", put(), nil)
	a.s.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	wantErr(t, "over", put(), rpctypes.ErrGRPCInvalidAuthToken)
}

func TestNoTokens(t *testing.T) {
	a := serveAuthed(t, auth.Scheme{None: true})
	_, err := a.auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "u", Password: "secret"})
	wantErr(t, "authenticate", err, rpctypes.ErrGRPCAuthFailed)
}

// What is read for a user whose rights change meanwhile is not given out.
func TestReadsAreFresh(t *testing.T) {
	a := serveAuthed(t, auth.Scheme{})
	u := a.as(t, "u", "secret")
	md, _ := metadata.FromOutgoingContext(u)
	fresh, err := a.s.allowRange(metadata.NewIncomingContext(t.Context(), md), []byte("a"), nil)
	if err != nil || fresh() != nil {
		t.Fatal(err)
	}
	if _, err := a.auth.RoleAdd(a.as(t, "root", "top-secret"), &pb.AuthRoleAddRequest{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "after a change", fresh(), rpctypes.ErrGRPCAuthOldRevision)
}

// Clients of the gateway send their token as HTTP does.
func TestGatewayPassesTokens(t *testing.T) {
	a := serveAuthed(t, auth.Scheme{})
	g := grpc.NewServer(a.s.ServerOptions()...)
	a.s.Register(g)
	gateway, err := a.s.NewGateway(g)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	defer func() { _ = gateway.Close() }()
	md, _ := metadata.FromOutgoingContext(a.as(t, "u", "secret"))
	for token, want := range map[string]int{md.Get(rpctypes.TokenFieldNameGRPC)[0]: http.StatusOK, "x.1": http.StatusUnauthorized, "": http.StatusBadRequest} {
		body := fmt.Sprintf(`{"key":%q}`, base64.StdEncoding.EncodeToString([]byte("a")))
		r := httptest.NewRequest(http.MethodPost, "/v3/kv/range", strings.NewReader(body))
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		w := httptest.NewRecorder()
		gateway.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("token %q: %d %s", token, w.Code, w.Body)
		}
	}
}

// proposed are the bodies of all commands so far.
func (a *authed) proposed() [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bodies
}
