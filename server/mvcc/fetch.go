package mvcc

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// fetch is the scratch of one read: the pairs of some chunks, and the rows that
// they still need.
type fetch struct {
	// kvs are the pairs; missing says which rows to read for them.
	kvs     []*mvccpb.KeyValue
	missing []missing
	// wanted is how many pairs the whole answer has, 0 when nobody knows.
	wanted int64
	pairs  slabs[mvccpb.KeyValue]
	// order are the rows of a part in the order of their revisions, in which
	// engines find them fastest; keyMem, keys and rows follow it.
	order  []place
	keyMem []byte
	keys   [][]byte
	rows   [][]byte
}

// missing is a pair that waits for its row.
type missing struct {
	// kv is nil where only the row is wanted.
	kv       *mvccpb.KeyValue
	at       stamp
	keysOnly bool
	row      []byte
}

// place says where in a part the row of a revision belongs.
type place struct {
	main int64
	sub  uint32
	i    int32
}

var fetches = sync.Pool{New: func() any { return new(fetch) }}

// release forgets what the read held and keeps the memory.
func (f *fetch) release() {
	f.reset()
	f.pairs, f.wanted = slabs[mvccpb.KeyValue]{}, 0
	fetches.Put(f)
}

func (f *fetch) reset() {
	clear(f.kvs)
	clear(f.missing)
	clear(f.rows)
	f.kvs, f.missing, f.rows = f.kvs[:0], f.missing[:0], f.rows[:0]
}

// load reads the missing rows and moves the pairs to the result. mu is not held.
func (v *view) load(f *fetch, res *RangeResult, o RangeOptions) error {
	if err := v.store.fill(f, o.Grow); err != nil {
		return err
	}
	if o.EncodeTag != 0 {
		res.Encoded = f.encode(res.Encoded, o.EncodeTag)
		f.reset()
		return nil
	}
	if o.Grow != nil && len(f.missing) == 0 {
		if err := o.Grow(pairsBytes(f.kvs)); err != nil {
			return err
		}
	}
	res.KVs = append(res.KVs, f.kvs...)
	f.reset()
	return nil
}

// firstEncodedBytes bounds the memory that is taken for an answer at first.
const firstEncodedBytes = 8 << 20

// encode appends the rows as they are. Memory for the whole answer is taken
// when the first of them tell how long rows are, unless it is large.
func (f *fetch) encode(dst []byte, tag byte) []byte {
	size := 0
	for i := range f.missing {
		size += 1 + binary.MaxVarintLen32 + len(f.missing[i].row)
	}
	if n := int64(len(f.missing)); len(dst) == 0 && f.wanted > n {
		size = max(size, int(min(f.wanted*int64(size)/n+int64(size)/8, firstEncodedBytes)))
	}
	dst = slices.Grow(dst, size)
	for i := range f.missing {
		row := f.missing[i].row
		dst = binary.AppendUvarint(append(dst, tag), uint64(len(row)))
		dst = append(dst, row...)
	}
	return dst
}

// fill reads the rows that pairs wait for. Each is there: published rows are
// removed by a sweep only, and a sweep leaves what pinned readers see.
func (s *Store) fill(f *fetch, grow func(int) error) error {
	part := fillRows
	if grow != nil {
		part = firstPart
	}
	for rest := f.missing; len(rest) > 0; {
		n := min(len(rest), part)
		if err := s.fillPart(f, rest[:n]); err != nil {
			return err
		}
		if grow != nil {
			size := 0
			for i := range rest[:n] {
				size += rest[i].sizeBytes()
			}
			if err := grow(size); err != nil {
				return err
			}
			part = min(max(partBytes*n/size, 1), fillRows)
		}
		rest = rest[n:]
	}
	return nil
}

// sizeBytes is about what the pair takes on the wire.
func (m *missing) sizeBytes() int {
	if m.kv == nil {
		return pairOverheadBytes + len(m.row)
	}
	return pairBytes(m.kv)
}

func pairBytes(kv *mvccpb.KeyValue) int { return pairOverheadBytes + len(kv.Key) + len(kv.Value) }

func pairsBytes(kvs []*mvccpb.KeyValue) (n int) {
	for _, kv := range kvs {
		n += pairBytes(kv)
	}
	return n
}

func (s *Store) fillPart(f *fetch, part []missing) error {
	f.sort(part)
	f.keyMem, f.keys, f.rows = f.keyMem[:0], f.keys[:0], f.rows[:0]
	f.keyMem = slices.Grow(f.keyMem, len(part)*(rowKeyLen+1)) // keys stay where they are
	for _, p := range f.order {
		from := len(f.keyMem)
		f.keyMem = appendRowKey(f.keyMem, s.group, part[p.i].at)
		f.keys = append(f.keys, f.keyMem[from:])
		f.rows = append(f.rows, nil)
	}
	if err := s.getRows(f); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	for n, p := range f.order {
		if err := part[p.i].take(f.rows[n]); err != nil {
			return err
		}
	}
	return nil
}

// sort brings the part's rows in the order of their revisions.
func (f *fetch) sort(part []missing) {
	f.order = f.order[:0]
	ascending := true
	for i := range part {
		f.order = append(f.order, place{part[i].at.main, part[i].at.sub, int32(i)})
		ascending = ascending && (i == 0 || part[i-1].at.before(part[i].at))
	}
	if !ascending {
		slices.SortFunc(f.order, func(a, b place) int {
			if a.main != b.main {
				return cmp.Compare(a.main, b.main)
			}
			return cmp.Compare(a.sub, b.sub)
		})
	}
}

func (s *Store) getRows(f *fetch) (err error) {
	if len(f.keys) == 1 {
		f.rows[0], _, err = s.engine.Get(engine.Revisions, f.keys[0])
		return err
	}
	return s.engine.GetMany(engine.Revisions, f.keys, f.rows)
}

// take gives the pair its row.
func (m *missing) take(row []byte) error {
	if row == nil {
		return fmt.Errorf("mvcc: row of revision %d.%d is missing: %w", m.at.main, m.at.sub, engine.ErrCorrupt)
	}
	m.row = row
	if m.kv == nil {
		return nil
	}
	if err := decodeRow(row, m.kv); err != nil {
		return fmt.Errorf("revision %d.%d: %w", m.at.main, m.at.sub, err)
	}
	if m.keysOnly {
		m.kv.Value, m.kv.Lease = nil, 0
	}
	return nil
}
