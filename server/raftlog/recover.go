package raftlog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
)

// Open recovers the log in o.Dir, or makes it. See the package comment for
// what it repairs and what it refuses with ErrCorrupt.
func Open(o Options) (*Log, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := &Log{o: o, groups: map[GroupID]*Group{}, next: 1}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open raft log: %w", err), l.closeFiles())
	}
	return l, nil
}

func (o *Options) complete() error {
	if o.SegmentSizeBytes == 0 {
		o.SegmentSizeBytes = defaultSegmentSizeBytes
	}
	if o.SegmentSizeBytes < minSegmentSizeBytes {
		return fmt.Errorf("raft log: segment size %d, at least %d bytes are needed", o.SegmentSizeBytes, minSegmentSizeBytes)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	return nil
}

func (l *Log) open() error {
	if err := l.o.FS.MkdirAll(l.o.Dir); err != nil {
		return err
	}
	seqs, err := l.list()
	if err != nil {
		return err
	}
	if len(seqs) == 0 {
		err = l.create()
	} else {
		err = l.recover(seqs)
	}
	if err != nil {
		return err
	}
	if err := l.dropSpares(); err != nil {
		return err
	}
	l.reclaimable = true
	return l.seal()
}

// list finds the spares and gives the segments' sequence numbers.
func (l *Log) list() (seqs []uint64, err error) {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if seq, ok := parseSegmentName(name); ok {
			seqs = append(seqs, seq)
		} else if strings.HasPrefix(name, sparePrefix) {
			l.spares = append(l.spares, l.path(name))
		}
	}
	return seqs, nil
}

// create starts a new log.
func (l *Log) create() error {
	var salt [4]byte
	if _, err := io.ReadFull(l.o.Rand, salt[:]); err != nil {
		return fmt.Errorf("choose a salt: %w", err)
	}
	l.salt = binary.LittleEndian.Uint32(salt[:])
	if err := l.o.FS.SyncDir(filepath.Dir(filepath.Clean(l.o.Dir))); err != nil {
		return err
	}
	s, err := l.newSegment(1, l.next)
	if err != nil {
		return err
	}
	l.segments = append(l.segments, s)
	return nil
}

// recover replays the segments, ascending, and cuts a torn tail. Their names are
// made durable first: the process before may have been killed between the
// renaming of a new segment and the sync of the folder.
func (l *Log) recover(seqs []uint64) error {
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return err
	}
	var r *replayer
	for i, seq := range seqs {
		if seq != seqs[0]+uint64(i) {
			return corrupt(l.path(segmentName(seqs[0]+uint64(i))), 0, "the segment is missing, a later one is there")
		}
		next, err := l.openSegment(seq, i == 0, r)
		if err != nil {
			return err
		}
		r = next
		if err := r.replay(); err != nil {
			return err
		}
	}
	if err := r.cutTornTail(); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	if err := l.checkComplete(); err != nil {
		return err
	}
	l.o.Logger.Info("raft log recovered", "segments", len(l.segments), "size_bytes", l.SizeBytes(), "appends", l.next-1)
	return nil
}

// openSegment verifies a segment's header and where its appends start. before
// is the replay of the segment before, nil for the first.
func (l *Log) openSegment(seq uint64, first bool, before *replayer) (*replayer, error) {
	s := &segment{seq: seq, name: l.path(segmentName(seq)), end: segmentHeaderBytes}
	var err error
	if s.file, err = l.o.FS.Open(s.name); err != nil {
		return nil, err
	}
	l.segments = append(l.segments, s)
	if s.sizeBytes, err = s.file.SizeBytes(); err != nil {
		return nil, err
	}
	l.sizeBytes.Add(s.sizeBytes)
	r := &replayer{log: l, seg: s, win: window{file: s.file, sizeBytes: s.sizeBytes}}
	b, err := r.win.bytes(0, int(min(segmentHeaderBytes, s.sizeBytes)))
	if err != nil {
		return nil, err
	}
	h, err := decodeSegmentHeader(b)
	if err != nil {
		return nil, fmt.Errorf("%s: offset 0: %w", s.name, err)
	}
	if first {
		l.salt, l.next = uint32(h.epoch>>32), h.firstAppend
	}
	if before != nil && before.vouched && h.firstAppend == l.next-1 {
		l.next-- // the mark behind the segment's last append did not count
	}
	if h.seq != seq || h.epoch != epochOf(l.salt, seq) {
		return nil, corrupt(s.name, 0, "the segment belongs to another log or has another number (%d)", h.seq)
	}
	if h.firstAppend != l.next {
		return nil, corrupt(before.seg.name, before.badAt, "append %d does not verify, and append %d is in the next segment", l.next, h.firstAppend)
	}
	s.epochSum = epochCRC(h.epoch)
	return r, nil
}

// checkComplete ends a recovery: every entry that is not compacted is there.
func (l *Log) checkComplete() error {
	for _, g := range l.sortedGroups() {
		g.newest = g.recorded.hard
		g.keepFrom = 0
		if len(g.positions) == 0 {
			continue
		}
		first := g.positions[0].seg
		if first == nil {
			return corrupt(l.segments[0].name, segmentHeaderBytes, "entry %d of group %d is in a segment before this one, which is missing", g.compacted.Index+1, g.id)
		}
		g.keepFrom = first.seq
	}
	return nil
}

func corrupt(name string, offset int64, format string, args ...any) error {
	return fmt.Errorf("%s: offset %d: %w: %s", name, offset, ErrCorrupt, fmt.Sprintf(format, args...))
}
