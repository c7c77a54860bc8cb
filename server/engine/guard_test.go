package engine

import (
	"errors"
	"fmt"
	"testing"
)

// failing gives one error for everything.
type failing struct{ err error }

func (f failing) Get(Space, []byte) ([]byte, bool, error) { return nil, false, f.err }
func (f failing) GetMany(Space, [][]byte, [][]byte) error { return f.err }
func (f failing) Apply(*Batch) error                      { return f.err }
func (f failing) Flush() error                            { return f.err }
func (f failing) FlushCostBytes() int64                   { return 0 }
func (f failing) Size() Size                              { return Size{} }
func (f failing) Defragment() error                       { return f.err }
func (f failing) Close() error                            { return nil }
func (f failing) Snapshot() (Snapshot, error)             { return f, nil }
func (f failing) Name() string                            { return "failing" }
func (f failing) Open(string) (Engine, error)             { return f, nil }
func (f failing) Load(Space, func(put func(key, value []byte) error) error) error {
	return f.err
}
func (f failing) Scan(Space, []byte, []byte, func(key, value []byte) (bool, error)) error {
	return f.err
}

// Damage that any call finds is told; other errors are the caller's alone.
func TestGuard(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{{fmt.Errorf("block 7: %w", ErrCorrupt), 1}, {errors.New("no memory"), 0}, {nil, 0}} {
		reported := 0
		e, err := Guard(failing{c.err}, func(err error) {
			if !errors.Is(err, c.err) {
				t.Errorf("told of %v instead of %v", err, c.err)
			}
			reported++
		}).Open("")
		if err != nil {
			t.Fatal(err)
		}
		snap, err := e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"get":         func() error { _, _, err := e.Get(Meta, nil); return err },
			"get many":    func() error { return e.GetMany(Meta, nil, nil) },
			"scan":        func() error { return e.Scan(Meta, nil, nil, nil) },
			"apply":       func() error { return e.Apply(nil) },
			"load":        func() error { return e.Load(Meta, nil) },
			"flush":       e.Flush,
			"defragment":  e.Defragment,
			"frozen get":  func() error { _, _, err := snap.Get(Meta, nil); return err },
			"frozen scan": func() error { return snap.Scan(Meta, nil, nil, nil) },
		} {
			reported = 0
			if err := call(); !errors.Is(err, c.err) || reported != c.want {
				t.Errorf("%s with %v: got %v, reported %d times, want %d", name, c.err, err, reported, c.want)
			}
		}
	}
}
