package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/disk"
)

const (
	defaultSegmentSizeBytes = 64 << 20
	defaultCacheBytes       = 8 << 20
	minSegmentSizeBytes     = 4 << 10
	// maxIdleBufferBytes is what is kept of the encoding buffer between appends.
	maxIdleBufferBytes = 4 << 20
)

var errClosed = errors.New("raft log is closed")

// Options configure Open.
type Options struct {
	FS               disk.FS
	Dir              string       // the log's own folder, made when missing
	SegmentSizeBytes int64        // 0: 64 MiB; at least 4 KiB
	CacheBytes       int64        // newest entries held in memory, a group; 0: 8 MiB
	Logger           *slog.Logger // nil: silent
	Rand             io.Reader    // gives the salt of a new log; nil: crypto/rand
	Observer         Observer     // nil: nobody
}

// Observer is told how the disk does. It is called by Append and Close, which
// wait for it.
type Observer interface {
	// Appended: so many bytes were written in the time of write and made durable
	// in that of sync, after it.
	Appended(sizeBytes int, write, sync time.Duration)
}

type unobserved struct{}

func (unobserved) Appended(int, time.Duration, time.Duration) {}

// Write is what one Append has for one group. A group may have several.
type Write struct {
	Group GroupID
	// HardState is nil when it is unchanged. One that moves the commit index
	// alone is not written by itself, unless Durable says so; see the package
	// comment.
	HardState *raftpb.HardState
	// Durable wants the commit index of HardState on disk too.
	Durable bool
	// Entries are contiguous and replace what the log has from the first one's
	// index on. The log keeps them: they must not change any more.
	Entries []*raftpb.Entry
	// Reset, done before Entries, forgets all entries; the log then starts
	// after it. The hard state stays.
	Reset *Position
}

// Log is an open log.
type Log struct {
	o         Options
	salt      uint32
	sizeBytes atomic.Int64

	mu     sync.Mutex // guards what follows up to the blank line; never held across I/O
	groups map[GroupID]*Group
	// compactions are the groups whose compaction readers see and no record says.
	compactions []*Group
	failure     error // set once, for good

	torn TornTail // set by Open

	// The rest is owned by the goroutine in Open, Append or Close.

	segments    []*segment // live, ascending without gaps; the last is written to
	spares      []string   // paths
	next        uint64     // the number of the next append
	marked      bool       // the last append is a mark, and nothing waits to be written
	reclaimable bool       // a reader kept a segment from being recycled
	buf         []byte
	changes     []change
}

// Group gives a group's log, made empty when it is not there.
func (l *Log) Group(id GroupID) *Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if g == nil {
		g = &Group{id: id}
		l.groups[id] = g
	}
	return g
}

// SizeBytes is the length of the live segments' files.
func (l *Log) SizeBytes() int64 { return l.sizeBytes.Load() }

// TornTail is where the log ended, when it was opened, in an append that the
// process before it did not come to finish. It was no loss: that Append had not
// returned.
type TornTail struct {
	File   string // "": there was none
	Offset int64
}

// TornTail tells what Open has cut.
func (l *Log) TornTail() TornTail { return l.torn }

// Segments are the number of live segments. The caller is the goroutine in
// Append.
func (l *Log) Segments() int { return len(l.segments) }

// Append writes and syncs all writes at once: when it returns nil they are
// durable and readers see them. After an error the log is poisoned.
func (l *Log) Append(writes []Write) error {
	if err := l.failed(); err != nil {
		return err
	}
	if l.needsDisk(writes) {
		if err := l.write(writes); err != nil {
			return l.fail(err)
		}
	}
	for i := range writes {
		w := &writes[i]
		if hard := hardStateOf(w.HardState); hard != (hardState{}) {
			g := l.Group(w.Group)
			g.setNewest(hard)
			g.publishHard()
			l.marked = l.marked && g.newest == g.recorded.hard
		}
	}
	return nil
}

// Compact says that a group's entries up to index are not needed any more.
// Readers lose them at once; the next Append that writes records it and frees
// segments. An index that is already compacted is no error, one beyond the
// last entry is raft.ErrUnavailable.
func (l *Log) Compact(id GroupID, index uint64) error {
	if err := l.failed(); err != nil {
		return err
	}
	g := l.Group(id)
	list, err := g.compact(index)
	if list {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.compactions = append(l.compactions, g)
	}
	return err
}

// Close writes what waits, with a mark, and closes the files. Nobody may use
// the log or its groups any more.
func (l *Log) Close() error {
	err := l.failed()
	if err == nil {
		err = l.seal()
	}
	err = errors.Join(err, l.closeFiles())
	_ = l.fail(errClosed) // what came before is what counts
	return err
}

func (l *Log) closeFiles() (err error) {
	for _, s := range l.segments {
		err = errors.Join(err, s.file.Close())
	}
	l.segments = nil
	return err
}

func (l *Log) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// fail poisons the log; the first failure stays.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = fmt.Errorf("raft log: %w", err)
	}
	return l.failure
}

func (l *Log) tail() *segment { return l.segments[len(l.segments)-1] }

func (l *Log) sortedGroups() []*Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	groups := make([]*Group, 0, len(l.groups))
	for _, g := range l.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *Group) int { return cmp.Compare(a.id, b.id) })
	return groups
}

func (l *Log) takeCompactions() []*Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	groups := l.compactions
	l.compactions = nil
	return groups
}
