package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// load is what slots do. Its methods are called for many slots at once, and for
// one slot never at once.
type load interface {
	// next prepares the slot's request; false is that nothing is left to do.
	next(s *slot) bool
	// check judges the slot's reply.
	check(s *slot) error
}

// slot is one of the requests that are under way at a time. All of it is its
// user's, between next and check as well.
type slot struct {
	ctx    context.Context
	loop   *loop
	client client
	id     int
	rng    *rand.Rand

	// What next sets.
	method         string
	request, reply proto.Message
	kind           int // an index of the recorder's kinds
	key            int
	number         int64 // of the operation, in the order of issue
	keyBytes       []byte
	endBytes       []byte
	state          any // what the load keeps of the slot

	revision int64 // the newest that a reply told
	began    time.Time
	shard    *shard
}

// loop runs slots until there is no more to do.
type loop struct {
	load load
	// do, where there is one, makes the request, which is then no single call,
	// and waits for its end.
	do       func(s *slot) error
	recorder *recorder // nil is not recording
	errors   *errorCount
	limit    int64     // operations; 0 is none
	deadline time.Time // zero is none

	issued, finished atomic.Int64
	stopped          atomic.Bool
	lost             atomic.Pointer[error] // why it cannot go on
}

// next prepares the next request.
func (s *slot) next() bool {
	l := s.loop
	if l.stopped.Load() {
		return false
	}
	if s.began.IsZero() {
		s.began = time.Now()
	}
	if !l.deadline.IsZero() && s.began.After(l.deadline) {
		return false
	}
	s.number = l.issued.Add(1) - 1
	return (l.limit == 0 || s.number < l.limit) && l.load.next(s)
}

// done takes the outcome of the request.
func (s *slot) done(err error) {
	if err == nil {
		err = s.loop.load.check(s)
	}
	now := time.Now()
	if err != nil {
		s.loop.errors.add(err)
	} else if s.shard != nil {
		s.shard.record(s.kind, now.Sub(s.began))
	}
	s.began = now
	s.loop.finished.Add(1)
}

// lost stops the loop: its connection takes no more.
func (s *slot) lost(err error) {
	s.loop.lost.CompareAndSwap(nil, &err)
	s.loop.stopped.Store(true)
}

// header checks a reply's header: a write's revision is new to the slot, and a
// read never goes back.
func (s *slot) header(h *pb.ResponseHeader, wrote bool) error {
	switch before := s.revision; {
	case h.GetRevision() <= 0:
		return wrongReply("no revision in the header")
	case wrote && h.Revision <= before:
		return wrongReply("the revision of a write did not grow")
	case h.Revision < before:
		return wrongReply("the revision went back")
	}
	s.revision = h.Revision
	return nil
}

// drive runs the loop on n slots and waits for its end.
func (r *run) drive(ctx context.Context, l *loop, n int) error {
	var slots sync.WaitGroup
	slots.Add(n)
	for i := range n {
		s := &slot{ctx: ctx, loop: l, client: r.clients[i%len(r.clients)], id: i, rng: rand.New(rand.NewPCG(r.c.Seed, uint64(i)+1))}
		if l.recorder != nil {
			s.shard = l.recorder.shard(i)
		}
		if l.do == nil {
			s.client.loop(s, slots.Done)
			continue
		}
		go func() {
			defer slots.Done()
			for s.next() {
				s.done(l.do(s))
			}
		}()
	}
	all := make(chan struct{})
	go func() { slots.Wait(); close(all) }()
	r.attend(ctx, l, all)
	<-all
	if err := l.lost.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// attend stops a loop whose context ends, and closes all connections when
// nothing comes back any more.
func (r *run) attend(ctx context.Context, l *loop, all chan struct{}) {
	stalled := time.NewTicker(r.c.Timeout)
	defer stalled.Stop()
	before, cancelled := l.finished.Load(), ctx.Done()
	for {
		select {
		case <-all:
			return
		case <-cancelled:
			l.stopped.Store(true)
			cancelled = nil
		case <-stalled.C:
			now := l.finished.Load()
			if now != before {
				before = now
				continue
			}
			err := fmt.Errorf("no reply within %v", r.c.Timeout)
			l.lost.CompareAndSwap(nil, &err)
			l.stopped.Store(true)
			r.close()
		}
	}
}

// errorCount counts errors by their text.
type errorCount struct {
	mu     sync.Mutex
	byText map[string]int64
}

// maxErrorTexts bounds the different texts that are kept.
const maxErrorTexts = 100

func (e *errorCount) add(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := err.Error()
	if e.byText == nil {
		e.byText = map[string]int64{}
	}
	if _, known := e.byText[text]; !known && len(e.byText) >= maxErrorTexts {
		text = "others"
	}
	e.byText[text]++
}

// err is nil when there was none.
func (e *errorCount) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var sum, most int64
	var text string
	for t, n := range e.byText {
		if sum += n; n > most || n == most && t < text {
			most, text = n, t
		}
	}
	if sum == 0 {
		return nil
	}
	return fmt.Errorf("%d operations failed, %d of them: %w", sum, most, errors.New(text))
}
