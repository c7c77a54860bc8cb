// Package lease owns the granted leases of one group: their rows in the engine,
// the keys attached to them, and, on the leader only, their clocks.
//
// What is granted, revoked and attached is part of the replicated state: state
// calls Grant, Revoke, Attach and Detach from apply, and they read no clock. The
// clocks are not replicated. The host of the leader promotes the registry,
// renews leases and asks for expired ones, passing the time; it then proposes
// their revocation. The package promises that a lease is never reported as
// expired earlier than its TTL after the last renewal, nor earlier than its TTL
// and the extension after a promotion. All methods may run concurrently, but
// the calls from apply come from one goroutine.
package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"metastore.io/metastore/server/engine"
)

// ID names a lease. 0 is no lease.
type ID int64

// MaxTTLSeconds is the longest TTL, as etcd has it.
const MaxTTLSeconds = 9_000_000_000

// Errors of this package; their texts are etcd's.
var (
	ErrNotFound    = errors.New("lease not found")
	ErrExists      = errors.New("lease already exists")
	ErrTTLTooLarge = errors.New("too large lease TTL")
	ErrNotPrimary  = errors.New("not a primary lessor")
)

// Lease is what was granted.
type Lease struct {
	ID         ID
	TTLSeconds int64
}

// entry is one granted lease. Invariant: at, deadline and slot have a meaning
// only while the registry is primary.
type entry struct {
	Lease
	// keys is nil until a key is attached.
	keys map[string]struct{}

	// deadline is when the lease expires.
	deadline time.Time
	// at is when the lease is due to be looked at: the deadline, or, when it was
	// reported already, the time to report it again. The heap is ordered by it.
	at time.Time
	// reported: Expired has named it since its clock started.
	reported bool
	// slot is the position in the heap, or noSlot.
	slot int
}

// ttl is exact: MaxTTLSeconds, and an extension of some years, still are a
// duration.
func (e *entry) ttl() time.Duration {
	return time.Duration(min(e.TTLSeconds, MaxTTLSeconds)) * time.Second
}

// Observer is told what happens to leases. Its methods run concurrently, under
// the registry's lock.
type Observer interface {
	Granted(ttlSeconds int64)
	Revoked()
	Renewed()
}

type unobserved struct{}

func (unobserved) Granted(int64) {}
func (unobserved) Revoked()      {}
func (unobserved) Renewed()      {}

// Registry holds the leases of one group.
type Registry struct {
	group    engine.GroupID
	observer Observer

	mu     sync.RWMutex
	leases map[ID]*entry

	// primary is true between Promote and Demote.
	primary bool
	// queue holds every lease whose clock runs.
	queue deadlines
	// fresh are the leases granted while primary whose clock has not started:
	// apply knows no time, so that the next call that brings one starts them.
	fresh map[ID]*entry
	// promoted is the time of Promote.
	promoted time.Time
}

// Row format in engine.Meta: one row a lease.
//
//	key:   group (4 bytes, BE) | "lease/" | ID (8 bytes, BE)
//	value: version (1 byte: 1) | TTL in seconds (8 bytes, BE)
const (
	rowPrefix  = "lease/"
	rowVersion = 1
	rowBytes   = 9
)

func rowKey(g engine.GroupID, id ID) []byte {
	key := append(g.Append(make([]byte, 0, 4+len(rowPrefix)+8)), rowPrefix...)
	return binary.BigEndian.AppendUint64(key, uint64(id))
}

// Open reads the granted leases. Attached keys are not stored here: the caller
// attaches what mvcc finds.
func Open(e engine.Engine, g engine.GroupID) (*Registry, error) {
	r := &Registry{group: g, observer: unobserved{}, leases: make(map[ID]*entry), fresh: make(map[ID]*entry)}
	err := Scan(e, g, func(l Lease) error {
		r.leases[l.ID] = &entry{Lease: l, slot: noSlot}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Observe has o told what happens from now on. Call it before anything else uses
// the registry.
func (r *Registry) Observe(o Observer) { r.observer = o }

// Scan calls fn for every granted lease of a view, ordered by the ID's bytes,
// until fn returns an error.
func Scan(r engine.Reader, g engine.GroupID, fn func(Lease) error) error {
	from := g.Key([]byte(rowPrefix))
	err := r.Scan(engine.Meta, from, engine.PrefixEnd(from), func(key, value []byte) (bool, error) {
		l, err := decodeRow(key[len(from):], value)
		if err == nil {
			err = fn(l)
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	return nil
}

// Stage stages the row of a granted lease.
func (l Lease) Stage(b *engine.Batch, g engine.GroupID) {
	value := make([]byte, 1, rowBytes)
	value[0] = rowVersion
	b.Put(engine.Meta, rowKey(g, l.ID), binary.BigEndian.AppendUint64(value, uint64(l.TTLSeconds)))
}

func decodeRow(id, value []byte) (Lease, error) {
	if len(id) != 8 {
		return Lease{}, fmt.Errorf("lease row with an ID of %d bytes: %w", len(id), engine.ErrCorrupt)
	}
	if len(value) != rowBytes || value[0] != rowVersion {
		return Lease{}, fmt.Errorf("lease row %x is not of format %d: %w", id, rowVersion, engine.ErrCorrupt)
	}
	return Lease{
		ID:         ID(binary.BigEndian.Uint64(id)),
		TTLSeconds: int64(binary.BigEndian.Uint64(value[1:])),
	}, nil
}

// Grant adds a lease and stages its row. A TTL below one second counts as one.
// On an error nothing is staged.
func (r *Registry) Grant(b *engine.Batch, id ID, ttlSeconds int64) error {
	if id == 0 {
		return ErrNotFound
	}
	if ttlSeconds > MaxTTLSeconds {
		return ErrTTLTooLarge
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.leases[id]; ok {
		return ErrExists
	}
	e := &entry{Lease: Lease{ID: id, TTLSeconds: max(ttlSeconds, 1)}, slot: noSlot}
	r.leases[id] = e
	if r.primary {
		r.fresh[id] = e
	}
	e.Lease.Stage(b, r.group)
	r.observer.Granted(e.TTLSeconds)
	return nil
}

// Revoke removes a lease, stages that, and returns the keys that were attached,
// sorted, for the caller to delete.
func (r *Registry) Revoke(b *engine.Batch, id ID) (keys [][]byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.leases[id]
	if !ok {
		return nil, ErrNotFound
	}
	delete(r.leases, id)
	delete(r.fresh, id)
	r.queue.remove(e)
	b.Delete(engine.Meta, rowKey(r.group, id))
	r.observer.Revoked()
	return e.sortedKeys(), nil
}

// Attach binds a key to a lease.
func (r *Registry) Attach(id ID, key []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.leases[id]
	if !ok {
		return ErrNotFound
	}
	if e.keys == nil {
		e.keys = make(map[string]struct{}, 1)
	}
	e.keys[string(key)] = struct{}{}
	return nil
}

// Detach unbinds a key; it may be unbound, and the lease gone, already.
func (r *Registry) Detach(id ID, key []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.leases[id]; ok {
		delete(e.keys, string(key))
	}
}

// Lookup finds a granted lease.
func (r *Registry) Lookup(id ID) (Lease, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.leases[id]
	if !ok {
		return Lease{}, false
	}
	return e.Lease, true
}

// Keys are the keys attached to a lease, sorted.
func (r *Registry) Keys(id ID) [][]byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.leases[id]
	if !ok {
		return nil
	}
	return e.sortedKeys()
}

// List names all leases, ascending.
func (r *Registry) List() []ID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	ids := make([]ID, 0, len(r.leases))
	for id := range r.leases {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Len is the number of leases.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.leases)
}

func (e *entry) sortedKeys() [][]byte {
	keys := make([][]byte, 0, len(e.keys))
	for k := range e.keys {
		keys = append(keys, []byte(k))
	}
	slices.SortFunc(keys, slices.Compare)
	return keys
}
