package replica

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

const (
	imageSuffix = ".index"
	// newSuffix ends the name of an image that is being written.
	newSuffix = ".new"

	// maxRestBytes is the most that a stop writes to spare the next start its
	// work: a process that is to end has some seconds for that.
	maxRestBytes = 1 << 30
	// restLogBytes of the log are replayed rather than spared, and restShare of
	// what a flush would cost.
	restLogBytes = 1 << 20
	restShare    = 8
)

// OpenState opens the state of the engine in use, with the image of its index if
// Rest has left one of exactly this state.
func (e *Engines) OpenState(o state.Options) (*state.Machine, error) {
	image, err := e.OpenImage()
	if err != nil {
		if o.OnImage != nil {
			o.OnImage(err)
		}
		return state.Open(o)
	}
	if image == nil {
		return state.Open(o)
	}
	o.Image = image
	m, err := state.Open(o)
	_ = image.Close() // it was only read from
	return m, err
}

// OpenImage opens the image beside the engine in use; nil when there is none.
func (e *Engines) OpenImage() (io.ReadCloser, error) {
	f, err := e.fs.Open(e.path(e.current) + imageSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	size, err := f.SizeBytes()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, 0, size), f}, nil
}

// Rest leaves log and state, which nothing uses any more and which are closed
// next, so that the next start has little to do: everything applied is durable
// in the engine, the log is shortened to what keep says, which gets the index
// that is durable and gives the one up to which nothing is needed (0: none), and
// an image of the index lies beside the engine. Where that is hardly worth its
// cost, or would take too long, nothing is done. flushed is the index that the
// engine holds durably.
//
// A crash at any step leaves what it would have found before: the image counts
// only for an engine that holds exactly what it was written of, and the log is
// shortened after the flush.
func Rest(log *raftlog.Log, g raftlog.GroupID, engines *Engines, m *state.Machine, flushed uint64, keep func(durable uint64) uint64) error {
	if !restIsDue(log.Group(g), m, flushed) {
		return nil
	}
	durable, err := m.Flush()
	if err != nil {
		return err
	}
	if index := min(keep(durable), log.Group(g).LastIndex()); index > 0 {
		if err := log.Compact(g, index); err != nil {
			return fmt.Errorf("shorten the log: %w", err)
		}
	}
	if !m.Settled() {
		return nil
	}
	if err := engines.writeImage(m); err != nil {
		return fmt.Errorf("write an image of the index: %w", err)
	}
	return nil
}

func restIsDue(log *raftlog.Group, m *state.Machine, flushed uint64) bool {
	applied, _ := m.Applied()
	cost, since := m.FlushCostBytes(), log.BytesSince(flushed)
	switch {
	case applied == 0, applied == m.Imaged(), cost > maxRestBytes:
		return false
	case flushed == m.Imaged():
		return since > max(restLogBytes, cost/restShare)
	}
	return true
}

// writeImage replaces the image beside the engine in use.
func (e *Engines) writeImage(m *state.Machine) error {
	name := e.path(e.current) + imageSuffix
	f, err := e.fs.Create(name + newSuffix)
	if err != nil {
		return err
	}
	err = m.WriteImage(&fileWriter{f: f})
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, e.fs.Remove(name+newSuffix))
	}
	if err := e.fs.Rename(name+newSuffix, name); err != nil {
		return err
	}
	return e.fs.SyncDir(e.dir)
}

// fileWriter writes a file front to back.
type fileWriter struct {
	f  disk.File
	at int64
}

func (w *fileWriter) Write(b []byte) (int, error) {
	n, err := w.f.WriteAt(b, w.at)
	w.at += int64(n)
	return n, err
}
