package member

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
)

// root is the user that no one may take away, and its role.
const root = "root"

// Users is whether members check users, and the one user that is the operator's
// business.
type Users interface {
	// EnableAuth makes the user root with a password, or gives it that one, and has
	// members check users from then on. Whatever of it is done already stays.
	EnableAuth(ctx context.Context, endpoints []string, password string) error
	// DisableAuth ends that; users and roles stay.
	DisableAuth(ctx context.Context, endpoints []string) error
	// ChangePassword gives root another password.
	ChangePassword(ctx context.Context, endpoints []string, password string) error
}

// Auth is what members say of users.
type Auth struct {
	// Known: some member said whether users are checked.
	Known, Enabled bool
	// Password is the one of Credentials.Root that members accept; empty when none
	// was asked for or none is good.
	Password string
}

// sessions are the tokens that members gave for passwords, by cluster. A token
// spares members the work that a password is on purpose, and it is good without
// a quorum, which a password is not.
type sessions struct {
	mu sync.Mutex
	// all is guarded by mu.
	all map[string]session
}

type session struct{ password, token string }

func (s *sessions) of(c Credentials) session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[c.Cluster]
}

func (s *sessions) keep(c Credentials, n session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == (session{}) {
		delete(s.all, c.Cluster)
		return
	}
	s.all[c.Cluster] = n
}

// with adds the token to what a call sends.
func (n session) with(ctx context.Context) context.Context {
	if n.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, n.token)
}

// wantsLogin says that members ask for somebody whom they know: nobody was named,
// the token is not good any more, or the certificate names no user.
func wantsLogin(err error) bool {
	var raw interface{ GRPCStatus() *grpcstatus.Status }
	if errors.As(err, &raw) {
		err = rpctypes.Error(raw.GRPCStatus().Err())
	}
	for _, e := range []error{
		rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserNotFound, rpctypes.ErrPermissionDenied,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// authOf joins what the members say of users.
func authOf(answers []answer) (a Auth, login bool) {
	for _, an := range answers {
		asks := wantsLogin(an.statusErr) || wantsLogin(an.listErr) || wantsLogin(an.authErr)
		login = login || asks
		if an.authErr == nil || asks {
			a.Known, a.Enabled = true, a.Enabled || an.auth || asks
		}
	}
	return a, login
}

// loginPoints are the endpoints that could give a token; a learner could not.
func loginPoints(endpoints []string, answers []answer) []string {
	var out []string
	for i, an := range answers {
		if an.authErr == nil || wantsLogin(an.authErr) || wantsLogin(an.listErr) {
			out = append(out, endpoints[i])
		}
	}
	return out
}

// login asks for a token, with one password after the other. An empty session
// says that none is good, or that members check nobody.
func (e *Etcd) login(ctx context.Context, endpoints []string) session {
	c, err := e.dial(ctx, endpoints...)
	if err != nil {
		return session{}
	}
	defer c.Close()
	for _, password := range e.credentials.Root {
		r, err := c.Authenticate(ctx, root, password)
		switch {
		case err == nil:
			return session{password: password, token: r.Token}
		case !errors.Is(err, rpctypes.ErrAuthFailed):
			return session{}
		}
	}
	return session{}
}

func authStatus(ctx context.Context, c *clientv3.Client) (enabled bool, err error) {
	r, err := c.AuthStatus(ctx)
	if err != nil {
		return false, fmt.Errorf("auth status: %w", err)
	}
	return r.Enabled, nil
}

// EnableAuth implements Users.
func (e *Etcd) EnableAuth(ctx context.Context, endpoints []string, password string) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.UserAdd(ctx, root, password)
		if errors.Is(err, rpctypes.ErrUserAlreadyExist) {
			_, err = c.UserChangePassword(ctx, root, password)
		}
		if err != nil {
			return fmt.Errorf("make the user: %w", err)
		}
		if _, err := c.RoleAdd(ctx, root); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
			return fmt.Errorf("make the role: %w", err)
		}
		if _, err := c.UserGrantRole(ctx, root, root); err != nil {
			return fmt.Errorf("grant the role: %w", err)
		}
		_, err = c.AuthEnable(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("enable auth: %w", err)
	}
	return nil
}

// DisableAuth implements Users.
func (e *Etcd) DisableAuth(ctx context.Context, endpoints []string) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.AuthDisable(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("disable auth: %w", err)
	}
	return nil
}

// ChangePassword implements Users.
func (e *Etcd) ChangePassword(ctx context.Context, endpoints []string, password string) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.UserChangePassword(ctx, root, password)
		return err
	})
	if err != nil {
		return fmt.Errorf("change root's password: %w", err)
	}
	e.sessions.keep(e.credentials, session{}) // the next look shows which one is good
	return nil
}
