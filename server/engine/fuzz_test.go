package engine

import (
	"bytes"
	"testing"
)

// FuzzPrefixEnd: a key has the prefix exactly if it lies in the range.
func FuzzPrefixEnd(f *testing.F) {
	f.Add([]byte("a"), []byte("ab"))
	f.Add([]byte("a\xff"), []byte("b"))
	f.Add([]byte("\xff\xff"), []byte("\xff\xff\x00"))
	f.Add([]byte{}, []byte("x"))
	f.Fuzz(func(t *testing.T, prefix, key []byte) {
		end := PrefixEnd(prefix)
		inside := bytes.Compare(key, prefix) >= 0 && (end == nil || bytes.Compare(key, end) < 0)
		if inside != bytes.HasPrefix(key, prefix) {
			t.Fatalf("prefix %q ends at %q: %q lies inside: %v", prefix, end, key, inside)
		}
	})
}

// FuzzBatch: a batch gives back what it was given, whatever the caller does with
// its buffers meanwhile.
func FuzzBatch(f *testing.F) {
	f.Add([]byte("\x01\x00ab"), []byte("value"))
	f.Add([]byte("\x03\x01z"), []byte{})
	f.Fuzz(func(t *testing.T, script, value []byte) {
		type step struct {
			kind     OpKind
			space    Space
			key, end string
		}
		var want []step
		b := NewBatch()
		for len(script) >= 3 {
			kind, space := OpKind(script[0]%3+1), Space(script[1]%SpaceCount)
			key := bytes.Clone(script[2 : 3+int(script[2])%(len(script)-2)])
			script = script[2+len(key):]
			rest := bytes.Clone(value)
			switch kind {
			case OpPut:
				b.Put(space, key, rest)
			case OpDelete:
				b.Delete(space, key)
				rest = nil
			case OpDeleteRange:
				b.DeleteRange(space, key, rest)
				if bytes.Compare(key, rest) >= 0 {
					continue // can hold nothing
				}
			}
			want = append(want, step{kind, space, string(key), string(rest)})
			clear(key)
			clear(rest)
		}
		var got []step
		err := b.Each(func(op Op) error {
			got = append(got, step{op.Kind, op.Space, string(op.Key), string(op.Value) + string(op.To)})
			if op.Kind == OpPut && op.Value == nil {
				t.Error("a put without a value")
			}
			return nil
		})
		if err != nil || len(got) != len(want) || b.Len() != len(want) {
			t.Fatalf("%d operations, want %d: %v", len(got), len(want), err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("operation %d is %q, want %q", i, got[i], want[i])
			}
		}
	})
}
