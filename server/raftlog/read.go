package raftlog

import (
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	// readWindowBytes bounds one read of entries that are not cached, unless a
	// single one is larger; readGapBytes is what it skips rather than split.
	readWindowBytes = 1 << 20
	readGapBytes    = 4 << 10
)

// Entries gives entries lo to hi-1, cut so that their encoded sizes add up to
// at most maxBytes, but at least one. The slice is the caller's, the entries
// are not to be changed. Errors: raft.ErrCompacted, raft.ErrUnavailable, and
// one that wraps ErrCorrupt when the disk gives other bytes than were written.
func (g *Group) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	onDisk, cached, err := g.pick(lo, hi, maxBytes)
	if err != nil {
		return nil, err
	}
	defer unpin(onDisk)
	entries := make([]*raftpb.Entry, 0, len(onDisk)+len(cached))
	for len(onDisk[len(entries):]) > 0 {
		entries, err = readSome(entries, lo+uint64(len(entries)), onDisk[len(entries):])
		if err != nil {
			return nil, fmt.Errorf("read entry %d of group %d: %w", lo+uint64(len(entries)), g.id, err)
		}
	}
	return limitSize(append(entries, cached...), maxBytes), nil
}

// pick chooses what Entries may have to give: at least what fits, split into
// positions to read, whose segments are pinned, and entries from the cache.
func (g *Group) pick(lo, hi, maxBytes uint64) (onDisk []position, cached []*raftpb.Entry, err error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch {
	case lo <= g.compacted.Index:
		return nil, nil, raft.ErrCompacted
	case hi > g.lastIndex()+1 || lo > hi:
		return nil, nil, raft.ErrUnavailable
	}
	from := lo - g.compacted.Index - 1
	positions := g.positions[from : from+g.countFitting(lo, hi, maxBytes)]
	firstCached := uint64(len(g.positions) - len(g.cache))
	end := from + uint64(len(positions))
	if end > firstCached {
		cached = g.cache[max(from, firstCached)-firstCached : end-firstCached]
		cached = append([]*raftpb.Entry(nil), cached...)
	}
	onDisk = append([]position(nil), positions[:len(positions)-len(cached)]...)
	pin(onDisk)
	return onDisk, cached, nil
}

// countFitting never counts too few: the exact size of an entry on disk is
// known after reading.
func (g *Group) countFitting(lo, hi, maxBytes uint64) (n uint64) {
	for size := uint64(0); lo+n < hi; n++ {
		p := &g.positions[lo+n-g.compacted.Index-1]
		size += sizeFloor(p.term, lo+n, int(p.length)-entryHeaderBytes)
		if size > maxBytes && n > 0 {
			break
		}
	}
	return n
}

func limitSize(entries []*raftpb.Entry, maxBytes uint64) []*raftpb.Entry {
	size := uint64(0)
	for i, e := range entries {
		size += entrySize(e)
		if size > maxBytes && i > 0 {
			return entries[:i:i]
		}
	}
	return entries
}

// pin keeps the segments of positions from being recycled. The group's lock is
// held, so none of them is free yet.
func pin(positions []position) { eachSegment(positions, func(s *segment) { s.pins.Add(1) }) }

func unpin(positions []position) { eachSegment(positions, func(s *segment) { s.pins.Add(-1) }) }

func eachSegment(positions []position, fn func(*segment)) {
	for i := range positions {
		if i == 0 || positions[i].seg != positions[i-1].seg {
			fn(positions[i].seg)
		}
	}
}

// readSome reads the first of positions and those that lie close behind it.
func readSome(dst []*raftpb.Entry, index uint64, positions []position) ([]*raftpb.Entry, error) {
	first := positions[0]
	start, end, n := first.offset, first.end(), 1
	for n < len(positions) {
		p := positions[n]
		if p.seg != first.seg || p.offset < end || p.offset-end > readGapBytes || p.end()-start > readWindowBytes {
			break
		}
		end = p.end()
		n++
	}
	b := make([]byte, end-start)
	if _, err := first.seg.file.ReadAt(b, start); err != nil {
		return dst, fmt.Errorf("%s: offset %d: %w", first.seg.name, start, err)
	}
	for i, p := range positions[:n] {
		e, err := verifyEntry(b[p.offset-start:p.end()-start], p, index+uint64(i))
		if err != nil {
			return dst, err
		}
		dst = append(dst, e)
	}
	return dst, nil
}

func (p place) end() int64 { return p.offset + int64(p.length) }

func verifyEntry(b []byte, p position, index uint64) (*raftpb.Entry, error) {
	d := decoder{rest: b[:len(b):len(b)]}
	if e := d.entry(index); crc32.Checksum(b, castagnoli) == p.crc && !d.bad && len(d.rest) == 0 {
		return e, nil
	}
	return nil, fmt.Errorf("%s: offset %d: %w: entry %d does not verify", p.seg.name, p.offset, ErrCorrupt, index)
}
