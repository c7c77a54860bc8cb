package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/state"
)

const fuzzGroup engine.GroupID = 3

func fuzzEngine(t testing.TB) engine.Engine {
	t.Helper()
	e, err := memory.Opener{FS: memdisk.New(1)}.Open("/engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// rowsOf lists all rows of an engine.
func rowsOf(t testing.TB, e engine.Reader) (rows []string) {
	t.Helper()
	for s := range engine.Space(engine.SpaceCount) {
		err := e.Scan(s, nil, nil, func(k, v []byte) (bool, error) {
			rows = append(rows, fmt.Sprintf("%d %q = %q", s, k, v))
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// stream is a snapshot with rows of both spaces.
func stream(t testing.TB) (b []byte, rows []string) {
	t.Helper()
	e := fuzzEngine(t)
	batch := engine.NewBatch()
	for i := range 30 {
		batch.Put(engine.Meta, fuzzGroup.Key([]byte{byte(i)}), bytes.Repeat([]byte{byte(i)}, i))
		batch.Put(engine.Revisions, fuzzGroup.Key([]byte{byte(i), 1}), nil)
	}
	if err := e.Apply(batch); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteSnapshot(&out, fuzzGroup, 77, 5, e); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), rowsOf(t, e)
}

// FuzzSnapshotDamage changes up to four bytes of a snapshot, or cuts it: none of
// that is taken.
func FuzzSnapshotDamage(f *testing.F) {
	good, rows := stream(f)
	f.Add(uint32(0), uint32(0), uint32(0))
	f.Add(uint32(8), uint32(1), uint32(0))
	f.Add(uint32(snapshotHeader+4), uint32(0xff00), uint32(0))
	f.Add(uint32(len(good)-1), uint32(1), uint32(0))
	f.Add(uint32(0), uint32(0), uint32(12))
	f.Fuzz(func(t *testing.T, offset, xor, cut uint32) {
		bad := bytes.Clone(good)
		at := int(offset) % len(bad)
		for i := range min(4, len(bad)-at) {
			bad[at+i] ^= byte(xor >> (8 * i))
		}
		bad = bad[:len(bad)-int(cut)%len(bad)]
		e := fuzzEngine(t)
		index, term, err := ReadSnapshot(bytes.NewReader(bad), fuzzGroup, e)
		if bytes.Equal(bad, good) {
			if err != nil || index != 77 || term != 5 || !slices.Equal(rowsOf(t, e), rows) {
				t.Fatalf("the whole stream gives %d, %d, %v", index, term, err)
			}
			return
		}
		if !errors.Is(err, ErrSnapshotDamaged) {
			t.Fatalf("offset %d, bits %x, cut by %d: %v", offset, xor, cut, err)
		}
	})
}

// sealedStream is a stream with one block, whose checksums are right.
func sealedStream(payload []byte, rows uint64) []byte {
	h := append([]byte(snapshotMagic), snapshotVersion)
	h = binary.BigEndian.AppendUint32(h, uint32(fuzzGroup))
	h = binary.BigEndian.AppendUint64(h, 9)
	h = binary.BigEndian.AppendUint64(h, 4)
	b := binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	var sums uint32
	if len(payload) > 0 {
		sum := crc32.Checksum(payload, castagnoli)
		sums = crc32.Update(0, castagnoli, binary.BigEndian.AppendUint32(nil, sum))
		b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
		b = append(binary.BigEndian.AppendUint32(b, sum), payload...)
	}
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, rows)
	return binary.BigEndian.AppendUint32(b, sums)
}

// FuzzSnapshotBlock reads any block under checksums that are right. What is taken
// has rows of the group alone, and is taken again when it is sent on.
func FuzzSnapshotBlock(f *testing.F) {
	row := func(s engine.Space, key, value string) []byte {
		w := &snapshotWriter{}
		w.row(s, []byte(key), []byte(value))
		return w.block
	}
	prefix := string(fuzzGroup.Append(nil))
	f.Add(row(engine.Meta, prefix+"k", "v"), uint64(1))
	f.Add(append(row(engine.Revisions, prefix, ""), row(engine.Meta, prefix+"a", "x")...), uint64(2))
	f.Add(row(engine.Meta, "\x00\x00\x00\x04k", "v"), uint64(1))
	f.Add(row(9, prefix+"k", "v"), uint64(1))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, uint64(1))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, payload []byte, rows uint64) {
		e := fuzzEngine(t)
		index, term, err := ReadSnapshot(bytes.NewReader(sealedStream(payload, rows)), fuzzGroup, e)
		if err != nil {
			if !errors.Is(err, ErrSnapshotDamaged) {
				t.Fatal(err)
			}
			return
		}
		got := rowsOf(t, e)
		if index != 9 || term != 4 || uint64(len(got)) > rows {
			t.Fatalf("index %d, term %d, %d rows of %d", index, term, len(got), rows)
		}
		var out bytes.Buffer
		if err := WriteSnapshot(&out, fuzzGroup, index, term, e); err != nil {
			t.Fatal(err)
		}
		again := fuzzEngine(t)
		if _, _, err := ReadSnapshot(&out, fuzzGroup, again); err != nil || !slices.Equal(rowsOf(t, again), got) {
			t.Fatalf("sent on: %v, rows\n%q, want\n%q", err, rowsOf(t, again), got)
		}
	})
}

// FuzzReadSnapshot reads anything.
func FuzzReadSnapshot(f *testing.F) {
	good, _ := stream(f)
	f.Add(good)
	f.Add(good[:snapshotHeader+4])
	f.Add(append(bytes.Clone(good[:snapshotHeader+4]), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := ReadSnapshot(bytes.NewReader(b), fuzzGroup, fuzzEngine(t)); err == nil && !bytes.HasPrefix(b, good[:snapshotHeader-16]) {
			t.Fatalf("%x was taken", b)
		}
	})
}

// FuzzDecodeEntry decodes committed entries. What is taken encodes to the same
// bytes.
func FuzzDecodeEntry(f *testing.F) {
	origin := state.Origin{Member: 1, Incarnation: 2}
	change := state.MemberChange{Kind: state.AddLearner, Member: state.Member{ID: 5, PeerURLs: []string{"http://a:1"}}}
	cc, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: proto.Uint64(5), Context: encodeChange(origin, 3, change)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(int32(raftpb.EntryNormal), state.EncodeCommands(origin, 3, []state.Command{{Kind: state.KindPut, Body: []byte("b")}}))
	f.Add(int32(raftpb.EntryNormal), []byte{})
	f.Add(int32(raftpb.EntryConfChange), cc)
	f.Add(int32(raftpb.EntryConfChange), []byte{})
	f.Add(int32(raftpb.EntryConfChangeV2), cc)
	f.Fuzz(func(t *testing.T, kind int32, data []byte) {
		e := &raftpb.Entry{Type: raftpb.EntryType(kind).Enum(), Index: proto.Uint64(math.MaxUint64), Term: proto.Uint64(6), Data: data}
		got, id, err := decodeEntry(e)
		if err != nil {
			return
		}
		if got.Index != math.MaxUint64 || got.Term != 6 || id.change != (got.Change != nil) || id.change && len(got.Commands) > 0 {
			t.Fatalf("entry %+v of %+v", got, id)
		}
		if got.Change != nil {
			var cc raftpb.ConfChange
			if err := proto.Unmarshal(data, &cc); err != nil || !bytes.Equal(encodeChange(id.origin, id.seq, *got.Change), cc.Context) {
				t.Fatalf("%x gives %+v of %+v: %v", data, got.Change, id, err)
			}
		} else if len(data) > 0 && !bytes.Equal(state.EncodeCommands(id.origin, id.seq, got.Commands), data) {
			t.Fatalf("%x gives %+v of %+v", data, got.Commands, id)
		}
	})
}

// FuzzCurrent: what CURRENT says is a number that it would be written with, and
// anything else is corrupt.
func FuzzCurrent(f *testing.F) {
	f.Add([]byte("1\n"))
	f.Add([]byte("18446744073709551615"))
	f.Add([]byte("0\n"))
	f.Add([]byte("+1\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 64 {
			return
		}
		d := memdisk.New(1)
		e := &Engines{fs: d, dir: "/"}
		if err := disk.WriteFile(d, "/", currentFile, content); err != nil {
			t.Fatal(err)
		}
		n, err := e.readCurrent()
		if err != nil {
			if !errors.Is(err, engine.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if err := e.writeCurrent(n); err != nil {
			t.Fatal(err)
		}
		if again, err := e.readCurrent(); err != nil || again != n || n == 0 {
			t.Fatalf("%q is %d, and that %d: %v", content, n, again, err)
		}
	})
}
