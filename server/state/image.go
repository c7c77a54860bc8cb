package state

import (
	"fmt"
	"io"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/mvcc"
)

// WriteImage writes what Open can use instead of reading all rows, as long as the
// engine holds the state of the moment. It runs on Apply's goroutine; the state
// is to be settled, and durable before.
func (m *Machine) WriteImage(w io.Writer) error {
	index, term := m.Applied()
	if err := m.kv.WriteImage(w, mvcc.Applied{Index: index, Term: term}); err != nil {
		return err
	}
	m.imaged = index
	return nil
}

// Settled tells whether no compaction has removed some of its rows and not all.
// It runs on Apply's goroutine.
func (m *Machine) Settled() bool { return m.kv.Settled() }

// Imaged is the applied index that the newest image is of: the one that Open
// used, or WriteImage wrote; 0 when neither did.
func (m *Machine) Imaged() uint64 { return m.imaged }

// CheckImage compares an image with the state, whose index was built from rows.
// Errors wrap engine.ErrCorrupt where it would be used and is wrong.
func (m *Machine) CheckImage(r io.Reader) error {
	index, term := m.Applied()
	kv, err := mvcc.OpenImage(m.engine, m.group, r, mvcc.Applied{Index: index, Term: term})
	if err != nil {
		return err
	}
	if err := m.kv.CompareIndex(kv); err != nil {
		return fmt.Errorf("%w: the rows and the image of their index differ: %w", engine.ErrCorrupt, err)
	}
	return nil
}

// openKeys opens the keys, with the image if it is of this state; imaged is its
// index then.
func openKeys(o Options, s *stored) (kv *mvcc.Store, imaged uint64, err error) {
	if o.Keys != nil {
		return o.Keys, 0, checkRows(s, o.Keys)
	}
	if o.Image != nil {
		kv, err = mvcc.OpenImage(o.Engine, o.Group, o.Image, mvcc.Applied{Index: s.index, Term: s.term})
		if err == nil && kv.Rev() != s.rev {
			err = fmt.Errorf("%w: it ends at revision %d, the state at %d", mvcc.ErrNoImage, kv.Rev(), s.rev)
		}
		if o.OnImage != nil {
			o.OnImage(err)
		}
		if err == nil {
			return kv, s.index, nil
		}
	}
	if kv, err = mvcc.Open(o.Engine, o.Group); err != nil {
		return nil, 0, fmt.Errorf("open keys: %w", err)
	}
	return kv, 0, checkRows(s, kv)
}

func checkRows(s *stored, kv *mvcc.Store) error {
	if s.rev != 0 && kv.Rev() != s.rev {
		return fmt.Errorf("the state at index %d is at revision %d, its rows end at %d: %w", s.index, s.rev, kv.Rev(), engine.ErrCorrupt)
	}
	return nil
}
