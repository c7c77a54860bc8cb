package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

// Scenario is a load by its name.
type Scenario struct {
	Name, Short string
	flags       func(*Config) []func(*pflag.FlagSet)
	make        func(*run) scenario
}

// Flags adds the flags of the scenario, and those of all, to fs.
func (s *Scenario) Flags(c *Config, fs *pflag.FlagSet) {
	c.Flags(fs)
	if s.flags != nil {
		for _, add := range s.flags(c) {
			add(fs)
		}
	}
}

// scenario is one run's load.
type scenario interface {
	// kinds are the operations that are told apart; the first sums of them are
	// what the run is about, and add up.
	kinds() (names []string, sums int)
	prepare(ctx context.Context, rec *recorder) error
	// close ends what prepare and measure left running.
	close()
	// measure returns what there is to tell beside latencies. The end of ctx
	// ends it early with an error.
	measure(ctx context.Context, rec *recorder) ([]Figure, error)
}

// Scenarios are all that there are.
func Scenarios() []Scenario {
	return slices.Concat(kvScenarios(), rangeScenarios(), txnScenarios(), watchScenarios(), besideScenarios(), leaseScenarios(), kubernetesScenarios())
}

// run is one run under way.
type run struct {
	c       *Config
	data    *data
	errors  errorCount
	clients []client // that slots use
	// revisions are those at which fill wrote the keys; a key has one user.
	revisions []int64

	mu     sync.Mutex
	opened []client // all
}

// Run runs a scenario. A report comes with an error, too, once measuring began.
func Run(ctx context.Context, s Scenario, c Config) (report *Report, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &run{c: &c, data: newData(&c)}
	defer r.close()
	if r.clients, err = r.connect(ctx, c.Connections); err != nil {
		return nil, err
	}
	load := s.make(r)
	defer load.close()
	names, sums := load.kinds()
	rec := newRecorder(names)
	if err := load.prepare(ctx, rec); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	if err := r.errors.err(); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	before, err := readUsage(c.ServerPIDs)
	if err != nil {
		return nil, err
	}
	rec.start()
	stop := r.watchProgress(rec)
	extra, err := load.measure(ctx, rec)
	stop()
	after, usageErr := readUsage(c.ServerPIDs)
	err = errors.Join(err, usageErr)
	report = r.report(s.Name, rec, sums, before, after)
	report.Figures = append(report.Figures, extra...)
	if !c.AllowErrors {
		err = errors.Join(err, r.errors.err())
	}
	return report, err
}

// connect opens n connections, to the endpoints in turn.
func (r *run) connect(ctx context.Context, n int) ([]client, error) {
	tls, err := r.c.tlsConfig()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
	defer cancel()
	var list []client
	for i := range n {
		c, err := dial(ctx, r.c.Client, r.c.Endpoints[i%len(r.c.Endpoints)], tls)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
		r.mu.Lock()
		r.opened = append(r.opened, c)
		r.mu.Unlock()
	}
	return list, nil
}

// close closes all connections, once.
func (r *run) close() {
	r.mu.Lock()
	list := r.opened
	r.opened = nil
	r.mu.Unlock()
	for _, c := range list {
		_ = c.Close() // what it had to say, its calls said
	}
}

// watchProgress ticks once a second until the returned func is called, which
// ends the last interval.
func (r *run) watchProgress(rec *recorder) (stop func()) {
	quit := make(chan struct{})
	var end sync.WaitGroup
	end.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				r.say(rec.tick())
			case <-quit:
				rec.tick()
				return
			}
		}
	})
	return func() { close(quit); end.Wait() }
}

func (r *run) say(s Second) {
	if r.c.Progress != nil {
		fmt.Fprintf(r.c.Progress, "%5.0f s %10.0f/s   p50 %s   p99 %s\n", s.At, s.Throughput, duration(s.P50), duration(s.P99))
	}
}

// closed is a scenario of single requests in a closed loop.
type closed struct {
	r     *run
	load  load
	names []string
	fill  int // so many keys are to be there
	limit int64
	own   bool // each slot has keys that only it writes
	do    func(*slot) error
}

func (s *closed) kinds() ([]string, int) { return s.names, len(s.names) }

func (s *closed) prepare(ctx context.Context, _ *recorder) error {
	if s.own && s.r.c.KeySpace < s.r.c.InFlight {
		return refused("key-space", s.r.c.KeySpace, "as much as --in-flight or more")
	}
	return s.r.fill(ctx, s.fill)
}

func (s *closed) close() {}

func (s *closed) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	l := s.r.timed(s.load, rec)
	l.do = s.do
	if s.limit > 0 && (l.limit == 0 || l.limit > s.limit) {
		l.limit = s.limit
	}
	return nil, s.r.drive(ctx, l, s.r.c.InFlight)
}

// timed is a loop that ends as the flags say.
func (r *run) timed(load load, rec *recorder) *loop {
	return &loop{load: load, recorder: rec, errors: &r.errors, limit: r.c.Count, deadline: time.Now().Add(r.c.Duration)}
}
