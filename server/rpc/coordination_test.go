package rpc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/watch"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// script plays calls to one server and writes down what it answers.
type script struct {
	t     *testing.T
	ctx   context.Context
	conn  *grpc.ClientConn
	lines []string
}

// step writes down an answer, without what is each server's own.
func (s *script) step(name string, m proto.Message, err error) {
	s.t.Helper()
	if err != nil {
		st := status.Convert(err)
		text := st.String()
		if st.Code() == codes.DeadlineExceeded {
			text = st.Code().String() // the text is the client's own
		}
		s.lines = append(s.lines, name+": "+text)
		return
	}
	m = proto.Clone(m)
	if h, ok := m.(headed); ok && h.GetHeader() != nil {
		h.GetHeader().ClusterId, h.GetHeader().MemberId, h.GetHeader().RaftTerm = 0, 0, 0
	}
	b, err := protojson.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	s.lines = append(s.lines, fmt.Sprintf("%s: %s", name, strings.ReplaceAll(string(b), " ", "")))
}

func (s *script) grant(id int64) {
	s.t.Helper()
	if _, err := pb.NewLeaseClient(s.conn).LeaseGrant(s.ctx, &pb.LeaseGrantRequest{ID: id, TTL: 600}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) revoke(id int64) {
	s.t.Helper()
	if _, err := pb.NewLeaseClient(s.conn).LeaseRevoke(s.ctx, &pb.LeaseRevokeRequest{ID: id}); err != nil {
		s.t.Fatal(err)
	}
}

// awaitKeys waits until a prefix holds so many keys.
func (s *script) awaitKeys(prefix, end string, n int64) {
	s.t.Helper()
	for {
		resp, err := pb.NewKVClient(s.conn).Range(s.ctx, &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(end), CountOnly: true})
		if err != nil {
			s.t.Fatal(err)
		}
		if resp.Count == n {
			return
		}
	}
}

// answer is what a call answers that was begun beside others.
type answer struct {
	m   proto.Message
	err error
}

func begin[R proto.Message](call func() (R, error)) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		m, err := call()
		c <- answer{m, err}
	}()
	return c
}

func (s *script) end(name string, c <-chan answer) {
	s.t.Helper()
	a := <-c
	s.step(name, a.m, a.err)
}

func (s *script) locks() {
	c := v3lockpb.NewLockClient(s.conn)
	lock := func(ctx context.Context, name string, lease int64) func() (*v3lockpb.LockResponse, error) {
		return func() (*v3lockpb.LockResponse, error) {
			return c.Lock(ctx, &v3lockpb.LockRequest{Name: []byte(name), Lease: lease})
		}
	}
	s.grant(0x11)
	s.grant(0x12)
	s.grant(0x13)
	now := func(name string, call func() (*v3lockpb.LockResponse, error)) *v3lockpb.LockResponse {
		resp, err := call()
		s.step(name, resp, err)
		return resp
	}
	unlock := func(name, key string) {
		resp, err := c.Unlock(s.ctx, &v3lockpb.UnlockRequest{Key: []byte(key)})
		s.step(name, resp, err)
	}
	now("lock without that lease", lock(s.ctx, "a", 0x99))
	now("lock with a negative lease", lock(s.ctx, "a", -1))
	now("lock", lock(s.ctx, "a", 0x11))
	now("lock again", lock(s.ctx, "a", 0x11))
	second := begin(lock(s.ctx, "a", 0x12))
	s.awaitKeys("a/", "a0", 2)
	short, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
	now("lock until the caller gives up", lock(short, "a", 0x13))
	cancel()
	s.awaitKeys("a/", "a0", 2)
	unlock("unlock", "a/11")
	s.end("second lock", second)
	third := begin(lock(s.ctx, "a", 0x13))
	s.awaitKeys("a/", "a0", 2)
	s.revoke(0x12)
	s.end("third lock", third)
	unlock("unlock nothing", "a/none")
	unlock("unlock without a key", "")
	now("lock without a name", lock(s.ctx, "", 0x11))
	// A lock whose own lease ends while it waits.
	lost := begin(lock(s.ctx, "a", 0x11))
	s.awaitKeys("a/", "a0", 2)
	s.revoke(0x11)
	unlock("unlock before the lost one", "a/13")
	s.end("lost lock", lost)
	own, err := lock(s.ctx, "own", 0)()
	if err != nil || !strings.HasPrefix(string(own.Key), "own/") {
		s.t.Errorf("lock with a lease of its own: %v, %v", own, err)
	}
}

func (s *script) elections() {
	c := v3electionpb.NewElectionClient(s.conn)
	campaign := func(lease int64, value string) func() (*v3electionpb.CampaignResponse, error) {
		return func() (*v3electionpb.CampaignResponse, error) {
			return c.Campaign(s.ctx, &v3electionpb.CampaignRequest{Name: []byte("e"), Lease: lease, Value: []byte(value)})
		}
	}
	leader := func(name string) {
		resp, err := c.Leader(s.ctx, &v3electionpb.LeaderRequest{Name: []byte("e")})
		s.step(name, resp, err)
	}
	proclaim := func(name string, of *v3electionpb.LeaderKey, value string) {
		resp, err := c.Proclaim(s.ctx, &v3electionpb.ProclaimRequest{Leader: of, Value: []byte(value)})
		s.step(name, resp, err)
	}
	resign := func(name string, of *v3electionpb.LeaderKey) {
		resp, err := c.Resign(s.ctx, &v3electionpb.ResignRequest{Leader: of})
		s.step(name, resp, err)
	}
	s.grant(0x21)
	s.grant(0x22)
	leader("nobody leads")
	observed, stop := context.WithCancel(s.ctx)
	stream, err := c.Observe(observed, &v3electionpb.LeaderRequest{Name: []byte("e")})
	if err != nil {
		s.t.Fatal(err)
	}
	observe := func(name string) {
		resp, err := stream.Recv()
		s.step(name, resp, err)
	}
	_, err = campaign(0x99, "x")()
	s.step("campaign without that lease", nil, err)
	one, err := campaign(0x21, "one")()
	s.step("campaign", one, err)
	observe("observe the first")
	again, err := campaign(0x21, "one")()
	s.step("campaign again", again, err)
	other, err := campaign(0x21, "another value")()
	s.step("campaign with another value", other, err)
	observe("observe another value")
	leader("leader")
	proclaim("proclaim", one.GetLeader(), "news")
	observe("observe what is proclaimed")
	proclaim("proclaim for nobody", nil, "x")
	resign("resign for nobody", nil)
	stale := proto.Clone(one.GetLeader()).(*v3electionpb.LeaderKey)
	stale.Rev = 1
	proclaim("proclaim for another term", stale, "x")
	resign("resign another term", stale)
	noLease := proto.Clone(one.GetLeader()).(*v3electionpb.LeaderKey)
	noLease.Lease = 0x99
	proclaim("proclaim without that lease", noLease, "x")
	second := begin(campaign(0x22, "two"))
	s.awaitKeys("e/", "e0", 2)
	resign("resign", one.GetLeader())
	s.end("second campaign", second)
	observe("observe the second")
	resign("resign again", one.GetLeader())
	s.revoke(0x22)
	leader("nobody leads again")
	stop()
	observe("observe no more")
}

// Locks and elections as a real etcd has them, answer by answer.
func TestSameCoordinationAsEtcd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	mine := serve(t, Options{}, watch.Options{})
	var texts [2][]string
	for i, conn := range []*grpc.ClientConn{startEtcd(t), dial(t, mine.addr)} {
		s := &script{t: t, ctx: ctx, conn: conn}
		s.locks()
		s.elections()
		texts[i] = s.lines
	}
	for i, line := range texts[0] {
		if texts[1][i] != line {
			t.Errorf("etcd:\n%s\nMetaStore:\n%s", line, texts[1][i])
		}
	}
	for _, want := range []string{"requested lease not found", "election: not leader", "election: no leader", "mutex: session is expired", `"leader" field must be provided`} {
		if !strings.Contains(strings.Join(texts[1], "\n"), want) {
			t.Errorf("the run never met %q", want)
		}
	}
}

// What a lock does is judged as the caller's own: users who may not write the
// lock's keys do not get it, and those who may do.
func TestLocksAreJudged(t *testing.T) {
	s := serve(t, Options{Auth: AuthOptions{BcryptCost: 4}}, watch.Options{})
	ctx, c, lock := t.Context(), s.client, v3lockpb.NewLockClient(s.conn)
	for _, err := range []error{
		failure(c.UserAdd(ctx, "root", "r")), failure(c.RoleAdd(ctx, "root")), failure(c.UserGrantRole(ctx, "root", "root")),
		failure(c.UserAdd(ctx, "u", "u")), failure(c.RoleAdd(ctx, "r")), failure(c.UserGrantRole(ctx, "u", "r")),
		failure(c.RoleGrantPermission(ctx, "r", "mine/", "mine0", 2)),
		failure(c.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("mine")}); err == nil || !strings.Contains(err.Error(), "user name is empty") {
		t.Errorf("lock of nobody: %v", err)
	}
	resp, err := pb.NewAuthClient(s.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "u", Password: "u"})
	if err != nil {
		t.Fatal(err)
	}
	as := metadata.AppendToOutgoingContext(ctx, "token", resp.Token)
	if _, err := lock.Lock(as, &v3lockpb.LockRequest{Name: []byte("theirs")}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("lock of another's: %v", err)
	}
	held, err := lock.Lock(as, &v3lockpb.LockRequest{Name: []byte("mine")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Unlock(as, &v3lockpb.UnlockRequest{Key: held.Key}); err != nil {
		t.Error(err)
	}
}

func failure[T any](_ T, err error) error { return err }
