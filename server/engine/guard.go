package engine

import "errors"

// Guard hands out an opener's engines so that report is told of every read and
// write that finds stored bytes that do not verify, whoever made it: the member
// has to stop then, and not only the request fail. report may be called often
// and concurrently.
func Guard(o Opener, report func(error)) Opener {
	return guardedOpener{o, guard{report}}
}

type guard struct{ report func(error) }

func (g guard) check(err error) error {
	if err != nil && errors.Is(err, ErrCorrupt) {
		g.report(err)
	}
	return err
}

type guardedOpener struct {
	Opener
	guard guard
}

func (o guardedOpener) Open(dir string) (Engine, error) {
	e, err := o.Opener.Open(dir)
	if err != nil {
		return nil, err
	}
	return &guardedEngine{e, guardedReader{e, o.guard}}, nil
}

// guardedReader reads a view.
type guardedReader struct {
	r     Reader
	guard guard
}

func (r guardedReader) Get(s Space, key []byte) ([]byte, bool, error) {
	v, ok, err := r.r.Get(s, key)
	return v, ok, r.guard.check(err)
}

func (r guardedReader) GetMany(s Space, keys [][]byte, values [][]byte) error {
	return r.guard.check(r.r.GetMany(s, keys, values))
}

func (r guardedReader) Scan(s Space, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	return r.guard.check(r.r.Scan(s, from, to, fn))
}

type guardedEngine struct {
	e Engine
	guardedReader
}

func (e *guardedEngine) Apply(b *Batch) error  { return e.guard.check(e.e.Apply(b)) }
func (e *guardedEngine) Flush() error          { return e.guard.check(e.e.Flush()) }
func (e *guardedEngine) FlushCostBytes() int64 { return e.e.FlushCostBytes() }
func (e *guardedEngine) Size() Size            { return e.e.Size() }
func (e *guardedEngine) Defragment() error     { return e.guard.check(e.e.Defragment()) }
func (e *guardedEngine) Close() error          { return e.e.Close() }

func (e *guardedEngine) Load(s Space, rows func(put func(key, value []byte) error) error) error {
	return e.guard.check(e.e.Load(s, rows))
}

func (e *guardedEngine) Snapshot() (Snapshot, error) {
	s, err := e.e.Snapshot()
	if err != nil {
		return nil, e.guard.check(err)
	}
	return guardedSnapshot{guardedReader{s, e.guard}, s}, nil
}

type guardedSnapshot struct {
	guardedReader
	s Snapshot
}

func (s guardedSnapshot) Close() error { return s.s.Close() }
