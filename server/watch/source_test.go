package watch

import (
	"sync"
	"testing"

	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/state"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a Source that keeps all revisions in memory. Its first revision is 2.
type store struct {
	mu      sync.Mutex
	revs    []state.RevisionEvents
	compact int64
	latest  map[string]*mvccpb.KeyValue
	// reads, when set, gets a token for every call of History, which then waits
	// for gate to be closed, when that is set.
	reads, gate chan struct{}
	fail        error
}

func newStore() *store { return &store{latest: make(map[string]*mvccpb.KeyValue)} }

type op struct {
	del        bool
	key, value string
}

func put(key, value string) op { return op{key: key, value: value} }
func del(key string) op        { return op{del: true, key: key} }

// write makes one revision, readable at once; the caller publishes it.
func (s *store) write(ops ...op) state.RevisionEvents {
	s.mu.Lock()
	defer s.mu.Unlock()
	rev := s.rev() + 1
	r := state.RevisionEvents{Rev: rev}
	for _, o := range ops {
		prev := s.latest[o.key]
		kv := &mvccpb.KeyValue{Key: []byte(o.key), ModRevision: rev}
		ev := &mvccpb.Event{Kv: kv, PrevKv: prev}
		if o.del {
			ev.Type = mvccpb.Event_DELETE
			delete(s.latest, o.key)
		} else {
			kv.Value = []byte(o.value)
			kv.CreateRevision = rev
			if prev != nil {
				kv.CreateRevision = prev.CreateRevision
			}
			s.latest[o.key] = kv
		}
		r.Events = append(r.Events, ev)
	}
	s.revs = append(s.revs, r)
	return r
}

func (s *store) rev() int64 { return int64(len(s.revs)) + 1 }

func (s *store) Rev() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev()
}

func (s *store) CompactRev() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compact
}

func (s *store) setCompact(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compact = rev
}

func (s *store) History(from, to int64, maxBytes int, prevs bool, fn func(int64, []*mvccpb.Event) error) (int64, error) {
	if s.reads != nil {
		s.reads <- struct{}{}
	}
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	revs, compact, fail := s.revs, s.compact, s.fail
	s.mu.Unlock()
	if fail != nil {
		return 0, fail
	}
	if from < compact {
		return 0, mvcc.ErrCompacted
	}
	size := 0
	from = max(from, 2)
	for ; from <= to && size < maxBytes; from++ {
		evs := revs[from-2].Events
		size += sizeBytes(evs)
		if !prevs {
			evs = (&run{full: evs}).seenBy(&watcher{})
		}
		if err := fn(from, evs); err != nil {
			return from, err
		}
	}
	return from, nil
}

// clone is what a snapshot of the store restores to.
func (s *store) clone() *store {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newStore()
	c.revs = append(c.revs, s.revs...)
	c.compact = s.compact
	for k, v := range s.latest {
		c.latest[k] = v
	}
	return c
}
