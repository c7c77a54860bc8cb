package mvcc

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
)

func rowSamples() []*mvccpb.KeyValue {
	return []*mvccpb.KeyValue{
		{},
		{Key: []byte("a")},
		{Key: []byte("a"), CreateRevision: 2, ModRevision: 2, Version: 1},
		{Key: []byte{0, 0xff, 0x80}, CreateRevision: 127, ModRevision: 128, Version: 16384, Value: []byte("v")},
		{Key: bytes.Repeat([]byte("k"), 300), Value: bytes.Repeat([]byte{0}, 70000), Lease: math.MaxInt64},
		{Key: []byte("neg"), Lease: -1, CreateRevision: math.MaxInt64, ModRevision: math.MaxInt64, Version: math.MaxInt64},
	}
}

func TestRowsEncodeAsProtobufDoes(t *testing.T) {
	for _, kv := range rowSamples() {
		want, err := proto.Marshal(kv)
		if err != nil {
			t.Fatal(err)
		}
		got := appendRow(nil, kv)
		if !bytes.Equal(got, want) {
			t.Fatalf("row %v: got %x, want %x", kv, got, want)
		}
		var back mvccpb.KeyValue
		if err := decodeRow(got, &back); err != nil || !proto.Equal(&back, kv) {
			t.Fatalf("row %v decodes to %v, %v", kv, &back, err)
		}
	}
}

// FuzzDecodeRow checks that what decodes means the same to protobuf, and that
// what an encoder made always decodes.
func FuzzDecodeRow(f *testing.F) {
	for _, kv := range rowSamples() {
		f.Add(appendRow(nil, kv))
	}
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{0x38, 0x01})
	f.Fuzz(func(t *testing.T, row []byte) {
		var got, want mvccpb.KeyValue
		err := decodeRow(row, &got)
		if err != nil {
			if !errors.Is(err, engine.ErrCorrupt) {
				t.Fatalf("error %v is not ErrCorrupt", err)
			}
			return
		}
		if err := proto.Unmarshal(row, &want); err != nil {
			t.Fatalf("decoded %x, which protobuf refuses: %v", row, err)
		}
		if !proto.Equal(&got, &want) {
			t.Fatalf("decoded %x to %v, protobuf to %v", row, &got, &want)
		}
		var again mvccpb.KeyValue
		if err := decodeRow(appendRow(nil, &got), &again); err != nil || !proto.Equal(&again, &got) {
			t.Fatalf("%v encodes to %v, %v", &got, &again, err)
		}
	})
}

func TestRowKeysOrderAndParse(t *testing.T) {
	stamps := []stamp{{1, 0, false}, {2, 0, false}, {2, 1, true}, {2, 256, false}, {3, 0, true}, {256, 0, false}, {math.MaxInt64, maxSub, true}}
	var last []byte
	for _, want := range stamps {
		key := appendRowKey(nil, 7, want)
		if bytes.Compare(last, key) >= 0 {
			t.Fatalf("key of %v does not sort after the one before", want)
		}
		last = key
		got, err := parseRowKey(key)
		if err != nil || got != want {
			t.Fatalf("%v parses to %v, %v", want, got, err)
		}
	}
	good := appendRowKey(nil, 7, stamp{2, 1, true})
	for _, bad := range [][]byte{nil, good[:20], append(append([]byte(nil), good[:21]...), 'x'), bytes.Replace(good, []byte{separator}, []byte{'-'}, 1)} {
		if _, err := parseRowKey(bad); !errors.Is(err, engine.ErrCorrupt) {
			t.Fatalf("key %x: error %v", bad, err)
		}
	}
}
