package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
)

const testDir = "/data/wal"

// newDisk has the parent folder of the log.
func newDisk(t testing.TB, seed uint64) *memdisk.FS {
	t.Helper()
	d := memdisk.New(seed)
	must(t, d.MkdirAll(filepath.Dir(testDir)))
	must(t, d.SyncDir("/"))
	return d
}

func testOptions(d disk.FS) Options {
	return Options{FS: d, Dir: testDir, SegmentSizeBytes: 4096, CacheBytes: 1024, Rand: bytes.NewReader([]byte{1, 2, 3, 4})}
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	must(t, err)
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entry(index, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Data: []byte(data)}
}

// run makes count entries from first on, with data that tells them apart.
func run(first, term uint64, count, dataBytes int) []*raftpb.Entry {
	entries := make([]*raftpb.Entry, count)
	for i := range entries {
		data := fmt.Sprintf("%d/%d ", term, first+uint64(i))
		entries[i] = entry(first+uint64(i), term, data+string(bytes.Repeat([]byte{'x'}, dataBytes)))
	}
	return entries
}

func hard(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

// content is all that a reader can see of a group.
type content struct {
	hard      hardState
	compacted Position
	entries   []*raftpb.Entry
}

func contentOf(g *Group) (content, error) {
	first, last := g.FirstIndex(), g.LastIndex()
	term, err := g.Term(first - 1)
	if err != nil {
		return content{}, err
	}
	c := content{hard: hardStateOf(g.HardState()), compacted: Position{first - 1, term}}
	if first > last {
		return c, nil
	}
	c.entries, err = g.Entries(first, last+1, math.MaxUint64)
	if err == nil && uint64(len(c.entries)) != last+1-first {
		err = fmt.Errorf("%d entries of %d to %d", len(c.entries), first, last)
	}
	return c, err
}

func mustContent(t testing.TB, g *Group) content {
	t.Helper()
	c, err := contentOf(g)
	must(t, err)
	return c
}

// sameEntries says where two runs differ, "" when they do not.
func sameEntries(got, want []*raftpb.Entry) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if !proto.Equal(got[i], want[i]) {
			return fmt.Sprintf("entry %v, want %v", got[i], want[i])
		}
	}
	return ""
}

func wantEntries(t testing.TB, g *Group, want []*raftpb.Entry) {
	t.Helper()
	if diff := sameEntries(mustContent(t, g).entries, want); diff != "" {
		t.Fatal(diff)
	}
}

func wantCorrupt(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error %v, want ErrCorrupt", err)
	}
}
