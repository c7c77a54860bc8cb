package rpc

import (
	"context"
	"strings"

	"metastore.io/metastore/server/auth"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// AuthOptions are how callers prove who they are. The zero value is etcd's
// default.
type AuthOptions struct {
	Scheme auth.Scheme
	// BcryptCost is that of passwords hashed here; bcrypt's default where
	// bcrypt does not know it.
	BcryptCost int
	// CertUsers: a caller without a token is the user that the common name of
	// its verified certificate names. Connections then need credentials that
	// tell about TLS.
	CertUsers bool
}

// identify finds out who makes a call: nobody while users are not checked, and
// nobody without token and certificate. The revision is read before the token
// is looked up, so that a change of users between the two is noticed.
func (s *Server) identify(ctx context.Context) (auth.Identity, error) {
	users := s.b.Machine().Auth()
	if !users.Enabled() {
		return auth.Identity{}, nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	tokens := md.Get(rpctypes.TokenFieldNameGRPC)
	if len(tokens) == 0 {
		tokens = md.Get(rpctypes.TokenFieldNameSwagger)
	}
	if len(tokens) > 0 {
		return s.fromToken(ctx, strings.TrimPrefix(tokens[0], "Bearer "))
	}
	// A gateway in front of this member speaks for others: the name in its own
	// certificate is not the caller's.
	if s.o.Auth.CertUsers && len(md.Get("grpcgateway-accept")) == 0 {
		return fromCertificate(ctx, users.Revision()), nil
	}
	return auth.Identity{}, nil
}

func (s *Server) fromToken(ctx context.Context, token string) (auth.Identity, error) {
	if s.o.Auth.Scheme.JWT != nil {
		return s.o.Auth.Scheme.JWT.Identify(token, s.now())
	}
	index, ok := auth.TokenIndex(token)
	if !ok || s.o.Auth.Scheme.None {
		return auth.Identity{}, auth.ErrInvalidToken
	}
	if applied, _ := s.b.Machine().Applied(); applied < index {
		// Another member gave it out and this one has to catch up.
		if err := s.b.ReadBarrier(ctx); err != nil {
			return auth.Identity{}, err
		}
	}
	m := s.b.Machine()
	rev := m.Auth().Revision()
	user, ok := m.Tokens().Lookup(token)
	if !ok {
		return auth.Identity{}, auth.ErrInvalidToken
	}
	return auth.Identity{User: user, Revision: rev}, nil
}

func fromCertificate(ctx context.Context, rev uint64) auth.Identity {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return auth.Identity{}
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return auth.Identity{}
	}
	for _, chain := range info.State.VerifiedChains {
		if len(chain) > 0 {
			return auth.Identity{User: chain[0].Subject.CommonName, Revision: rev}
		}
	}
	return auth.Identity{}
}

// permission is one of auth.State's checks with what it is about.
type permission func(users *auth.State, by auth.Identity) error

// allow identifies the caller and judges what it wants. What is read then may
// be given out only when fresh says so: permissions may change meanwhile. All
// errors are the wire's.
func (s *Server) allow(ctx context.Context, check permission) (fresh func() error, err error) {
	by, err := s.identify(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	// Users of now, not those that the caller was identified with: what has
	// changed in between shows as an old revision.
	if err := check(s.b.Machine().Auth(), by); err != nil {
		return nil, wireError(err)
	}
	return func() error {
		if err := s.b.Machine().Auth().CheckFresh(by); err != nil {
			return wireError(err)
		}
		return nil
	}, nil
}

// allowAdmin is allow for what only admins may.
func (s *Server) allowAdmin(ctx context.Context) error {
	_, err := s.allow(ctx, (*auth.State).CheckAdmin)
	return err
}

// allowRange is allow for reading a range.
func (s *Server) allowRange(ctx context.Context, key, end []byte) (fresh func() error, err error) {
	return s.allow(ctx, func(users *auth.State, by auth.Identity) error { return users.CheckRead(by, key, end) })
}

// allowCall judges the requests that need no look at their keys: what only
// admins may, and what anybody may who is a user. All others are judged where
// they are answered or applied.
func (s *Server) allowCall(ctx context.Context, req any) error {
	var check permission
	switch r := req.(type) {
	case *pb.CompactionRequest, *pb.DefragmentRequest, *pb.HashRequest, *pb.HashKVRequest,
		*pb.MoveLeaderRequest, *pb.DowngradeRequest, *pb.SnapshotRequest,
		*pb.MemberRemoveRequest, *pb.MemberPromoteRequest:
		check = (*auth.State).CheckAdmin
	case *pb.AlarmRequest:
		check = (*auth.State).CheckAdmin
		if r.Action == pb.AlarmRequest_GET {
			check = (*auth.State).CheckKnown
		}
	case *pb.StatusRequest, *pb.MemberListRequest,
		*pb.LeaseGrantRequest, *pb.LeaseRevokeRequest, *pb.LeaseTimeToLiveRequest:
		check = (*auth.State).CheckKnown
	default:
		return nil
	}
	_, err := s.allow(ctx, check)
	return err
}
