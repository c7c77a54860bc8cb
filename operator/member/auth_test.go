package member

import (
	"context"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// guarded is a member that checks users: it asks for a token for all that it
// answers, as the server does.
type guarded struct {
	pb.UnimplementedAuthServer
	server
	mu       sync.Mutex
	enabled  bool
	password string
	// asked counts the passwords that were tried.
	asked int
	calls []string
}

func (g *guarded) intercept(ctx context.Context, r any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	name := info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:]
	md, _ := metadata.FromIncomingContext(ctx)
	token := strings.Join(md.Get(rpctypes.TokenFieldNameGRPC), ",")
	g.mu.Lock()
	good := !g.enabled || token == "token of "+g.password
	g.calls = append(g.calls, name)
	g.mu.Unlock()
	switch {
	case good || name == "Authenticate" || name == "AuthStatus" && token == "":
		return next(ctx, r)
	case token == "":
		return nil, rpctypes.ErrGRPCUserEmpty
	}
	return nil, rpctypes.ErrGRPCInvalidAuthToken
}

func (g *guarded) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &pb.AuthStatusResponse{Enabled: g.enabled}, nil
}

func (g *guarded) Authenticate(_ context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	if r.Name != "root" || r.Password != g.password {
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	return &pb.AuthenticateResponse{Token: "token of " + r.Password}, nil
}

func (g *guarded) UserAdd(context.Context, *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	return nil, rpctypes.ErrGRPCUserAlreadyExist
}

func (g *guarded) UserChangePassword(_ context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	g.set(g.enabled, r.Password)
	return &pb.AuthUserChangePasswordResponse{}, nil
}

func (g *guarded) RoleAdd(context.Context, *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	return nil, rpctypes.ErrGRPCRoleAlreadyExist
}

func (g *guarded) UserGrantRole(context.Context, *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	return &pb.AuthUserGrantRoleResponse{}, nil
}

func (g *guarded) AuthEnable(context.Context, *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	g.set(true, g.password)
	return &pb.AuthEnableResponse{}, nil
}

func (g *guarded) AuthDisable(context.Context, *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	g.set(false, g.password)
	return &pb.AuthDisableResponse{}, nil
}

func (g *guarded) set(enabled bool, password string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.enabled, g.password = enabled, password
}

func (g *guarded) tried() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

func TestUsers(t *testing.T) {
	g := &guarded{server: server{status: answering(1, 10), members: []*pb.Member{{ID: 1}}}, password: "old"}
	endpoint := []string{serveWith(t, g, grpc.NewServer(grpc.UnaryInterceptor(g.intercept)))}
	all := NewEtcd(Options{})
	look := func(passwords ...string) View {
		return all.With(Credentials{Cluster: "c", Root: passwords}).Look(t.Context(), endpoint)
	}
	if v := look("new"); v.ListErr != nil || v.Auth != (Auth{Known: true}) {
		t.Fatalf("open: %+v", v)
	}
	e := all.With(Credentials{Cluster: "c", Root: []string{"new", "old"}})
	if err := e.EnableAuth(t.Context(), endpoint, "old"); err != nil {
		t.Fatal(err)
	}
	if v := all.Look(t.Context(), endpoint); v.ListErr == nil || v.Auth != (Auth{Known: true, Enabled: true}) {
		t.Errorf("without a password: %+v", v)
	}
	if v := look("wrong"); v.ListErr == nil || v.Auth != (Auth{Known: true, Enabled: true}) {
		t.Errorf("with a wrong one: %+v", v)
	}
	for range 3 {
		if v := look("new", "old"); v.ListErr != nil || len(v.Status) != 1 || v.Auth.Password != "old" {
			t.Fatalf("with the right one: %+v", v)
		}
	}
	if n := g.tried(); n != 3 {
		t.Errorf("%d passwords were tried; the token is not used again", n)
	}
	if err := e.ChangePassword(t.Context(), endpoint, "new"); err != nil {
		t.Fatal(err)
	}
	if v := look("new", "old"); v.ListErr != nil || v.Auth.Password != "new" {
		t.Errorf("with the changed one: %+v", v)
	}
	g.set(true, "old") // somebody else changes it, and with it ends the token
	if v := look("new", "old"); v.ListErr != nil || v.Auth.Password != "old" {
		t.Errorf("with the one of before: %+v", v)
	}
	if err := e.DisableAuth(t.Context(), endpoint); err != nil {
		t.Fatal(err)
	}
	if v := look("new", "old"); v.ListErr != nil || v.Auth != (Auth{Known: true}) {
		t.Errorf("open again: %+v", v)
	}
}
