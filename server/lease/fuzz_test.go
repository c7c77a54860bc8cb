package lease

import (
	"errors"
	"testing"

	"metastore.io/metastore/server/engine"
)

// FuzzRow: what decodes is what Stage writes.
func FuzzRow(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 7}, []byte{1, 0, 0, 0, 0, 0, 0, 0, 60})
	f.Add([]byte{0xff, 0, 0, 0, 0, 0, 0, 7}, []byte{2, 0, 0, 0, 0, 0, 0, 0, 60})
	f.Add([]byte{1}, []byte{})
	f.Fuzz(func(t *testing.T, id, value []byte) {
		l, err := decodeRow(id, value)
		if err != nil {
			if !errors.Is(err, engine.ErrCorrupt) {
				t.Fatalf("%x = %x: %v", id, value, err)
			}
			return
		}
		b := engine.NewBatch()
		l.Stage(b, 3)
		_ = b.Each(func(op engine.Op) error {
			if string(op.Key[4+len(rowPrefix):]) != string(id) || string(op.Value) != string(value) {
				t.Fatalf("%x = %x gives %+v, and that %x = %x", id, value, l, op.Key, op.Value)
			}
			return nil
		})
	})
}
