package memory

import (
	"bytes"
	"fmt"

	"metastore.io/metastore/server/engine"
)

// loadBytes bounds the rows that Load holds beside the tree.
const loadBytes = 1 << 20

// Load applies the rows in batches.
func (e *memory) Load(s engine.Space, rows func(put func(key, value []byte) error) error) error {
	b := engine.NewBatch()
	var last []byte
	err := rows(func(key, value []byte) error {
		if last != nil && bytes.Compare(key, last) <= 0 {
			return fmt.Errorf("load: key %x comes after %x", key, last)
		}
		last = append(last[:0], key...)
		b.Put(s, key, value)
		if b.SizeBytes() < loadBytes {
			return nil
		}
		err := e.Apply(b)
		b.Reset()
		return err
	})
	if err != nil {
		return err
	}
	return e.Apply(b)
}
