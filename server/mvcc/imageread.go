package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"metastore.io/metastore/server/engine"
)

// OpenImage is Open for an engine whose rows are exactly those that an image was
// written of, when the entry of the log was applied: it does not read them.
// ErrNoImage or ErrImageDamaged is wrapped where the image is of no use, and Open
// is.
func OpenImage(e engine.Engine, g engine.GroupID, image io.Reader, applied Applied) (*Store, error) {
	var head [imageHeaderBytes]byte
	if _, err := io.ReadFull(image, head[:]); err != nil {
		return nil, imageError(0, err)
	}
	h, err := decodeImageHeader(head[:])
	if err != nil {
		return nil, err
	}
	c, err := ReadCompaction(e, g)
	if err != nil {
		return nil, err
	}
	if h.group != uint32(g) || h.applied != applied || c.Scheduled != h.compact || c.Finished != h.compact {
		return nil, fmt.Errorf("%w: it is of group %d, entry %d of term %d, compact revision %d", ErrNoImage, h.group, h.applied.Index, h.applied.Term, h.compact)
	}
	s := newStore(e, g, c, newIndex())
	ir := &imageReader{index: s.index, r: image, h: h, offset: imageHeaderBytes}
	if err := ir.read(); err != nil {
		return nil, err
	}
	s.published.Store(h.revision)
	return s, s.checkNewest()
}

// checkNewest compares where the rows end with the revision: of all that a scan
// would find, this costs next to nothing.
func (s *Store) checkNewest() error {
	rev, prefix := s.Rev(), s.group.Key()
	found := rev <= max(s.CompactRev(), firstRevision) // it may be gone, or have had no row
	err := s.engine.Scan(engine.Revisions, appendMain(nil, s.group, rev), engine.PrefixEnd(prefix), func(key, _ []byte) (bool, error) {
		at, err := parseRowKey(key)
		if err != nil {
			return false, err
		}
		if at.main > rev {
			return false, fmt.Errorf("%w: it ends at revision %d, the rows do not", ErrNoImage, rev)
		}
		found = true
		return true, nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: it has revision %d, the rows do not", ErrNoImage, rev)
	}
	return err
}

// imageError is a failure to read at an offset: of the disk, or of the image.
func imageError(offset int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it ends there", ErrImageDamaged)
	}
	return fmt.Errorf("offset %d: %w", offset, err)
}

// maxExpectedKeys bounds the memory that is taken on a header's word.
const maxExpectedKeys = 64 << 20

// imageReader fills an empty index.
type imageReader struct {
	index *index
	r     io.Reader
	h     imageHeader
	// offset is where the next block lies; keys counts those that were read.
	offset int64
	keys   uint64
	sum    uint32
	build  treeBuilder
	block  []byte
	// key is the last one.
	key []byte
	// links are the keys of the block: put into the hash table in one go, they do
	// not wait for the memory one after the other.
	links []hashed
	// older are the older revisions of a key, the newest first.
	older []stamp
}

func (r *imageReader) read() error {
	r.index.points.expect(uint32(min(r.h.keys, maxExpectedKeys)))
	r.build = treeBuilder{tree: &r.index.tree}
	for {
		if done, err := r.readBlock(); err != nil {
			return imageError(r.offset, err)
		} else if done {
			break
		}
	}
	if r.keys != r.h.keys {
		return imageError(r.offset, fmt.Errorf("%w: it holds %d keys, the header says %d", ErrImageDamaged, r.keys, r.h.keys))
	}
	r.build.finish()
	return nil
}

func (r *imageReader) readBlock() (done bool, err error) {
	var head [blockHeaderBytes]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return false, err
	}
	size, crc := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if size == 0 {
		return true, r.end(crc)
	}
	if size > maxImageBlockBytes+imageBlockBytes {
		return false, fmt.Errorf("%w: a block of %d bytes", ErrImageDamaged, size)
	}
	if uint64(cap(r.block)) < uint64(size) {
		r.block = make([]byte, size)
	}
	r.block = r.block[:size]
	if _, err := io.ReadFull(r.r, r.block); err != nil {
		return false, err
	}
	if imageCRC(head[:4], r.block) != crc {
		return false, fmt.Errorf("%w: a block", ErrImageDamaged)
	}
	r.sum = addCRC(r.sum, crc)
	d := imageDecoder{rest: r.block}
	for first := true; len(d.rest) > 0; first = false {
		if !r.readKey(&d, first) {
			return false, fmt.Errorf("%w: key %d does not decode", ErrImageDamaged, r.keys)
		}
	}
	r.link()
	r.offset += blockHeaderBytes + int64(size)
	return false, nil
}

// hashed is a record and its key's hash.
type hashed struct {
	id   uint32
	hash uint64
}

func (r *imageReader) link() {
	for _, l := range r.links {
		r.index.link(l.id, r.index.record(l.id), l.hash)
	}
	r.links = r.links[:0]
}

func (r *imageReader) end(sum uint32) error {
	if sum != r.sum {
		return fmt.Errorf("%w: the trailer", ErrImageDamaged)
	}
	switch _, err := io.ReadFull(r.r, make([]byte, 1)); {
	case err == nil:
		return fmt.Errorf("%w: bytes follow the trailer", ErrImageDamaged)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// readKey adds the next key to the index.
func (r *imageReader) readKey(d *imageDecoder, first bool) bool {
	shared := d.length(len(r.key))
	rest := d.take(d.length(len(d.rest)))
	if d.bad || first && shared > 0 {
		return false
	}
	// What follows the shared part has to be greater than what did before.
	if r.keys > 0 && bytes.Compare(r.key[shared:], rest) >= 0 {
		return false
	}
	r.key = append(r.key[:shared], rest...)
	flags := d.byte()
	at := stamp{main: d.int(), dead: flags&flagDead != 0}
	if flags&flagSub != 0 {
		at.sub = d.sub()
	}
	var created, version, lease int64
	if !at.dead {
		created, version = at.main-d.int(), d.int()
	}
	if flags&flagLease != 0 {
		lease = d.int()
	}
	r.older = r.older[:0]
	if flags&flagOlder != 0 {
		r.readOlder(d, at)
	}
	if d.bad || at.main > r.h.revision || created < 0 || at.dead && lease != 0 {
		return false
	}
	id := r.index.keys.add(r.key, at)
	rec := r.index.record(id)
	rec.created, rec.version = created, version
	r.index.keys.fillOlder(rec, r.older)
	r.links = append(r.links, hashed{id, r.index.hash(r.key)})
	r.index.setLease(id, 0, lease)
	r.build.add(id, !at.dead)
	r.keys++
	return true
}

// readOlder reads the revisions before one.
func (r *imageReader) readOlder(d *imageDecoder, newer stamp) {
	for n := d.length(len(d.rest)); n > 0 && !d.bad; n-- {
		back, sub := d.int(), d.int()
		at := stamp{main: newer.main - back, sub: uint32(sub >> 1), dead: sub&1 != 0}
		d.bad = d.bad || at.main < 0 || sub>>1 > maxSub || !at.before(newer)
		r.older = append(r.older, at)
		newer = at
	}
}

// imageDecoder reads a block. After the first failure all reads give zeros.
type imageDecoder struct {
	rest []byte
	bad  bool
}

func (d *imageDecoder) uvarint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 {
		v := d.rest[0]
		d.rest = d.rest[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// int reads what an int64 holds.
func (d *imageDecoder) int() int64 {
	v := d.uvarint()
	d.bad = d.bad || v > math.MaxInt64
	return int64(v)
}

func (d *imageDecoder) sub() uint32 {
	v := d.uvarint()
	d.bad = d.bad || v > maxSub
	return uint32(v)
}

// length reads a length that is at most limit; of lists, whose elements take a
// byte or more each, that is what is left.
func (d *imageDecoder) length(limit int) int {
	v := d.uvarint()
	if v > uint64(limit) {
		d.bad = true
		return 0
	}
	return int(v)
}

func (d *imageDecoder) byte() byte {
	if len(d.rest) == 0 {
		d.bad = true
		return 0
	}
	v := d.rest[0]
	d.rest = d.rest[1:]
	return v
}

func (d *imageDecoder) take(n int) []byte {
	if n > len(d.rest) {
		d.bad = true
		return nil
	}
	v := d.rest[:n]
	d.rest = d.rest[n:]
	return v
}
