package sim

import (
	"encoding/binary"
	"hash/crc32"
	"path"
	"strings"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/mvcc"
)

// forge is planted: before the log is opened, it makes the checksum right of
// what does not verify behind the last whole append, as a log would see it that
// took torn records, or those of a recycled segment's earlier life. The
// offsets are those of raftlog's byte diagram.
func (r *process) forge() {
	planted := r.w.planted
	if planted != plantTornTail && planted != plantRecycled {
		return
	}
	names, err := r.m.disk.List(logDir)
	if err != nil {
		return // the first start
	}
	last := ""
	for _, n := range names {
		if !strings.HasPrefix(n, "spare-") {
			last = path.Join(logDir, n)
		}
	}
	f, err := r.m.disk.Open(last)
	if err != nil {
		return
	}
	size, err := f.SizeBytes()
	if err != nil || size < 64 {
		return
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return
	}
	le, castagnoli := binary.LittleEndian, crc32.MakeTable(crc32.Castagnoli)
	epoch, number := crc32.Checksum(b[24:32], castagnoli), le.Uint64(b[32:])
	for at := int64(64); at+24 <= size; {
		h := b[at:]
		length, kind, flags := int64(le.Uint32(h[4:])), h[8], h[9]
		if kind < 1 || kind > 6 || h[10] != 0 || h[11] != 0 || 24+length > int64(len(h)) {
			return
		}
		got := le.Uint64(h[16:])
		if crc32.Update(epoch, castagnoli, h[4:24+length]) != le.Uint32(h) || got != number {
			if (got == number) != (planted == plantTornTail) {
				return
			}
			le.PutUint64(h[16:], number)
			le.PutUint32(h, crc32.Update(epoch, castagnoli, h[4:24+length]))
			if _, err := f.WriteAt(h[:24], at); err != nil {
				return
			}
			r.w.tracef("%d takes the record at offset %d of %s for good", r.m.id, at, last)
		}
		if flags&1 != 0 {
			number++
		}
		at += (24 + length + 7) &^ 7
	}
}

// forgeImage is planted: it makes the header of the index's image say that it is
// of what the engine holds. The offsets are those of mvcc's byte diagram.
func (r *process) forgeImage(e engine.Engine) {
	if r.w.planted != plantOldImage {
		return
	}
	names, err := r.m.disk.List(engineDir)
	applied, ok, err1 := e.Get(engine.Meta, appliedKey())
	c, err2 := mvcc.ReadCompaction(e, engine.GroupID(group))
	if err != nil || err1 != nil || err2 != nil || !ok {
		return
	}
	for _, n := range names {
		if path.Ext(n) != ".index" {
			continue
		}
		f, err := r.m.disk.Open(path.Join(engineDir, n))
		if err != nil {
			return
		}
		var h [60]byte
		if _, err := f.ReadAt(h[:], 0); err != nil {
			return
		}
		be, le := binary.BigEndian, binary.LittleEndian
		le.PutUint64(h[16:], be.Uint64(applied[1:]))
		le.PutUint64(h[24:], be.Uint64(applied[9:]))
		le.PutUint64(h[32:], be.Uint64(applied[17:]))
		le.PutUint64(h[40:], uint64(c.Scheduled))
		le.PutUint32(h[56:], crc32.Checksum(h[:56], crc32.MakeTable(crc32.Castagnoli)))
		if _, err := f.WriteAt(h[:], 0); err != nil {
			return
		}
	}
}
