package member

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// TestMain also looks for goroutines that nobody ends.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers the calls that Etcd makes, as the test sets it up.
type server struct {
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer
	status  *pb.StatusResponse
	members []*pb.Member
	promote error
	hang    bool
	added   chan *pb.MemberAddRequest
}

func (s *server) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.status, grpc.SetHeader(ctx, metadata.Pairs(headerVersion, "0.2.0", headerLogIndex, "31", headerLogTerm, "3", headerSettings, "{}"))
}

func (s *server) MemberList(_ context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	switch {
	case !r.GetLinearizable():
		return nil, errors.New("the list must be linearizable")
	case s.members == nil:
		return nil, rpctypes.ErrGRPCNoLeader
	}
	return &pb.MemberListResponse{Header: &pb.ResponseHeader{}, Members: s.members}, nil
}

func (s *server) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	s.added <- r
	return &pb.MemberAddResponse{Header: &pb.ResponseHeader{}, Member: &pb.Member{ID: 7}}, nil
}

func (s *server) MemberPromote(context.Context, *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return nil, s.promote
}

func (s *server) MemberRemove(context.Context, *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return nil, rpctypes.ErrGRPCMemberNotFound
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	return serveWith(t, s, grpc.NewServer())
}

func serveWith(t *testing.T, s interface {
	pb.ClusterServer
	pb.MaintenanceServer
}, g *grpc.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterClusterServer(g, s)
	pb.RegisterMaintenanceServer(g, s)
	if a, ok := s.(pb.AuthServer); ok {
		pb.RegisterAuthServer(g, a)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return "http://" + l.Addr().String()
}

func answering(id, applied uint64) *pb.StatusResponse {
	return &pb.StatusResponse{
		Header: &pb.ResponseHeader{ClusterId: 0xc, MemberId: id}, Leader: 1, Version: "3.7.3",
		RaftIndex: applied + 1, RaftAppliedIndex: applied, RaftTerm: 3, DbSize: 9,
	}
}

func TestLookTakesTheListOfTheMemberFurthestAhead(t *testing.T) {
	old := serve(t, &server{status: answering(1, 10), members: []*pb.Member{{ID: 1}}})
	ahead := serve(t, &server{status: answering(2, 20), members: []*pb.Member{{ID: 2, IsLearner: true}, {ID: 1, Name: "x-0"}}})
	cut := serve(t, &server{status: answering(3, 30)})
	v := NewEtcd(Options{}).Look(t.Context(), []string{old, ahead, cut})
	if v.ListErr != nil || len(v.Members) != 2 || v.Members[0].ID != 1 || !v.Members[1].Learner {
		t.Fatalf("members %+v, %v", v.Members, v.ListErr)
	}
	if len(v.Status) != 3 || v.Status[cut].ID != 3 || v.Status[cut].AppliedIndex != 30 || v.Status[cut].ClusterID != 0xc || v.Status[cut].LogIndex != 31 || v.Status[cut].LogTerm != 3 ||
		v.Status[cut].Version != "0.2.0" {
		t.Fatalf("status %+v, errors %v", v.Status, v.Errs)
	}
}

func TestLookWithoutQuorumHasNoList(t *testing.T) {
	cut := serve(t, &server{status: answering(3, 30)})
	v := NewEtcd(Options{}).Look(t.Context(), []string{cut})
	if v.ListErr == nil || len(v.Members) != 0 || v.Status[cut].ID != 3 {
		t.Fatalf("%+v", v)
	}
}

func TestLookCostsOneTimeoutHoweverManyMembersHang(t *testing.T) {
	endpoints := []string{"http://127.0.0.1:1"}
	for range 5 {
		endpoints = append(endpoints, serve(t, &server{hang: true, members: []*pb.Member{{ID: 1}}}))
	}
	alive := serve(t, &server{status: answering(1, 10), members: []*pb.Member{{ID: 1}}})
	began := time.Now()
	v := NewEtcd(Options{LookTimeout: 500 * time.Millisecond}).Look(t.Context(), append(endpoints, alive))
	if spent := time.Since(began); spent > 2*time.Second {
		t.Errorf("took %v", spent)
	}
	if len(v.Errs) != 6 || v.Status[alive].ID != 1 || v.ListErr != nil {
		t.Errorf("%+v", v)
	}
}

func TestChangesTranslateWhatCallersBranchOn(t *testing.T) {
	s := &server{promote: rpctypes.ErrGRPCLearnerNotReady, added: make(chan *pb.MemberAddRequest, 1)}
	endpoint := serve(t, s)
	e := NewEtcd(Options{})
	if err := e.Promote(t.Context(), []string{endpoint}, 1); !errors.Is(err, ErrNotReady) {
		t.Errorf("promote: %v", err)
	}
	if err := e.Remove(t.Context(), []string{endpoint}, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove: %v", err)
	}
	id, err := e.AddLearner(t.Context(), []string{endpoint}, "http://x-1.x-peers.ns.svc:2380")
	if err != nil || id != 7 {
		t.Fatalf("add: %v, %v", id, err)
	}
	if r := <-s.added; !r.GetIsLearner() || r.GetPeerURLs()[0] != "http://x-1.x-peers.ns.svc:2380" {
		t.Errorf("added %v", r)
	}
}

func TestNoEndpointIsAnError(t *testing.T) {
	if err := NewEtcd(Options{}).Promote(t.Context(), nil, 1); err == nil {
		t.Error("promoted without an endpoint")
	}
	if v := NewEtcd(Options{}).Look(t.Context(), nil); v.ListErr == nil {
		t.Error("a list from nobody")
	}
}
