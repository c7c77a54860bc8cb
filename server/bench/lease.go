package bench

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func leaseScenarios() []Scenario {
	return []Scenario{
		{
			Name: "lease-grant", Short: "Grant leases",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.ttlFlags(60)} },
			make: func(r *run) scenario {
				return &closed{r: r, load: grants{r: r, ttl: func() int64 { return r.c.TTLSeconds }}, names: []string{"grant"}}
			},
		},
		{
			Name: "lease-keepalive", Short: "Renew leases, each slot over a stream of its own",
			flags: func(c *Config) []func(*pflag.FlagSet) {
				return []func(*pflag.FlagSet){c.leaseFlags, c.ttlFlags(3600)}
			},
			make: func(r *run) scenario { return newRenewals(r) },
		},
		{
			Name: "lease-expiry", Short: "Let leases with a key each expire within one second, beside writes of the keys without; latency is from when they may",
			flags: func(c *Config) []func(*pflag.FlagSet) {
				return []func(*pflag.FlagSet){c.leaseFlags, c.ttlFlags(10)}
			},
			make: func(r *run) scenario { return &expiry{r: r, watches: newWatches(r)} },
		},
	}
}

// grants grants leases; granted, where there is one, is told of each.
type grants struct {
	r       *run
	ttl     func() int64
	granted func(s *slot, id, ttl int64)
}

func (g grants) next(s *slot) bool {
	c := callOf[pb.LeaseGrantRequest, pb.LeaseGrantResponse](s)
	c.request.TTL = g.ttl()
	s.method, s.request, s.reply = pb.Lease_LeaseGrant_FullMethodName, &c.request, &c.reply
	return true
}

func (g grants) check(s *slot) error {
	reply, asked := s.reply.(*pb.LeaseGrantResponse), s.request.(*pb.LeaseGrantRequest).TTL
	switch {
	case reply.ID == 0 || reply.Error != "":
		return wrongReply("a lease was not granted")
	case reply.TTL < asked:
		return wrongReply("a lease lives shorter than asked")
	}
	if g.granted != nil {
		g.granted(s, reply.ID, reply.TTL)
	}
	return s.header(reply.Header, false)
}

// grantAll grants as many leases as there should be.
func (r *run) grantAll(ctx context.Context, g grants) error {
	l := &loop{load: g, errors: &r.errors, limit: int64(r.c.Leases)}
	return errors.Join(r.drive(ctx, l, fillSlots), r.errors.err())
}

// renewals renews leases in turn.
type renewals struct {
	closed
	ids     []int64
	streams []stream // a slot's, once it has one
}

func newRenewals(r *run) *renewals {
	n := &renewals{closed: closed{r: r, names: []string{"renewal"}}}
	n.load, n.do = n, n.renew
	n.streams = make([]stream, r.c.InFlight)
	n.ids = make([]int64, r.c.Leases)
	return n
}

func (n *renewals) prepare(ctx context.Context, _ *recorder) error {
	if n.r.c.Leases < 1 {
		return refused("leases", n.r.c.Leases, "1 or more")
	}
	ttl := func() int64 { return n.r.c.TTLSeconds }
	return n.r.grantAll(ctx, grants{r: n.r, ttl: ttl, granted: func(s *slot, id, _ int64) { n.ids[s.number] = id }})
}

func (n *renewals) close() {
	for _, s := range n.streams {
		if s != nil {
			s.Close()
		}
	}
}

func (n *renewals) next(s *slot) bool {
	c := callOf[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse](s)
	c.request.ID = n.ids[s.number%int64(len(n.ids))]
	s.request, s.reply = &c.request, &c.reply
	return true
}

func (n *renewals) renew(s *slot) error {
	st := n.streams[s.id]
	if st == nil {
		var err error
		if st, err = s.client.open(s.ctx, pb.Lease_LeaseKeepAlive_FullMethodName); err != nil {
			return err
		}
		n.streams[s.id] = st
	}
	err := errors.Join(st.Send(s.request), st.Receive(s.reply))
	if err != nil {
		st.Close()
		n.streams[s.id] = nil
	}
	return err
}

func (n *renewals) check(s *slot) error {
	reply := s.reply.(*pb.LeaseKeepAliveResponse)
	switch {
	case reply.ID != s.request.(*pb.LeaseKeepAliveRequest).ID:
		return wrongReply("another lease was renewed")
	case reply.TTL <= 0:
		return wrongReply("a lease that lives was not renewed")
	}
	return s.header(reply.Header, false)
}

// expiry grants leases with times to live such that all may end within one
// second, gives each a key, and watches the keys go.
type expiry struct {
	r       *run
	watches *watches
	target  time.Time // the beginning of that second
	ids     []int64
	// early and due are when a lease may have ended and when it should have:
	// its time to live after the grant was sent, and after it was answered.
	early, due  []time.Time
	gone        []bool
	first, last time.Time
	shard       *shard
}

func (x *expiry) kinds() ([]string, int) { return []string{"expiry", "put beside"}, 1 }

func (x *expiry) close() { x.watches.close() }

func (x *expiry) prepare(ctx context.Context, rec *recorder) error {
	c := x.r.c
	if c.Leases < 1 || c.Leases > c.KeySpace {
		return refused("leases", c.Leases, "1 to --key-space")
	}
	x.ids, x.gone = make([]int64, c.Leases), make([]bool, c.Leases)
	x.early, x.due = make([]time.Time, c.Leases), make([]time.Time, c.Leases)
	x.shard = rec.shard(0)
	ttl := time.Duration(c.TTLSeconds) * time.Second
	x.target = time.Now().Add(ttl)
	left := func() int64 { return max(1, int64((time.Until(x.target)+time.Second-1)/time.Second)) }
	granted := func(s *slot, id, ttl int64) {
		lives := time.Duration(ttl) * time.Second
		x.ids[s.number], x.early[s.number], x.due[s.number] = id, s.began.Add(lives), time.Now().Add(lives)
	}
	attach := &loop{load: attached{puts{x.r}, x.ids}, errors: &x.r.errors, limit: int64(c.Leases)}
	x.watches.seen = x.seen
	everything := &pb.WatchCreateRequest{
		Key: x.r.data.prefix, RangeEnd: x.r.data.end(), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT},
	}
	x.watches.expect(c.Leases)
	err := errors.Join(x.r.grantAll(ctx, grants{r: x.r, ttl: left, granted: granted}),
		x.r.drive(ctx, attach, fillSlots), x.watches.stream(ctx, []*watcher{{request: everything}}))
	if err == nil && time.Now().After(x.target) {
		return refused("ttl", c.TTLSeconds, "what it takes to grant the leases, or more,")
	}
	return err
}

func (x *expiry) seen(_ *watcher, e *mvccpb.Event) error {
	now := time.Now()
	i, ok := x.r.data.number(e.Kv.Key)
	switch {
	case !ok || i >= len(x.ids) || e.Type != mvccpb.Event_DELETE:
		return wrongReply("an event of a key without a lease")
	case x.gone[i]:
		return wrongReply("a key went twice")
	case now.Before(x.early[i]):
		return wrongReply("a lease ended before its time")
	}
	x.gone[i] = true
	x.shard.record(0, now.Sub(x.due[i]))
	if x.first.IsZero() {
		x.first = now
	}
	x.last = now
	return nil
}

func (x *expiry) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	writes, written := x.r.timed(besides{puts{x.r}}, rec), make(chan error, 1)
	writes.limit, writes.deadline = 0, time.Time{}
	go func() { written <- x.beside(ctx, writes) }()
	err := x.watches.wait(ctx, time.Until(x.target)+time.Second)
	writes.stopped.Store(true)
	err = errors.Join(err, <-written)
	x.watches.close() // first and last are the reader's
	took := x.last.Sub(x.first)
	rec.tick()
	return []Figure{
		{"first to last key", took.Seconds(), "s"},
		{"keys gone", float64(len(x.ids)) / max(took.Seconds(), 1e-6), "a second"},
		{"longest put beside", rec.at(1, 100) / 1000, "ms"},
	}, err
}

// beside writes from when the first lease may expire until the loop is stopped,
// where there are keys without a lease.
func (x *expiry) beside(ctx context.Context, writes *loop) error {
	if x.r.c.KeySpace == x.r.c.Leases {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(x.target)):
		return x.r.drive(ctx, writes, x.r.c.InFlight)
	}
}

// besides are puts of the keys without a lease.
type besides struct{ puts }

func (b besides) next(s *slot) bool {
	c := callOf[pb.PutRequest, pb.PutResponse](s)
	first := b.r.c.Leases
	s.kind, s.key = 1, first+int(s.number)%(b.r.c.KeySpace-first)
	s.keyBytes = b.r.data.key(s.keyBytes[:0], s.key)
	c.request.Key, c.request.Value = s.keyBytes, b.r.data.value(s.key, 0)
	s.method, s.request, s.reply = pb.KV_Put_FullMethodName, &c.request, &c.reply
	return true
}

// attached are puts of one key a lease.
type attached struct {
	puts
	ids []int64
}

func (a attached) next(s *slot) bool {
	c := callOf[pb.PutRequest, pb.PutResponse](s)
	s.key = int(s.number)
	s.keyBytes = a.r.data.key(s.keyBytes[:0], s.key)
	c.request.Key, c.request.Value, c.request.Lease = s.keyBytes, a.r.data.value(s.key, 0), a.ids[s.number]
	s.method, s.request, s.reply = pb.KV_Put_FullMethodName, &c.request, &c.reply
	return true
}
