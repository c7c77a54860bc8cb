package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"metastore.io/metastore/server/disk"
)

// replayer applies one segment's appends to the log that is being opened.
type replayer struct {
	log *Log
	seg *segment
	win window
	// badAt is where the first record lies that does not belong to a whole
	// append; seg.end, where that append would begin, is at or before it.
	badAt int64
	// lastAt is where the last whole append begins; seg.end when there is none.
	lastAt int64
	// vouched: the last whole append is nothing but a mark.
	vouched bool
	pending []change // of the append that is being read
}

// replay applies all whole appends and leaves seg.end behind the last one.
func (r *replayer) replay() error {
	r.lastAt = r.seg.end
	for {
		end, whole, err := r.readAppend()
		if err != nil || !whole {
			return err
		}
		for i := range r.pending {
			if err := r.apply(&r.pending[i]); err != nil {
				return corrupt(r.seg.name, r.seg.end, "append %d, group %d: %v", r.log.next, r.pending[i].group, err)
			}
		}
		r.vouched = len(r.pending) == 1 && r.pending[0].kind == recordMark
		r.lastAt, r.seg.end = r.seg.end, end
		r.log.next++
	}
}

func (r *replayer) apply(c *change) error {
	if c.kind == recordMark {
		return nil
	}
	g := r.log.Group(c.group)
	if err := g.recorded.apply(c); err != nil {
		return err
	}
	return g.publish(c, r.seg, r.log.o.CacheBytes)
}

// readAppend reads the records of the next append into pending. whole is false
// when they are not all there; badAt then says where it ends.
func (r *replayer) readAppend() (end int64, whole bool, err error) {
	r.pending = r.pending[:0]
	for at := r.seg.end; ; {
		h, payload, ok, err := r.record(at, r.log.next, r.log.next)
		if err != nil {
			return 0, false, err
		}
		if !ok {
			r.badAt = at
			return 0, false, nil
		}
		c, err := decodePayload(h, bytes.Clone(payload), at+recordHeaderBytes)
		if err != nil {
			return 0, false, corrupt(r.seg.name, at, "%v", err)
		}
		r.pending = append(r.pending, c)
		at += h.sizeBytes()
		if h.flags&flagLast != 0 {
			return at, true, nil
		}
	}
}

// record reads the record at offset if there is one that verifies and has a
// number from lowest to highest. The payload is good until the next call.
func (r *replayer) record(at int64, lowest, highest uint64) (h recordHeader, payload []byte, ok bool, err error) {
	room := r.seg.sizeBytes - at - recordHeaderBytes
	if room < 0 {
		return h, nil, false, nil
	}
	b, err := r.win.bytes(at, recordHeaderBytes)
	if err != nil {
		return h, nil, false, err
	}
	h, ok = decodeRecordHeader(b)
	if !ok || h.number < lowest || h.number > highest || int64(h.length) > room {
		return h, nil, false, nil
	}
	b, err = r.win.bytes(at, recordHeaderBytes+int(h.length))
	if err != nil {
		return h, nil, false, err
	}
	ok = crc32.Update(r.seg.epochSum, castagnoli, b[4:]) == h.crc
	return h, b[recordHeaderBytes:], ok, nil
}

// cutTornTail decides what lies behind the last segment's whole appends:
// damage, or the remains of one append, which it zeroes.
func (r *replayer) cutTornTail() error {
	torn := r.log.next
	if err := r.noteTornTail(torn); err != nil {
		return err
	}
	// No more appends than headers fit behind the first one.
	highest := torn + uint64(r.seg.sizeBytes/recordHeaderBytes)
	remainsEnd := r.seg.end
	for at := r.seg.end; ; at += recordAlignBytes {
		var err error
		if at, err = r.nextCandidate(at, torn, highest); err != nil {
			return err
		}
		if at < 0 {
			return r.zero(r.seg.end, min(remainsEnd, r.seg.sizeBytes))
		}
		h, _, ok, err := r.record(at, torn, highest)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if h.number > torn {
			return corrupt(r.seg.name, r.badAt, "append %d does not verify, but append %d at offset %d does, which was written after it was synced", torn, h.number, at)
		}
		remainsEnd = max(remainsEnd, at+h.sizeBytes())
	}
}

// noteTornTail remembers where an append begins of which some was written: a
// record that verifies, or the header of one that does not.
func (r *replayer) noteTornTail(torn uint64) error {
	begun := r.badAt > r.seg.end
	if !begun && r.badAt+recordHeaderBytes <= r.seg.sizeBytes {
		b, err := r.win.bytes(r.badAt, recordHeaderBytes)
		if err != nil {
			return err
		}
		h, ok := decodeRecordHeader(b)
		begun = ok && h.number == torn
	}
	if begun {
		r.log.torn = TornTail{File: r.seg.name, Offset: r.seg.end}
	}
	return nil
}

// nextCandidate is the first offset from at on where a record header would
// have a number from lowest to highest, negative when there is none. It sees
// whole segments of old bytes at each start and so looks at nothing else.
func (r *replayer) nextCandidate(at int64, lowest, highest uint64) (int64, error) {
	for at+recordHeaderBytes <= r.seg.sizeBytes {
		b, err := r.win.rest(at)
		if err != nil {
			return 0, err
		}
		for ; len(b) >= recordHeaderBytes; b = b[recordAlignBytes:] {
			if number := binary.LittleEndian.Uint64(b[16:recordHeaderBytes]); number-lowest <= highest-lowest {
				return at, nil
			}
			at += recordAlignBytes
		}
	}
	return -1, nil
}

func (r *replayer) zero(from, to int64) error {
	if from == to {
		return nil
	}
	r.log.o.Logger.Warn("raft log: cut an append that was not finished", "segment", r.seg.name, "offset", from, "size_bytes", to-from)
	for at := from; at < to; at += zeroBytes {
		if _, err := r.seg.file.WriteAt(zeros[:min(zeroBytes, to-at)], at); err != nil {
			return fmt.Errorf("cut the torn tail of %s: %w", r.seg.name, err)
		}
	}
	return nil
}

// settle makes what was recovered durable. The last append is written again
// before: the process before may have ended because its sync failed, and then
// it is in the page cache, not on the disk, and no sync would write it.
func (r *replayer) settle() error {
	b, err := r.win.bytes(r.lastAt, int(r.seg.end-r.lastAt))
	if err != nil {
		return err
	}
	if _, err := r.seg.file.WriteAt(b, r.lastAt); err != nil {
		return fmt.Errorf("write %s at offset %d: %w", r.seg.name, r.lastAt, err)
	}
	if err := r.seg.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", r.seg.name, err)
	}
	return nil
}

// windowBytes is how much of a segment is read at once.
const windowBytes = 1 << 20

// window reads a file front to back with few reads.
type window struct {
	file      disk.File
	sizeBytes int64
	start     int64
	buf       []byte
}

// rest gives all bytes from at on that are in the window, at least a record
// header's, which are within the file.
func (w *window) rest(at int64) ([]byte, error) {
	if _, err := w.bytes(at, recordHeaderBytes); err != nil {
		return nil, err
	}
	return w.buf[at-w.start:], nil
}

// bytes gives n bytes at offset at, which are within the file; they are good
// until the next call.
func (w *window) bytes(at int64, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if at < w.start || at+int64(n) > w.start+int64(len(w.buf)) {
		length := min(max(int64(n), windowBytes), w.sizeBytes-at)
		if int64(cap(w.buf)) < length {
			w.buf = make([]byte, length)
		}
		w.start, w.buf = at, w.buf[:length]
		if _, err := w.file.ReadAt(w.buf, at); err != nil {
			w.buf = w.buf[:0]
			return nil, fmt.Errorf("read log segment: %w", err)
		}
	}
	return w.buf[at-w.start:][:n], nil
}
