package sim

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// truth is what the first member that got there saw; every other one has to see
// the same.
type truth struct {
	// entries are the applied entries by index.
	entries map[uint64]entryID
	// events are the events of each revision, versions each key's history.
	events   map[int64]string
	versions map[string][]version
	// values are those ever put, with the moment when they were first applied.
	values map[string]int64
	rev    int64
	list   []*mvccpb.Event
	// digests are those of the state, by applied index.
	digests map[uint64]uint64
	// proposals are where each proposal was applied.
	proposals map[proposal]uint64
	// leaders by term.
	leaders map[uint64]uint64
	// index is the highest applied one, conf the membership after it.
	index uint64
	conf  state.ConfState

	// before are the leases before the entries being applied, deleted the
	// leased keys that they delete.
	before  []lease.ID
	deleted []lease.ID
}

// proposal identifies what a member proposed (invariant 6).
type proposal struct {
	origin state.Origin
	seq    uint64
}

// entryID identifies an entry's content.
type entryID struct {
	term   uint64
	kind   raftpb.EntryType
	digest uint64
}

// version is a key from a revision on; gone when it was deleted there.
type version struct {
	rev   int64
	value string
	gone  bool
}

func (t *truth) init() {
	*t = truth{
		entries: map[uint64]entryID{}, events: map[int64]string{}, versions: map[string][]version{},
		digests: map[uint64]uint64{}, leaders: map[uint64]uint64{}, values: map[string]int64{}, rev: 1,
		proposals: map[proposal]uint64{},
	}
}

// leads asserts one leader a term.
func (t *truth) leads(w *world, term, id uint64) {
	was, ok := t.leaders[term]
	if ok && was != id {
		w.failf("members %d and %d both lead in term %d", was, id, term)
	}
	if !ok {
		t.leaders[term] = id
		w.stats[leadersCount]++
		w.tracef("%d leads in term %d", id, term)
	}
}

// applying asserts that all members apply the same entries.
func (t *truth) applying(r *process, a *replica.Apply) {
	for _, e := range a.Entries {
		h := fnv.New64a()
		_, _ = h.Write(e.GetData()) // a hash does not fail
		id := entryID{e.GetTerm(), e.GetType(), h.Sum64()}
		if was, ok := t.entries[e.GetIndex()]; ok && was != id {
			r.w.failf("member %d applies another entry at index %d: %+v, not %+v", r.m.id, e.GetIndex(), id, was)
		}
		t.entries[e.GetIndex()] = id
		t.once(r, e)
	}
	t.before, t.deleted = r.machine.Load().Leases().List(), nil
}

// once asserts that no identity of a proposal is used twice.
func (t *truth) once(r *process, e *raftpb.Entry) {
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
		return
	}
	origin, seq, ok := state.PeekOrigin(e.GetData())
	if !ok {
		r.w.failf("member %d applies index %d, which nobody proposed", r.m.id, e.GetIndex())
	}
	p := proposal{origin, seq}
	if at, ok := t.proposals[p]; ok && at != e.GetIndex() {
		r.w.failf("the proposal %+v is in the log at index %d and at %d", p, at, e.GetIndex())
	}
	t.proposals[p] = e.GetIndex()
}

// publishing asserts that all members publish the same events, and keeps them.
func (t *truth) publishing(r *process, revisions []state.RevisionEvents) {
	for _, rev := range revisions {
		var text strings.Builder
		for _, ev := range rev.Events {
			text.WriteString(describe(ev))
		}
		was, ok := t.events[rev.Rev]
		switch {
		case ok && was != text.String():
			r.w.failf("member %d publishes other events at revision %d:\n%s\nnot\n%s", r.m.id, rev.Rev, &text, was)
		case ok:
			continue
		case rev.Rev != t.rev+1:
			r.w.failf("member %d publishes revision %d after %d", r.m.id, rev.Rev, t.rev)
		}
		t.rev, t.events[rev.Rev] = rev.Rev, text.String()
		for _, ev := range rev.Events {
			t.note(r.w, rev.Rev, ev)
		}
	}
}

func describe(ev *mvccpb.Event) string {
	kv := ev.Kv
	return fmt.Sprintf("%s %s=%q create %d mod %d version %d lease %x\n", ev.Type, kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

// note keeps an event. Clients never put a value twice, so neither does the
// cluster.
func (t *truth) note(w *world, rev int64, ev *mvccpb.Event) {
	key := string(ev.Kv.Key)
	gone := ev.Type == mvccpb.Event_DELETE
	if _, leased := leaseOf(key); !leased && !gone && t.values[string(ev.Kv.Value)] != 0 {
		w.failf("revision %d puts %s = %q a second time", rev, key, ev.Kv.Value)
	}
	t.list = append(t.list, ev)
	t.versions[key] = append(t.versions[key], version{rev: rev, value: string(ev.Kv.Value), gone: gone})
	if !gone {
		t.values[string(ev.Kv.Value)] = w.stamp()
	}
	if id, ok := leaseOf(key); ok && gone {
		t.deleted = append(t.deleted, id)
	}
}

// at is the value of a key at a revision; empty where there is none.
func (t *truth) at(key string, rev int64) string {
	for _, v := range slices.Backward(t.versions[key]) {
		switch {
		case v.rev > rev:
		case v.gone:
			return ""
		default:
			return v.value
		}
	}
	return ""
}

// applied asserts what holds after every apply.
func (t *truth) applied(r *process, terms []uint64, done replica.Applied) {
	m := r.machine.Load()
	if done.Index > t.index {
		t.index, t.conf = done.Index, m.ConfState()
	}
	for _, id := range t.before {
		if _, ok := m.Leases().Lookup(id); !ok {
			r.w.leaseEnded(r, id, terms)
		}
	}
	for _, id := range t.deleted {
		if _, ok := m.Leases().Lookup(id); ok {
			r.w.failf("member %d deletes a key of lease %x, which goes on", r.m.id, id)
		}
	}
	if done.Index%4 == 0 {
		t.compare(r, done.Index)
		r.w.checkAttached(r)
	}
}

func (t *truth) installed(r *process, index uint64) {
	t.compare(r, index)
	r.w.checkAttached(r)
}

// compare asserts an equal state at an equal applied index: keys with their
// history, leases, members and alarms.
func (t *truth) compare(r *process, index uint64) {
	m := r.machine.Load()
	hash, _, _, err := m.KV().HashKV(0)
	if err != nil {
		r.w.failf("member %d: hash of the keys: %v", r.m.id, err)
	}
	h := fnv.New64a()
	fmt.Fprint(h, hash, m.KV().Rev(), m.KV().CompactRev(), m.Leases().List(), m.Members(), m.Alarms(), m.ClusterID())
	digest := h.Sum64()
	if was, ok := t.digests[index]; ok && was != digest {
		r.w.failf("member %d has another state at index %d: digest %x, not %x", r.m.id, index, digest, was)
	}
	t.digests[index] = digest
}
