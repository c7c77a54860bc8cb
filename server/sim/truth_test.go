package sim

import (
	"fmt"
	"hash/fnv"
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
	values   map[string]bool
	rev      int64
	list     []*mvccpb.Event
	// hashes are those of the keys, by applied index.
	hashes map[uint64]uint32
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
		hashes: map[uint64]uint32{}, leaders: map[uint64]uint64{}, values: map[string]bool{}, rev: 1,
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
		w.stats.leaders++
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
	}
	t.before, t.deleted = r.machine.Load().Leases().List(), nil
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
	if _, leased := leaseOf(key); !leased && !gone && t.values[string(ev.Kv.Value)] {
		w.failf("revision %d puts %s = %q a second time", rev, key, ev.Kv.Value)
	}
	t.list = append(t.list, ev)
	t.versions[key] = append(t.versions[key], version{rev: rev, value: string(ev.Kv.Value), gone: gone})
	t.values[string(ev.Kv.Value)] = true
	if id, ok := leaseOf(key); ok && gone {
		t.deleted = append(t.deleted, id)
	}
}

// at is the value of a key at a revision; empty where there is none.
func (t *truth) at(key string, rev int64) string {
	value := ""
	for _, v := range t.versions[key] {
		if v.rev > rev {
			break
		}
		if value = v.value; v.gone {
			value = ""
		}
	}
	return value
}

// applied asserts what holds after every apply.
func (t *truth) applied(r *process, done replica.Applied) {
	m := r.machine.Load()
	if done.Index > t.index {
		t.index, t.conf = done.Index, m.ConfState()
	}
	for _, id := range t.before {
		if _, ok := m.Leases().Lookup(id); !ok {
			r.w.leaseEnded(r, id)
		}
	}
	for _, id := range t.deleted {
		if _, ok := m.Leases().Lookup(id); ok {
			r.w.failf("member %d deletes a key of lease %x, which goes on", r.m.id, id)
		}
	}
	if done.Index%4 == 0 {
		t.compareKeys(r, done.Index)
	}
}

func (t *truth) installed(r *process, index uint64) { t.compareKeys(r, index) }

// compareKeys asserts equal keys at an equal applied index.
func (t *truth) compareKeys(r *process, index uint64) {
	hash, _, _, err := r.machine.Load().KV().HashKV(0)
	if err != nil {
		r.w.failf("member %d: hash of the keys: %v", r.m.id, err)
	}
	if was, ok := t.hashes[index]; ok && was != hash {
		r.w.failf("member %d has other keys at index %d: hash %x, not %x", r.m.id, index, hash, was)
	}
	t.hashes[index] = hash
}
