package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
)

const (
	dumpName = "dump"
	// partName is a dump being written; a crash may leave it behind.
	partName = "dump.part"

	// writeBytes is how much is written at once, syncBytes how much before a
	// sync: one sync at the end would make the raft log on the same disk wait
	// for the whole dump.
	writeBytes = 1 << 20
	syncBytes  = 16 << 20
)

// Flush writes a dump of a snapshot beside the old one and puts it in its
// place. Memory stays within a block and a write buffer.
func (e *memory) Flush() error {
	snap, err := e.snapshot()
	if err != nil {
		return err
	}
	defer snap.release()
	if err := e.writeDump(snap); err != nil {
		return fmt.Errorf("flush memory engine: %w", err)
	}
	e.log.Debug("wrote a dump", "dir", e.dir)
	return nil
}

func (e *memory) writeDump(snap *snapshot) error {
	part := path.Join(e.dir, partName)
	f, err := e.fs.Create(part)
	if err != nil {
		return err
	}
	w := &dumpWriter{f: f}
	err = w.write(snap)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", part, err)
	}
	if err := e.fs.Rename(part, path.Join(e.dir, dumpName)); err != nil {
		return err
	}
	return e.fs.SyncDir(e.dir)
}

// dumpWriter writes a dump front to back.
type dumpWriter struct {
	f disk.File
	// offset is the length written, unsynced the part of it since the last sync.
	offset, unsynced int64
	// out holds whole blocks that are not written yet.
	out []byte
	sum uint32
	// all counts the rows of the file; rows and payload are of the open block.
	all     uint64
	rows    uint32
	payload []byte
}

func (w *dumpWriter) write(snap *snapshot) error {
	w.out = appendHeader(w.out)
	for s := range engine.Space(engine.SpaceCount) {
		err := snap.Scan(s, nil, nil, func(key, value []byte) (bool, error) {
			return true, w.row(s, key, value)
		})
		if err != nil {
			return err
		}
		if err := w.endBlock(s); err != nil {
			return err
		}
	}
	trailer := binary.LittleEndian.AppendUint64(nil, w.all)
	trailer = binary.LittleEndian.AppendUint32(trailer, w.sum)
	w.out, _ = appendBlock(w.out, kindTrailer, 0, 0, trailer)
	return w.flush()
}

func (w *dumpWriter) row(s engine.Space, key, value []byte) error {
	if rowLen := len(key) + len(value); len(w.payload) > 0 && len(w.payload)+rowLen > targetBlockBytes {
		if err := w.endBlock(s); err != nil {
			return err
		}
	}
	w.payload = appendRow(w.payload, key, value)
	if uint64(len(w.payload)) > math.MaxUint32 {
		return fmt.Errorf("a row of %d bytes does not fit a block", len(w.payload))
	}
	w.rows++
	w.all++
	return nil
}

func (w *dumpWriter) endBlock(s engine.Space) error {
	if w.rows == 0 {
		return nil
	}
	var crc uint32
	w.out, crc = appendBlock(w.out, kindRows, s, w.rows, w.payload)
	w.sum = addCRC(w.sum, crc)
	w.rows, w.payload = 0, w.payload[:0]
	if len(w.out) < writeBytes {
		return nil
	}
	return w.flush()
}

func (w *dumpWriter) flush() error {
	n, err := w.f.WriteAt(w.out, w.offset)
	w.offset += int64(n)
	w.unsynced += int64(n)
	w.out = w.out[:0]
	if err != nil || w.unsynced < syncBytes {
		return err
	}
	w.unsynced = 0
	return w.f.Sync()
}

func appendBlock(dst []byte, kind byte, s engine.Space, rows uint32, payload []byte) ([]byte, uint32) {
	start := len(dst)
	dst = append(dst, kind, byte(s), 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, rows)
	crc := blockCRC(dst[start:], payload)
	dst = binary.LittleEndian.AppendUint32(dst, crc)
	return append(dst, payload...), crc
}

// load fills an empty engine from its dump, if there is one.
func (e *memory) load() error {
	if err := e.prepareDir(); err != nil {
		return err
	}
	name := path.Join(e.dir, dumpName)
	f, err := e.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(e.read(f), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// prepareDir makes the folder, durably, and removes what an interrupted Flush
// left there.
func (e *memory) prepareDir() error {
	if err := e.fs.MkdirAll(e.dir); err != nil {
		return err
	}
	if err := e.fs.SyncDir(path.Dir(e.dir)); err != nil {
		return err
	}
	names, err := e.fs.List(e.dir)
	if err != nil || !slices.Contains(names, partName) {
		return err
	}
	return e.fs.Remove(path.Join(e.dir, partName))
}

func (e *memory) read(f disk.File) error {
	size, err := f.SizeBytes()
	if err != nil {
		return err
	}
	w := e.begin()
	var block []byte
	var number uint32
	return decodeDump(io.NewSectionReader(f, 0, size), size, func(r dumpRow) {
		s := e.spaces[r.space]
		if len(block) == 0 || &block[0] != &r.block[0] {
			block, number = r.block, s.heap.adopt(r.block)
		}
		s.load(w, place{number, uint32(r.at)}, r.key, r.value)
	})
}
