package engine

// OpKind is what an operation of a batch does.
type OpKind uint8

const (
	// OpPut sets Key to Value.
	OpPut OpKind = 1
	// OpDelete removes Key; a missing key is no error.
	OpDelete OpKind = 2
	// OpDeleteRange removes the rows Key <= k < To; a nil To is unbounded.
	OpDeleteRange OpKind = 3
)

// Op is one operation of a batch. The slices belong to the batch.
type Op struct {
	Kind  OpKind
	Space Space
	// Key is the row's key, or where a range begins.
	Key []byte
	// Value is set for OpPut and never nil there.
	Value []byte
	// To is where a range ends.
	To []byte
}

// opRef says where in the arena an operation's bytes are.
type opRef struct {
	kind  OpKind
	space Space
	// unbounded marks a range without an end.
	unbounded bool
	// start is where the key begins; the second part (Value or To) follows it.
	start, keyLen, restLen int
}

// Batch collects operations that Apply writes atomically and in order: a later
// operation sees the effect of an earlier one. It copies what it is given, so
// the caller may reuse its buffers. One goroutine uses a batch at a time.
type Batch struct {
	arena []byte
	ops   []opRef
}

// NewBatch makes an empty batch.
func NewBatch() *Batch { return &Batch{} }

// Put sets a key.
func (b *Batch) Put(s Space, key, value []byte) {
	b.add(opRef{kind: OpPut, space: s}, key, value)
}

// Delete removes a key.
func (b *Batch) Delete(s Space, key []byte) {
	b.add(opRef{kind: OpDelete, space: s}, key, nil)
}

// DeleteRange removes the rows from <= key < to. A nil from or to is
// unbounded; a range that can hold nothing is dropped.
func (b *Batch) DeleteRange(s Space, from, to []byte) {
	if to != nil && string(from) >= string(to) {
		return
	}
	b.add(opRef{kind: OpDeleteRange, space: s, unbounded: to == nil}, from, to)
}

func (b *Batch) add(r opRef, key, rest []byte) {
	r.start, r.keyLen, r.restLen = len(b.arena), len(key), len(rest)
	b.arena = append(append(b.arena, key...), rest...)
	b.ops = append(b.ops, r)
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.arena, b.ops = b.arena[:0], b.ops[:0]
}

// Len is the number of operations.
func (b *Batch) Len() int { return len(b.ops) }

// SizeBytes is the length of all keys and values.
func (b *Batch) SizeBytes() int { return len(b.arena) }

// Each calls fn for every operation in order until fn returns an error, which
// it returns. fn must not change the slices, nor keep them beyond Reset.
func (b *Batch) Each(fn func(op Op) error) error {
	for i := range b.ops {
		if err := fn(b.op(i)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) op(i int) Op {
	r := &b.ops[i]
	mid := r.start + r.keyLen
	end := mid + r.restLen
	op := Op{Kind: r.kind, Space: r.space, Key: b.arena[r.start:mid:mid]}
	rest := b.arena[mid:end:end]
	switch {
	case r.kind == OpPut:
		op.Value = rest
	case r.kind == OpDeleteRange && !r.unbounded:
		op.To = rest
	}
	return op
}
