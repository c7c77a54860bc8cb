package difftest

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// oddities makes the bytes of requests that no client should send: fields with
// values that make no sense, fields that are missing, there twice, unknown, or
// of another kind, and what is no message at all. It writes the wire format by
// itself, since no library would.
type oddities struct{ rng *rand.Rand }

func (o oddities) chance(percent int) bool { return o.rng.IntN(100) < percent }

// mostNested bounds how deep messages are within each other.
const mostNested = 4

var (
	oddStrings = []string{
		"", "u1", "u1", "u2", "r1", "r1", "r2", "\xff\xfe", "caf\xe9", "ü", "a\x00b", " ", strings.Repeat("x", 100),
		"http://127.0.0.1:0", "http://127.0.0.1:0/path", "no URL", "unix://there", "3.6", "3.6.0", "99.1", "-1",
	}
	oddBytes = []string{
		"", "a", "a", "a/1", "b", "k/1", "\x00", "\x00", "\xff", "\xff\xff", "\xf0\x28", "a\x00", strings.Repeat("k", 1000),
	}
	oddInts = []int64{
		0, 0, 1, 1, 2, 3, 7, -1, 100, 1_000_000, 9_000_000_000, 9_000_000_001,
		math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, math.MaxInt32, math.MinInt32, 1 << 40,
	}
	oddEnums = []int64{0, 0, 1, 1, 2, 2, 3, 4, 5, 7, -1, math.MaxInt32, math.MinInt32, 1 << 33}
)

func pickOf[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// body is the bytes of a request of a kind.
func (o oddities) body(d protoreflect.MessageDescriptor) []byte {
	switch o.rng.IntN(20) {
	case 0:
		return o.garbage(o.rng.IntN(40))
	case 1:
		b := o.message(d, 0)
		return b[:o.rng.IntN(len(b)+1)]
	case 2: // one byte is another
		b := o.message(d, 0)
		if len(b) > 0 {
			b[o.rng.IntN(len(b))] = byte(o.rng.UintN(256))
		}
		return b
	}
	return o.message(d, 0)
}

func (o oddities) garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(o.rng.UintN(256))
	}
	return b
}

func (o oddities) message(d protoreflect.MessageDescriptor, depth int) []byte {
	var b []byte
	fields := d.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		n := 0
		switch {
		case depth >= mostNested && f.Message() != nil:
		case f.IsList():
			n = o.rng.IntN(4)
		case f.ContainingOneof() != nil: // mostly one of them
			if o.rng.IntN(f.ContainingOneof().Fields().Len()) == 0 {
				n = 1
			}
		case o.chance(3):
			n = 2 // the last one counts; messages are merged
		case o.chance(65):
			n = 1
		}
		for range n {
			b = o.field(b, f, depth)
		}
	}
	if o.chance(5) {
		b = o.unknown(b)
	}
	return b
}

// field appends one field, now and then of another kind than it is.
func (o oddities) field(b []byte, f protoreflect.FieldDescriptor, depth int) []byte {
	n := f.Number()
	if o.chance(1) {
		return protowire.AppendFixed32(protowire.AppendTag(b, n, protowire.Fixed32Type), 7)
	}
	switch f.Kind() {
	case protoreflect.MessageKind:
		return appendBytes(b, n, o.message(f.Message(), depth+1))
	case protoreflect.StringKind:
		return appendBytes(b, n, []byte(pickOf(o.rng, oddStrings)))
	case protoreflect.BytesKind:
		return appendBytes(b, n, []byte(pickOf(o.rng, oddBytes)))
	case protoreflect.BoolKind:
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(o.rng.IntN(3)))
	case protoreflect.EnumKind:
		v := uint64(pickOf(o.rng, oddEnums))
		if f.IsList() && o.chance(50) { // filters of watchers can come packed
			return appendBytes(b, n, protowire.AppendVarint(nil, v))
		}
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(pickOf(o.rng, oddInts)))
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// unknown appends a field that no request has.
func (o oddities) unknown(b []byte) []byte {
	const n = 1000
	switch o.rng.IntN(5) {
	case 0:
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), 1)
	case 1:
		return appendBytes(b, n, []byte("\xff"))
	case 2: // a group that ends
		b = protowire.AppendTag(b, n, protowire.StartGroupType)
		return protowire.AppendTag(b, n, protowire.EndGroupType)
	case 3: // a group that does not
		return protowire.AppendTag(b, n, protowire.StartGroupType)
	}
	// A number of more than 64 bits.
	return append(protowire.AppendTag(b, n, protowire.VarintType), bytes.Repeat([]byte{0xff}, 11)...)
}
