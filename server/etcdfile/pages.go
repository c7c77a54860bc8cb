package etcdfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// bbolt trusts the pages that it reads: over a damaged one it panics, in
// goroutines of its own too, or follows pages in a circle. So where no SHA-256
// vouches for a file its tree is walked here first. Integers of the format are
// little endian on all machines that this program is built for.
//
//	page    id 8 | flags 2 | count 2 | overflow 4 | count elements | their bytes
//	branch  position 4 | key length 4 | page id 8
//	leaf    flags 4 | position 4 | key length 4 | value length 4
//	bucket  root page id 8 | sequence 8 | the page itself, when its id is 0
//
// A position counts from its own element. overflow is how many pages more
// belong to this one.
const (
	pageHeaderBytes = 16
	elementBytes    = 16
	bucketBytes     = 16

	branchPage = 1
	leafPage   = 2
	bucketLeaf = 1

	// maxDepth is more than any tree has: a page has two children and more.
	maxDepth = 64
)

var errPage = errors.New("it is damaged: its pages do not form a database")

// pageWalk walks the trees of a file.
type pageWalk struct {
	file     io.ReaderAt
	pageSize uint64
	// seen has an entry for each page of the file, and is true for those that
	// were met: each belongs to one place.
	seen []bool
}

func checkPages(file io.ReaderAt, tx *bbolt.Tx) error {
	size := uint64(tx.DB().Info().PageSize)
	w := &pageWalk{file: file, pageSize: size, seen: make([]bool, uint64(tx.Size())/size)}
	return w.tree(uint64(tx.Cursor().Bucket().Root()))
}

// tree checks one bucket, whose keys ascend over all its pages.
func (w *pageWalk) tree(root uint64) error {
	var last []byte
	return w.page(root, 0, &last)
}

func (w *pageWalk) page(id uint64, depth int, last *[]byte) error {
	p, err := w.read(id)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("%w: too deep at page %d", errPage, id)
	}
	if p.flags() == leafPage {
		return w.leaf(p, last)
	}
	if p.flags() != branchPage || p.count() == 0 {
		return fmt.Errorf("%w: page %d is neither branch nor leaf", errPage, id)
	}
	for i := range p.count() {
		at := p.element(i)
		if _, ok := p.part(at, p.u32(at), p.u32(at+4)); !ok {
			return fmt.Errorf("%w: element %d of page %d", errPage, i, id)
		}
		if err := w.page(p.u64(at+8), depth+1, last); err != nil {
			return err
		}
	}
	return nil
}

// read reads a page with its overflow, once.
func (w *pageWalk) read(id uint64) (page, error) {
	n := uint64(len(w.seen))
	if id < 2 || id >= n {
		return nil, fmt.Errorf("%w: page %d of %d", errPage, id, n)
	}
	head := make(page, pageHeaderBytes)
	if _, err := w.file.ReadAt(head, int64(id*w.pageSize)); err != nil {
		return nil, err
	}
	pages := 1 + uint64(head.u32(12))
	if head.u64(0) != id || pages > n-id {
		return nil, fmt.Errorf("%w: page %d says that it is page %d", errPage, id, head.u64(0))
	}
	for i := id; i < id+pages; i++ {
		if w.seen[i] {
			return nil, fmt.Errorf("%w: page %d is in two places", errPage, i)
		}
		w.seen[i] = true
	}
	p := make(page, pages*w.pageSize)
	if _, err := w.file.ReadAt(p, int64(id*w.pageSize)); err != nil {
		return nil, err
	}
	if !p.holds(p.count()) {
		return nil, fmt.Errorf("%w: page %d has %d elements", errPage, id, p.count())
	}
	return p, nil
}

func (w *pageWalk) leaf(p page, last *[]byte) error {
	for i := range p.count() {
		at := p.element(i)
		pos, keyLen, valueLen := p.u32(at+4), p.u32(at+8), p.u32(at+12)
		key, ok := p.part(at, pos, keyLen)
		value, ok2 := p.part(at, pos+keyLen, valueLen)
		if !ok || !ok2 || *last != nil && bytes.Compare(*last, key) >= 0 {
			return fmt.Errorf("%w: row %d of page %d", errPage, i, p.u64(0))
		}
		*last = bytes.Clone(key)
		if *last == nil {
			*last = []byte{}
		}
		if p.u32(at)&bucketLeaf == 0 {
			continue
		}
		if err := w.bucket(page(value)); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks a bucket's value.
func (w *pageWalk) bucket(value page) error {
	if len(value) < bucketBytes {
		return fmt.Errorf("%w: a bucket of %d bytes", errPage, len(value))
	}
	if root := value.u64(0); root != 0 {
		return w.tree(root)
	}
	inline := value[bucketBytes:]
	if len(inline) < pageHeaderBytes || inline.flags() != leafPage || !inline.holds(inline.count()) {
		return fmt.Errorf("%w: a small bucket", errPage)
	}
	var last []byte
	return w.leaf(inline, &last)
}

// page is the bytes of a page. Positions that a caller has not checked come
// through part.
type page []byte

func (p page) u32(at int) uint32 { return binary.LittleEndian.Uint32(p[at:]) }
func (p page) u64(at int) uint64 { return binary.LittleEndian.Uint64(p[at:]) }
func (p page) flags() uint16     { return binary.LittleEndian.Uint16(p[8:]) }
func (p page) count() int        { return int(binary.LittleEndian.Uint16(p[10:])) }
func (p page) element(i int) int { return pageHeaderBytes + i*elementBytes }
func (p page) holds(n int) bool  { return p.element(n) <= len(p) }

// part is n bytes at a position that counts from an element.
func (p page) part(element int, pos, n uint32) (b []byte, ok bool) {
	from := uint64(element) + uint64(pos)
	to := from + uint64(n)
	if to > uint64(len(p)) {
		return nil, false
	}
	return p[from:to], true
}
