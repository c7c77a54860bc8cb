package rpc

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// TestMain also looks for goroutines that nobody ends. An etcd in the process
// does not always end those of the client inside it that its locks go through.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc.(*LeaseServer).LeaseKeepAlive"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc.(*LeaseServer).leaseKeepAlive"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/v3.(*lessor).recvKeepAliveLoop"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/v3.(*lessor).sendKeepAliveLoop"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/v3.(*lessor).deadlineLoop"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc.(*watchServer).Watch"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc.(*serverWatchStream).sendLoop"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter.(*chanStream).RecvMsg"),
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/v3.(*watchGRPCStream).run"),
		goleak.IgnoreTopFunction("context.(*cancelCtx).propagateCancel.func2"), // of that client's watches
	)
}

const (
	testCluster = 0xc1
	testMember  = 0xa1
)

// member is a Backend of one member that applies what is proposed at once.
type member struct {
	m   *state.Machine
	hub *watch.Hub

	mu      sync.Mutex // the apply goroutine's place
	index   uint64
	status  replica.Status
	changed chan struct{}
	// fail, when set, is what proposals and read barriers answer.
	fail     error
	barriers int
	bodies   [][]byte // of the commands applied
}

func newMember(t testing.TB, o watch.Options) *member {
	t.Helper()
	e, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(state.Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	self := state.Member{ID: testMember, Name: "one", PeerURLs: []string{"http://127.0.0.1:2380"}, ClientURLs: []string{"http://127.0.0.1:2379"}}
	if err := m.Bootstrap(testCluster, []state.Member{self}); err != nil {
		t.Fatal(err)
	}
	m.Leases().Promote(time.Now(), 0)
	return &member{
		m: m, hub: watch.NewHub(m.KV(), o), index: 1, changed: make(chan struct{}),
		status: replica.Status{ClusterID: testCluster, ID: testMember, Leader: testMember, Term: 5, Committed: 1, Applied: 1, LeaderChanges: 1},
	}
}

func (b *member) apply(e state.Entry) (state.EntryResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return state.EntryResult{}, b.fail
	}
	for _, c := range e.Commands {
		b.bodies = append(b.bodies, c.Body)
	}
	b.index++
	e.Index, e.Term = b.index, 5
	out, err := b.m.Apply([]state.Entry{e})
	if err != nil {
		return state.EntryResult{}, err
	}
	b.hub.Publish(out.Events)
	for more := true; more; {
		if more, err = b.m.Step(1000); err != nil {
			return state.EntryResult{}, err
		}
	}
	b.status.Committed, b.status.Applied = b.index, b.index
	return out.Entries[0], nil
}

func (b *member) Propose(_ context.Context, c state.Command) (state.Result, uint64, error) {
	r, err := b.apply(state.Entry{Commands: []state.Command{c}})
	if err != nil {
		return state.Result{}, 0, err
	}
	return r.Results[0], 5, nil
}

func (b *member) ReadBarrier(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.barriers++
	return b.fail
}

func (b *member) Machine() *state.Machine { return b.m }
func (b *member) Hub() *watch.Hub         { return b.hub }

func (b *member) Status() replica.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

func (b *member) LogEnd() (index, term uint64) { return 42, 7 }

func (b *member) ChangeMembers(_ context.Context, c state.MemberChange) ([]state.Member, error) {
	if err := b.m.CheckChange(c); err != nil {
		return nil, err
	}
	r, err := b.apply(state.Entry{Change: &c})
	if err != nil {
		return nil, err
	}
	return b.m.Members(), r.Change.Err
}

func (b *member) MoveLeader(_ context.Context, target uint64) error {
	if b.Status().Leader == target {
		return nil
	}
	return replica.ErrTransferTimeout
}

func (b *member) RenewLease(_ context.Context, id lease.ID) (int64, error) {
	return b.m.Leases().Renew(id, time.Now())
}

func (b *member) LeaseRemaining(_ context.Context, id lease.ID) (time.Duration, error) {
	return b.m.Leases().Remaining(id, time.Now())
}

func (b *member) LeaderChanged() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// set changes the status.
func (b *member) set(change func(*replica.Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	leader := b.status.Leader
	change(&b.status)
	if b.status.Leader != leader {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

func (b *member) setFail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// served is a member that listens, and its client.
type served struct {
	*member
	s      *Server
	client *clientv3.Client
	conn   *grpc.ClientConn
	addr   string
}

func serve(t *testing.T, o Options, wo watch.Options) *served {
	t.Helper()
	b := newMember(t, wo)
	s, err := New(b, o)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(s.ServerOptions()...)
	s.Register(g)
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(lis) })
	t.Cleanup(func() {
		b.hub.Close()
		g.Stop()
		wg.Wait()
	})
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{lis.Addr().String()}, Logger: zap.NewNop(), DialTimeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &served{member: b, s: s, client: c, conn: c.ActiveConnection(), addr: lis.Addr().String()}
}
