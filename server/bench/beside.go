package bench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// besideScenarios write alone for half of the time, and for the other half beside
// something else.
func besideScenarios() []Scenario {
	return []Scenario{
		{
			Name: "watch-lag", Short: "Write alone, then beside a watcher that begins far behind, again and again",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.lagFlags} },
			make:  func(r *run) scenario { return &lag{r: r} },
		},
		{
			Name: "snapshot", Short: "Write alone, then beside the taking of snapshots, one after the other",
			make: func(r *run) scenario { return &snapshots{r: r} },
		},
	}
}

// The kinds of writes that beside tells apart.
const (
	kindBeside = iota
	kindAlone
)

var besideKinds = []string{"put beside", "put alone"}

// beside writes alone and then beside what other does until its quit is closed.
func (r *run) beside(ctx context.Context, rec *recorder, name string, other func(quit chan struct{}) error) ([]Figure, error) {
	half := func(kind int) error {
		l := r.timed(besidePuts{puts{r}, kind}, rec)
		l.limit = (r.c.Count + 1) / 2
		l.deadline = time.Now().Add(r.c.Duration / 2)
		return r.drive(ctx, l, r.c.InFlight)
	}
	if err := half(kindAlone); err != nil {
		return nil, err
	}
	quit := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- other(quit) }()
	err := half(kindBeside)
	close(quit)
	err = errors.Join(err, <-ended)
	rec.tick()
	p99, longest := rec.at(kindBeside, 99), rec.at(kindBeside, 100)
	return []Figure{
		{"p99 beside " + name + ", to p99 alone", p99 / max(1, rec.at(kindAlone, 99)), "times"},
		{"longest put beside " + name, longest / 1000, "ms"},
		{"longest put alone", rec.at(kindAlone, 100) / 1000, "ms"},
	}, err
}

// besidePuts are puts of a kind.
type besidePuts struct {
	puts
	kind int
}

func (p besidePuts) next(s *slot) bool {
	s.kind = p.kind
	return p.puts.next(s)
}

// snapshots takes snapshots of all keys, at least one whole.
type snapshots struct {
	r     *run
	whole int
	bytes int64
}

func (n *snapshots) kinds() ([]string, int) { return besideKinds, len(besideKinds) }

func (n *snapshots) close() {}

func (n *snapshots) prepare(ctx context.Context, _ *recorder) error {
	return n.r.fill(ctx, n.r.c.KeySpace)
}

func (n *snapshots) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	var took time.Duration
	shown, err := n.r.beside(ctx, rec, "snapshots", func(quit chan struct{}) error {
		began := time.Now()
		defer func() { took = time.Since(began) }()
		for {
			if err := n.take(ctx); err != nil {
				return err
			}
			select {
			case <-quit:
				return nil
			default:
			}
		}
	})
	return append(shown,
		Figure{"snapshots", float64(n.whole), ""},
		Figure{"of them", float64(n.bytes) / 1e6 / max(took.Seconds(), 1e-6), "MB a second"}), err
}

// take reads one snapshot to its end, of which the last bytes are the sum of all
// before them.
func (n *snapshots) take(ctx context.Context) error {
	st, err := n.r.clients[0].open(ctx, pb.Maintenance_Snapshot_FullMethodName)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := errors.Join(st.Send(&pb.SnapshotRequest{}), st.CloseSend()); err != nil {
		return err
	}
	sum := sha256.New()
	var last []byte // as many bytes as a sum has, which are not in sum yet
	for {
		var part pb.SnapshotResponse
		if err := st.Receive(&part); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		n.bytes += int64(len(part.Blob))
		last = append(last, part.Blob...)
		whole := max(0, len(last)-sha256.Size)
		sum.Write(last[:whole])
		last = append(last[:0], last[whole:]...)
	}
	n.whole++
	return sameBytes("the sum of a snapshot", last, sum.Sum(nil))
}

// lag compares writes beside a watcher that is far behind with those before.
type lag struct {
	r *run
	// from is the first revision of the watcher, to the last that was written
	// before measuring.
	from, to int64
	rounds   int
	events   int64
}

func (g *lag) kinds() ([]string, int) { return besideKinds, len(besideKinds) }

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

func (g *lag) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	var took time.Duration
	shown, err := g.r.beside(ctx, rec, "a watcher behind", func(quit chan struct{}) error {
		began := time.Now()
		defer func() { took = time.Since(began) }()
		return g.replay(ctx, quit)
	})
	return append(shown,
		Figure{"events replayed", float64(g.events) / max(took.Seconds(), 1e-6), "a second"},
		Figure{"whole replays", float64(g.rounds), ""}), err
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
