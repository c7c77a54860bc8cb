package engine

import (
	"sync"
	"time"
)

// Observer is told what engines do and how long it takes them. Its methods run
// concurrently, and whoever called the engine waits for them.
type Observer interface {
	// Applied: Apply wrote a batch.
	Applied(took time.Duration)
	// DefragmentBegins and DefragmentEnds frame a call of Defragment.
	DefragmentBegins()
	DefragmentEnds(took time.Duration)
	// SnapshotOpened and SnapshotClosed frame the life of a frozen view.
	SnapshotOpened()
	SnapshotClosed()
}

// Observe hands out an opener's engines so that o is told what they do. Reads
// are not, and cost nothing more.
func Observe(opener Opener, o Observer) Opener { return observedOpener{opener, o} }

type observedOpener struct {
	Opener
	o Observer
}

func (o observedOpener) Open(dir string) (Engine, error) {
	e, err := o.Opener.Open(dir)
	if err != nil {
		return nil, err
	}
	return observedEngine{e, o.o}, nil
}

type observedEngine struct {
	Engine
	o Observer
}

func (e observedEngine) Apply(b *Batch) error {
	begin := time.Now()
	err := e.Engine.Apply(b)
	e.o.Applied(time.Since(begin))
	return err
}

func (e observedEngine) Defragment() error {
	e.o.DefragmentBegins()
	begin := time.Now()
	err := e.Engine.Defragment()
	e.o.DefragmentEnds(time.Since(begin))
	return err
}

func (e observedEngine) Snapshot() (Snapshot, error) {
	s, err := e.Engine.Snapshot()
	if err != nil {
		return nil, err
	}
	e.o.SnapshotOpened()
	return &observedSnapshot{Snapshot: s, o: e.o}, nil
}

type observedSnapshot struct {
	Snapshot
	o    Observer
	once sync.Once
}

func (s *observedSnapshot) Close() error {
	s.once.Do(s.o.SnapshotClosed)
	return s.Snapshot.Close()
}
