package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// An image is the index of one moment in a file, so that a start need not read
// every row to build it. It is of use only to an engine that holds exactly the
// rows of that moment, which its header tells; whatever else is found, the index
// is built from the rows. Integers are little endian, uvarints where no size is
// given.
//
//	image   = header block* trailer
//	header  = magic 8 | version 4 | group 4 | applied index 8 | its term 8 |
//	          revision 8 | compact revision 8 | keys 8 | crc 4
//	block   = size 4 | crc 4 | key* (size)
//	trailer = 0 (4) | sum 4; nothing follows
//
//	key     = length of what it shares with the key before in its block |
//	          length of the rest | the rest | newest | older*
//	newest  = flags 1 | main | sub, if flagSub | of a live key: main - created,
//	          version; lease, if flagLease | number of older, if flagOlder
//	older   = main of the next newer one - main | sub << 1, 1 for a tombstone
//
// Keys ascend strictly, revisions of a key descend strictly. A crc is the CRC32C
// of what precedes it in the header, and of size and keys in a block; sum is the
// CRC32C of all crcs before it.
const (
	imageMagic   = "MSINDEX\n"
	imageVersion = 1

	imageHeaderBytes = 60
	blockHeaderBytes = 8
	// imageBlockBytes is where a block ends; maxImageBlockBytes is the most that
	// a key with its revisions may add.
	imageBlockBytes    = 256 << 10
	maxImageBlockBytes = 64 << 20

	flagDead  = 1
	flagSub   = 2
	flagLease = 4
	flagOlder = 8
)

var (
	// ErrNoImage says that an image is of another moment than the engine.
	ErrNoImage = errors.New("mvcc: the image is not of these rows")
	// ErrImageDamaged says that an image does not verify.
	ErrImageDamaged = errors.New("mvcc: the image does not verify")
	errSweeping     = errors.New("mvcc: an image amid a compaction")
)

// Applied is the last entry of the log whose effects the engine holds.
type Applied struct{ Index, Term uint64 }

// imageHeader is what an image is of.
type imageHeader struct {
	group             uint32
	applied           Applied
	revision, compact int64
	keys              uint64
}

func (h imageHeader) encode() []byte {
	b := append([]byte(nil), imageMagic...)
	b = binary.LittleEndian.AppendUint32(b, imageVersion)
	b = binary.LittleEndian.AppendUint32(b, h.group)
	for _, v := range []uint64{h.applied.Index, h.applied.Term, uint64(h.revision), uint64(h.compact), h.keys} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeImageHeader(b []byte) (h imageHeader, err error) {
	if string(b[:8]) != imageMagic || crc32.Checksum(b[:imageHeaderBytes-4], castagnoli) != binary.LittleEndian.Uint32(b[imageHeaderBytes-4:]) {
		return h, fmt.Errorf("offset 0: %w: the header", ErrImageDamaged)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != imageVersion {
		return h, fmt.Errorf("%w: its format is version %d", ErrNoImage, v)
	}
	at := func(offset int) uint64 { return binary.LittleEndian.Uint64(b[offset:]) }
	return imageHeader{
		group: binary.LittleEndian.Uint32(b[12:]), applied: Applied{at(16), at(24)},
		revision: int64(at(32)), compact: int64(at(40)), keys: at(48),
	}, nil
}

// Settled tells whether the rows are what follows from the revisions: no
// compaction has removed some of its rows and not all. The applying goroutine may
// call it.
func (s *Store) Settled() bool { return s.sweep == nil && s.finished >= s.CompactRev() }

// WriteImage writes the image of what the engine holds, which is what was applied
// up to an entry of the log. Nothing may be applied meanwhile, and the store has
// to be settled.
func (s *Store) WriteImage(w io.Writer, applied Applied) error {
	if !s.Settled() {
		return errSweeping
	}
	x := s.index
	h := imageHeader{
		group: uint32(s.group), applied: applied, revision: s.Rev(), compact: s.CompactRev(), keys: uint64(x.keys.records.count()),
	}
	if _, err := w.Write(h.encode()); err != nil {
		return err
	}
	iw := &imageWriter{index: x, w: w}
	iw.begin()
	var err error
	x.tree.ascend(nil, nil, func(id uint32, _ bool) bool {
		err = iw.key(id)
		return err == nil
	})
	if err != nil {
		return err
	}
	return iw.end()
}

// imageWriter writes the blocks.
type imageWriter struct {
	index *index
	w     io.Writer
	// block is the open one, with room for its header; last the key before.
	block, last []byte
	sum         uint32
}

func (w *imageWriter) begin() {
	w.block, w.last = append(w.block[:0], make([]byte, blockHeaderBytes)...), nil
}

func (w *imageWriter) key(id uint32) error {
	key, r := w.index.keys.key(id), w.index.record(id)
	shared := commonPrefix(w.last, key)
	w.block = binary.AppendUvarint(w.block, uint64(shared))
	w.block = binary.AppendUvarint(w.block, uint64(len(key)-shared))
	w.block = append(w.block, key[shared:]...)
	w.block = w.index.appendNewest(w.block, id, r)
	w.block = w.index.appendOlder(w.block, r)
	w.last = key
	if len(w.block) < imageBlockBytes {
		return nil
	}
	return w.flush()
}

func (x *index) appendNewest(b []byte, id uint32, r *keyRecord) []byte {
	at, lease := r.newest(), x.lease(id)
	var flags byte
	if at.dead {
		flags |= flagDead
	}
	if at.sub != 0 {
		flags |= flagSub
	}
	if lease != 0 {
		flags |= flagLease
	}
	if r.olderN > 0 {
		flags |= flagOlder
	}
	b = binary.AppendUvarint(append(b, flags), uint64(at.main))
	if at.sub != 0 {
		b = binary.AppendUvarint(b, uint64(at.sub))
	}
	if !at.dead {
		b = binary.AppendUvarint(b, uint64(at.main-r.created))
		b = binary.AppendUvarint(b, uint64(r.version))
	}
	if lease != 0 {
		b = binary.AppendUvarint(b, uint64(lease))
	}
	if r.olderN > 0 {
		b = binary.AppendUvarint(b, uint64(r.olderN))
	}
	return b
}

func (x *index) appendOlder(b []byte, r *keyRecord) []byte {
	newer := r.main
	for i := int(r.olderN) - 1; i >= 0; i-- {
		at := x.keys.revision(r, i)
		b = binary.AppendUvarint(b, uint64(newer-at.main))
		sub := uint64(at.sub) << 1
		if at.dead {
			sub |= 1
		}
		b = binary.AppendUvarint(b, sub)
		newer = at.main
	}
	return b
}

// flush writes the open block.
func (w *imageWriter) flush() error {
	size := len(w.block) - blockHeaderBytes
	if size > maxImageBlockBytes {
		return fmt.Errorf("mvcc: a key with its revisions takes %d bytes of an image, %d are allowed", size, maxImageBlockBytes)
	}
	binary.LittleEndian.PutUint32(w.block, uint32(size))
	crc := imageCRC(w.block[:4], w.block[blockHeaderBytes:])
	binary.LittleEndian.PutUint32(w.block[4:], crc)
	w.sum = addCRC(w.sum, crc)
	_, err := w.w.Write(w.block)
	w.begin()
	return err
}

func (w *imageWriter) end() error {
	if len(w.block) > blockHeaderBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	_, err := w.w.Write(binary.LittleEndian.AppendUint32(make([]byte, 4, blockHeaderBytes), w.sum))
	return err
}

// imageCRC is the checksum of a block.
func imageCRC(size, keys []byte) uint32 {
	return crc32.Update(crc32.Checksum(size, castagnoli), castagnoli, keys)
}

func addCRC(sum, crc uint32) uint32 {
	return crc32.Update(sum, castagnoli, binary.LittleEndian.AppendUint32(nil, crc))
}
