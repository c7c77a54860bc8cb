package sim

import (
	"bytes"
	"encoding/binary"

	"metastore.io/metastore/server/engine"
)

// checkedEngine is the engine in use. It asserts invariant 1 where it can be
// broken: the applied index is in the batch of its effects.
type checkedEngine struct {
	engine.Engine
	r *process
	// applied is the index of the newest batch, rev the newest revision's row.
	applied uint64
	rev     []byte
	// held is planted: the applied index of a batch that waits for the next one.
	held []engine.Op
}

// appliedKey is the row of the applied index, as state documents it.
func appliedKey() []byte { return engine.GroupID(group).Key([]byte("state/applied")) }

func (e *checkedEngine) Apply(b *engine.Batch) error {
	var index uint64
	var rev []byte
	if err := b.Each(func(op engine.Op) error {
		switch {
		case op.Space == engine.Meta && bytes.Equal(op.Key, appliedKey()):
			index = binary.BigEndian.Uint64(op.Value[1:]) // behind the version
		case op.Space == engine.Revisions && op.Kind == engine.OpPut && bytes.Compare(op.Key, rev) > 0:
			rev = bytes.Clone(op.Key)
		}
		return nil
	}); err != nil {
		return err
	}
	if e.r.w.planted == plantSplitBatch {
		return e.Engine.Apply(e.split(b))
	}
	switch {
	case rev != nil && index == 0:
		e.r.w.failf("member %d: a batch writes revision %x without the applied index", e.r.m.id, rev)
	case index != 0 && index <= e.applied:
		e.r.w.failf("member %d: a batch writes the applied index %d after %d", e.r.m.id, index, e.applied)
	case rev != nil && bytes.Compare(rev, e.rev) <= 0:
		e.r.w.failf("member %d: a batch writes revision %x after %x", e.r.m.id, rev, e.rev)
	}
	if index != 0 {
		e.applied = index
	}
	if rev != nil {
		e.rev = rev
	}
	return e.Engine.Apply(b)
}

// split is the planted defect: the applied index comes one batch late.
func (e *checkedEngine) split(b *engine.Batch) *engine.Batch {
	out := engine.NewBatch()
	for _, op := range e.held {
		out.Put(op.Space, op.Key, op.Value)
	}
	e.held = nil
	_ = b.Each(func(op engine.Op) error { // returns only what the function does
		switch {
		case op.Kind == engine.OpDelete:
			out.Delete(op.Space, op.Key)
		case op.Kind == engine.OpDeleteRange:
			out.DeleteRange(op.Space, op.Key, op.To)
		case op.Space == engine.Meta && bytes.Equal(op.Key, appliedKey()):
			op.Key, op.Value = bytes.Clone(op.Key), bytes.Clone(op.Value)
			e.held = append(e.held, op)
		default:
			out.Put(op.Space, op.Key, op.Value)
		}
		return nil
	})
	return out
}
