package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func watchScenarios() []Scenario {
	return []Scenario{
		{
			Name: "watch", Short: "Write keys that many watch; an event's latency is from before the write to its arrival",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.watchFlags} },
			make:  func(r *run) scenario { return &fanOut{r: r, watches: newWatches(r)} },
		},
		{
			Name: "watch-lag", Short: "Write alone, then beside a watcher that begins far behind, again and again",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.lagFlags} },
			make:  func(r *run) scenario { return &lag{r: r} },
		},
	}
}

const (
	kindEvent = iota
	kindPut
)

// fanOut writes keys in turn, each of which some watchers watch.
type fanOut struct {
	r       *run
	watches *watches
	began   time.Time
}

func (f *fanOut) kinds() ([]string, int) { return []string{"event", "put"}, 1 }

func (f *fanOut) close() { f.watches.close() }

// watchersOf is how many watchers a key has.
func (f *fanOut) watchersOf(key int) int {
	c := f.r.c
	return (c.Watchers - key + c.WatchedKeys - 1) / c.WatchedKeys
}

func (f *fanOut) prepare(ctx context.Context, rec *recorder) error {
	c := f.r.c
	if c.Streams < 1 || c.Streams > max(1, c.Watchers) {
		return refused("streams", c.Streams, "1 to --watchers")
	}
	if c.WatchedKeys < 1 || c.WatchedKeys > max(1, c.Watchers) {
		return refused("watched-keys", c.WatchedKeys, "1 to --watchers")
	}
	f.began = time.Now()
	lists := make([][]*watcher, c.Streams)
	for i := range c.Watchers {
		key := i % c.WatchedKeys
		one := &watcher{key: key, shard: rec.shard(i % c.Streams), request: &pb.WatchCreateRequest{Key: f.r.data.key(nil, key)}}
		lists[i%c.Streams] = append(lists[i%c.Streams], one)
	}
	f.watches.seen = f.seen
	for _, list := range lists {
		if err := f.watches.stream(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

func (f *fanOut) seen(w *watcher, e *mvccpb.Event) error {
	sent, err := f.r.data.stamped(e.Kv.Value, w.key)
	if err == nil {
		w.shard.record(kindEvent, time.Since(f.began)-sent)
	}
	return err
}

func (f *fanOut) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	err := f.r.drive(ctx, f.r.timed(f, rec), f.r.c.InFlight)
	if f.r.errors.err() != nil { // how many events there should be is not known
		return nil, err
	}
	return nil, errors.Join(err, f.watches.wait(ctx, 0))
}

func (f *fanOut) next(s *slot) bool {
	c := callOf[pb.PutRequest, pb.PutResponse](s)
	s.key, s.kind = int(s.number%int64(f.r.c.WatchedKeys)), kindPut
	s.keyBytes = f.r.data.key(s.keyBytes[:0], s.key)
	c.request.Key, c.request.Value = s.keyBytes, f.r.data.stamp(c.request.Value, s.key, time.Since(f.began))
	s.method, s.request, s.reply = pb.KV_Put_FullMethodName, &c.request, &c.reply
	return true
}

func (f *fanOut) check(s *slot) error {
	f.watches.expect(f.watchersOf(s.key))
	return puts{f.r}.check(s)
}

// The kinds of writes that lag tells apart.
const (
	kindBeside = iota
	kindAlone
)

// lag compares writes beside a watcher that is far behind with those before.
type lag struct {
	r *run
	// from is the first revision of the watcher, to the last that was written
	// before measuring.
	from, to int64
	rounds   int
	events   int64
}

func (g *lag) kinds() ([]string, int) { return []string{"put beside", "put alone"}, 2 }

func (g *lag) close() {}

func (g *lag) prepare(ctx context.Context, _ *recorder) error {
	c := g.r.c
	if c.Behind < 1 {
		return refused("behind", c.Behind, "1 or more")
	}
	var before, after pb.RangeResponse
	one := &pb.RangeRequest{Key: g.r.data.prefix}
	l := &loop{load: puts{g.r}, errors: &g.r.errors, limit: int64(c.Behind)}
	err := errors.Join(g.r.clients[0].Invoke(ctx, pb.KV_Range_FullMethodName, one, &before),
		g.r.drive(ctx, l, max(fillSlots, c.InFlight)),
		g.r.clients[0].Invoke(ctx, pb.KV_Range_FullMethodName, one, &after))
	g.from, g.to = before.Header.GetRevision()+1, after.Header.GetRevision()
	if err == nil && g.to-g.from+1 != int64(c.Behind) {
		return wrongReply("%d writes made %d revisions; is someone else writing?", c.Behind, g.to-g.from+1)
	}
	return err
}

// half is the loop of one of the two parts.
func (g *lag) half(kind int, rec *recorder) *loop {
	l := g.r.timed(lagPuts{puts{g.r}, kind}, rec)
	l.limit = (g.r.c.Count + 1) / 2
	l.deadline = time.Now().Add(g.r.c.Duration / 2)
	return l
}

func (g *lag) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	if err := g.r.drive(ctx, g.half(kindAlone, rec), g.r.c.InFlight); err != nil {
		return nil, err
	}
	quit := make(chan struct{})
	replayed := make(chan error, 1)
	began := time.Now()
	go func() { replayed <- g.replay(ctx, quit) }()
	err := g.r.drive(ctx, g.half(kindBeside, rec), g.r.c.InFlight)
	close(quit)
	err = errors.Join(err, <-replayed)
	beside, alone := rec.p99(kindBeside), rec.p99(kindAlone)
	return []Figure{
		{"p99 beside a watcher behind, to p99 alone", float64(beside) / float64(max(1, alone)), "times"},
		{"events replayed", float64(g.events) / time.Since(began).Seconds(), "a second"},
		{"whole replays", float64(g.rounds), ""},
	}, err
}

// replay watches from the first revision until it has caught up with where
// measuring began, and then again, until quit.
func (g *lag) replay(ctx context.Context, quit chan struct{}) error {
	for {
		w := newWatches(g.r)
		caughtUp := make(chan struct{})
		w.seen = func(_ *watcher, e *mvccpb.Event) error {
			if e.Kv.ModRevision == g.to {
				close(caughtUp)
			}
			return nil
		}
		one := &watcher{consecutive: true, last: g.from - 1, request: &pb.WatchCreateRequest{
			Key: g.r.data.prefix, RangeEnd: g.r.data.end(), StartRevision: g.from,
		}}
		if err := w.stream(ctx, []*watcher{one}); err != nil {
			w.close()
			return err
		}
		again := g.follow(w, caughtUp, quit)
		w.close()
		g.events += w.count()
		if !again {
			return nil
		}
	}
}

// follow waits for the watcher to catch up, or for quit; once at least it has to
// catch up. It reports whether to begin again.
func (g *lag) follow(w *watches, caughtUp, quit chan struct{}) bool {
	if g.rounds == 0 {
		quit = nil
	}
	timeout := time.NewTimer(g.r.c.Timeout)
	defer timeout.Stop()
	for before := int64(0); ; {
		select {
		case <-caughtUp:
			g.rounds++
			return true
		case <-quit:
			return false
		case <-w.failed:
			return false
		case <-timeout.C:
			if w.count() == before {
				w.fail(fmt.Errorf("a watcher that is behind got no event within %v", g.r.c.Timeout))
				return false
			}
			before = w.count()
			timeout.Reset(g.r.c.Timeout)
		}
	}
}

// lagPuts are puts of a kind.
type lagPuts struct {
	puts
	kind int
}

func (p lagPuts) next(s *slot) bool {
	s.kind = p.kind
	return p.puts.next(s)
}
