package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"metastore.io/metastore/server/disk"
)

const (
	segmentSuffix = ".log"
	seqDigits     = 20
	sparePrefix   = "spare-"

	// maxSpares is how many freed files are kept for reuse.
	maxSpares = 2
	// growStepBytes is how far ahead of the records a new file is written with
	// zeros. Larger: fewer syncs that have to allocate; smaller: less to write
	// in those, and at a first start.
	growStepBytes = 1 << 20
	zeroBytes     = 256 << 10
)

var zeros [zeroBytes]byte

// segment is one live file of the log.
type segment struct {
	seq      uint64
	name     string // its path
	file     disk.File
	epochSum uint32 // epochCRC of its epoch
	// end is where the next record goes; behind it, up to sizeBytes, lie bytes
	// that are written but mean nothing. Owner: the goroutine in Append.
	end, sizeBytes int64
	// pins counts readers; the file is not recycled before it is zero.
	pins atomic.Int64
}

func segmentName(seq uint64) string { return fmt.Sprintf("%0*d%s", seqDigits, seq, segmentSuffix) }

func spareName(seq uint64) string { return sparePrefix + segmentName(seq) }

// parseSegmentName says false to names that are no segment's.
func parseSegmentName(name string) (seq uint64, ok bool) {
	digits, isLog := strings.CutSuffix(name, segmentSuffix)
	if !isLog || len(digits) != seqDigits {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, err == nil && seq > 0
}

// newSegment makes segment seq from a spare file or a new one. Its header and
// name are durable on return; its records are not valid before they are.
func (l *Log) newSegment(seq, firstAppend uint64) (*segment, error) {
	s := &segment{seq: seq, name: l.path(segmentName(seq)), end: segmentHeaderBytes}
	if err := l.buildSegment(s, firstAppend); err != nil {
		err = fmt.Errorf("make log segment %s of %d bytes: %w", s.name, l.o.SegmentSizeBytes, err)
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
		return nil, err
	}
	l.sizeBytes.Add(s.sizeBytes)
	return s, nil
}

func (l *Log) buildSegment(s *segment, firstAppend uint64) error {
	spare, err := l.openSpare(s)
	if err != nil {
		return err
	}
	if s.sizeBytes > l.o.SegmentSizeBytes {
		if err := s.file.Truncate(l.o.SegmentSizeBytes); err != nil {
			return err
		}
		s.sizeBytes = l.o.SegmentSizeBytes
	}
	if err := l.grow(s, segmentHeaderBytes); err != nil {
		return err
	}
	h := segmentHeader{seq: s.seq, epoch: epochOf(l.salt, s.seq), firstAppend: firstAppend}
	s.epochSum = epochCRC(h.epoch)
	if _, err := s.file.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	if err := l.o.FS.Rename(spare, s.name); err != nil {
		return err
	}
	return l.o.FS.SyncDir(l.o.Dir)
}

// openSpare gives s a spare's file, or a new one under a spare's name.
func (l *Log) openSpare(s *segment) (name string, err error) {
	if len(l.spares) == 0 {
		name = l.path(spareName(s.seq))
		s.file, err = l.o.FS.Create(name)
		return name, err
	}
	name = l.spares[0]
	l.spares = l.spares[1:]
	if s.file, err = l.o.FS.Open(name); err != nil {
		return name, err
	}
	s.sizeBytes, err = s.file.SizeBytes()
	return name, err
}

// grow writes zeros so that the file reaches end, and a step further within
// the fixed size. The zeros are durable with the next sync.
func (l *Log) grow(s *segment, end int64) error {
	if end <= s.sizeBytes {
		return nil
	}
	target := max(end, min(end+growStepBytes, l.o.SegmentSizeBytes))
	for s.sizeBytes < target {
		n := min(target-s.sizeBytes, zeroBytes)
		if _, err := s.file.WriteAt(zeros[:n], s.sizeBytes); err != nil {
			return fmt.Errorf("grow log segment %s to %d bytes: %w", s.name, target, err)
		}
		s.sizeBytes += n
	}
	return nil
}

// reclaim frees the oldest segments that no group needs and no reader reads.
// Each one's name is durably gone before the next, so that a crash never
// leaves a gap in the sequence.
func (l *Log) reclaim() error {
	keepFrom := l.tail().seq
	for _, g := range l.sortedGroups() {
		if g.keepFrom != 0 {
			keepFrom = min(keepFrom, g.keepFrom)
		}
	}
	l.reclaimable = false
	for l.segments[0].seq < keepFrom {
		s := l.segments[0]
		if s.pins.Load() != 0 {
			l.reclaimable = true // at the next Append
			return nil
		}
		l.segments = l.segments[1:]
		l.sizeBytes.Add(-s.sizeBytes)
		if err := l.retire(s); err != nil {
			return fmt.Errorf("recycle log segment %s: %w", s.name, err)
		}
	}
	return nil
}

func (l *Log) retire(s *segment) error {
	if err := s.file.Close(); err != nil {
		return err
	}
	if len(l.spares) >= maxSpares || s.sizeBytes > l.o.SegmentSizeBytes {
		if err := l.o.FS.Remove(s.name); err != nil {
			return err
		}
		return l.o.FS.SyncDir(l.o.Dir)
	}
	spare := l.path(spareName(s.seq))
	if err := l.o.FS.Rename(s.name, spare); err != nil {
		return err
	}
	l.spares = append(l.spares, spare)
	return l.o.FS.SyncDir(l.o.Dir)
}

// dropSpares removes the spare files beyond maxSpares.
func (l *Log) dropSpares() error {
	for len(l.spares) > maxSpares {
		name := l.spares[len(l.spares)-1]
		if err := l.o.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		l.spares = l.spares[:len(l.spares)-1]
	}
	return nil
}

func (l *Log) path(base string) string { return filepath.Join(l.o.Dir, base) }
