package replica

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
)

const testGroup = engine.GroupID(7)

func openEngine(t *testing.T) engine.Engine {
	t.Helper()
	e, err := memory.Opener{FS: disk.OS()}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func fill(t *testing.T, e engine.Engine, rows int) {
	t.Helper()
	b := engine.NewBatch()
	for i := range rows {
		b.Put(engine.Space(i%engine.SpaceCount), testGroup.Key(fmt.Appendf(nil, "%06d", i)), bytes.Repeat([]byte{byte(i)}, i%700))
	}
	b.Put(engine.Meta, engine.GroupID(8).Key([]byte("other group")), []byte("x"))
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, e engine.Engine) string {
	t.Helper()
	var out bytes.Buffer
	for s := engine.Space(0); s < engine.SpaceCount; s++ {
		err := e.Scan(s, nil, nil, func(k, v []byte) (bool, error) {
			fmt.Fprintf(&out, "%d %x %x\n", s, k, v)
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestSnapshotRoundTrip(t *testing.T) {
	from, into, want := openEngine(t), openEngine(t), openEngine(t)
	fill(t, from, 5000)
	var stream bytes.Buffer
	if err := WriteSnapshot(&stream, testGroup, 42, 3, from); err != nil {
		t.Fatal(err)
	}
	index, term, err := ReadSnapshot(&stream, testGroup, into)
	if err != nil || index != 42 || term != 3 {
		t.Fatalf("index %d, term %d, %v", index, term, err)
	}
	fill(t, want, 5000)
	b := engine.NewBatch()
	b.Delete(engine.Meta, engine.GroupID(8).Key([]byte("other group")))
	if err := want.Apply(b); err != nil {
		t.Fatal(err)
	}
	if dump(t, into) != dump(t, want) {
		t.Fatal("the received rows are not the sent rows of the group")
	}
}

// Any damaged or missing byte is found before the snapshot counts as received.
func TestSnapshotDamage(t *testing.T) {
	from := openEngine(t)
	fill(t, from, 40)
	var stream bytes.Buffer
	if err := WriteSnapshot(&stream, testGroup, 42, 3, from); err != nil {
		t.Fatal(err)
	}
	whole := stream.Bytes()
	for i := 0; i < len(whole); i += 13 {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		if _, _, err := ReadSnapshot(bytes.NewReader(damaged), testGroup, openEngine(t)); err == nil {
			t.Fatalf("byte %d of %d was changed and nobody saw it", i, len(whole))
		}
		if _, _, err := ReadSnapshot(bytes.NewReader(whole[:i]), testGroup, openEngine(t)); !errors.Is(err, ErrSnapshotDamaged) {
			t.Fatalf("cut off at %d of %d: %v", i, len(whole), err)
		}
	}
}
