package engine

import (
	"bytes"
	"errors"
	"testing"
)

func collect(t *testing.T, b *Batch) []Op {
	t.Helper()
	var ops []Op
	if err := b.Each(func(op Op) error { ops = append(ops, op); return nil }); err != nil {
		t.Fatal(err)
	}
	return ops
}

func TestBatchKeepsOperationsInOrderAndCopies(t *testing.T) {
	b := NewBatch()
	key, value := []byte("k1"), []byte("v1")
	b.Put(Meta, key, value)
	copy(key, "xx")
	copy(value, "yy")
	b.Delete(Revisions, []byte("k2"))
	b.DeleteRange(Meta, []byte("a"), []byte("c"))
	b.DeleteRange(Revisions, nil, nil)
	b.Put(Meta, []byte("empty"), nil)

	ops := collect(t, b)
	want := []Op{
		{Kind: OpPut, Space: Meta, Key: []byte("k1"), Value: []byte("v1")},
		{Kind: OpDelete, Space: Revisions, Key: []byte("k2")},
		{Kind: OpDeleteRange, Space: Meta, Key: []byte("a"), To: []byte("c")},
		{Kind: OpDeleteRange, Space: Revisions},
		{Kind: OpPut, Space: Meta, Key: []byte("empty"), Value: []byte{}},
	}
	if len(ops) != len(want) || b.Len() != len(want) {
		t.Fatalf("got %d operations (Len %d), want %d", len(ops), b.Len(), len(want))
	}
	for i, w := range want {
		g := ops[i]
		if g.Kind != w.Kind || g.Space != w.Space || !bytes.Equal(g.Key, w.Key) ||
			!bytes.Equal(g.Value, w.Value) || !bytes.Equal(g.To, w.To) ||
			(g.Value == nil) != (w.Value == nil) || (g.To == nil) != (w.To == nil) {
			t.Errorf("operation %d: got %+v, want %+v", i, g, w)
		}
	}
	if got, want := b.SizeBytes(), len("k1v1k2acempty"); got != want {
		t.Errorf("SizeBytes: got %d, want %d", got, want)
	}
	b.Reset()
	if b.Len() != 0 || b.SizeBytes() != 0 || len(collect(t, b)) != 0 {
		t.Error("Reset left operations behind")
	}
}

func TestBatchDropsRangesThatHoldNothing(t *testing.T) {
	b := NewBatch()
	b.DeleteRange(Meta, []byte("b"), []byte("b"))
	b.DeleteRange(Meta, []byte("b"), []byte("a"))
	b.DeleteRange(Meta, nil, []byte{})
	if b.Len() != 0 {
		t.Errorf("got %d operations, want none", b.Len())
	}
}

func TestBatchEachStopsAtAnError(t *testing.T) {
	b := NewBatch()
	b.Put(Meta, []byte("a"), nil)
	b.Put(Meta, []byte("b"), nil)
	stop, calls := errors.New("stop"), 0
	err := b.Each(func(Op) error { calls++; return stop })
	if err != stop || calls != 1 {
		t.Errorf("got error %v after %d calls, want %v after 1", err, calls, stop)
	}
}

func TestBatchAllocatesNothingWhenReused(t *testing.T) {
	b := NewBatch()
	key, value := make([]byte, 32), make([]byte, 128)
	fill := func() {
		b.Reset()
		for range 64 {
			b.Put(Revisions, key, value)
		}
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("got %v allocations a refill, want 0", n)
	}
}

func TestGroupKeyOrdersByGroup(t *testing.T) {
	got := GroupID(0x01020304).Key([]byte("ab"), nil, []byte("c"))
	if want := []byte("\x01\x02\x03\x04abc"); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if bytes.Compare(GroupID(1).Key([]byte{0xff, 0xff}), GroupID(2).Key()) >= 0 {
		t.Error("a key of group 1 is not before the keys of group 2")
	}
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ prefix, want []byte }{
		{[]byte("a"), []byte("b")},
		{[]byte("a\xff"), []byte("b")},
		{[]byte("a\x00"), []byte("a\x01")},
		{[]byte("a\xfe\xff\xff"), []byte("a\xff")},
		{[]byte("\xff\xff"), nil},
		{nil, nil},
	} {
		got := PrefixEnd(c.prefix)
		if !bytes.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("PrefixEnd(%x): got %x, want %x", c.prefix, got, c.want)
		}
	}
	prefix := []byte("ab")
	PrefixEnd(prefix)
	if string(prefix) != "ab" {
		t.Errorf("PrefixEnd changed its argument to %q", prefix)
	}
}
