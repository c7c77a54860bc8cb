package replica

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

const logGroup = raftlog.GroupID(testGroup)

// appendOne writes entry 1 with some data to a log that caches nothing.
func appendOne(t *testing.T, f *memdisk.FS, data string) *raftlog.Log {
	t.Helper()
	log, err := raftlog.Open(raftlog.Options{FS: f, Dir: "log", SegmentSizeBytes: 8 << 10, CacheBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	one := uint64(1)
	err = log.Append([]raftlog.Write{{
		Group: logGroup, HardState: &raftpb.HardState{Term: &one, Commit: &one},
		Entries: []*raftpb.Entry{{Index: &one, Term: &one, Data: []byte(data)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// A member whose engine has gone, with the log still there, does not begin anew
// under its old identity (invariant 8).
func TestRecoverRefusesALogWithoutState(t *testing.T) {
	f := memdisk.New(1)
	log := appendOne(t, f, "x")
	_, e, err := OpenEngines(f, "engine", memory.Opener{FS: f})
	if err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(state.Options{Engine: e, Group: testGroup})
	if err != nil {
		t.Fatal(err)
	}
	if err := Recover(log, logGroup, m); !errors.Is(err, ErrLogBroken) {
		t.Errorf("got %v, want %v", err, ErrLogBroken)
	}
}

// What raft does with an entry that it cannot read is its own business; the
// member hears of it, with file and offset.
func TestDamageOfAReadEntryIsTold(t *testing.T) {
	f := memdisk.New(1)
	log := appendOne(t, f, "the data of entry 1")
	names, err := f.List("log")
	if err != nil || len(names) != 1 {
		t.Fatalf("the log's files are %v, %v", names, err)
	}
	name := "log/" + names[0]
	content, err := disk.ReadFile(f, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	r := &Replica{storage: &storage{log: log.Group(logGroup)}}
	read := func() error { _, err := r.storage.Entries(1, 2, 1<<20); return err }
	if err := errors.Join(read(), r.Err()); err != nil {
		t.Fatal(err)
	}
	if err := f.Rot(name, 8*int64(bytes.Index(content, []byte("data of")))); err != nil {
		t.Fatal(err)
	}
	if err := read(); !errors.Is(err, raftlog.ErrCorrupt) {
		t.Errorf("the read gives %v", err)
	}
	if err := r.Err(); !errors.Is(err, raftlog.ErrCorrupt) || !strings.Contains(err.Error(), name+": offset ") {
		t.Errorf("the replica says %v", err)
	}
}

// A log whose records all verify and that no raft can have written is found.
func TestCheckLog(t *testing.T) {
	one := uint64(1)
	entry := func(index, term uint64, data string) *raftpb.Entry {
		return &raftpb.Entry{Index: &index, Term: &term, Data: []byte(data)}
	}
	whole := string(state.EncodeCommands(state.Origin{}, 1, nil))
	for name, c := range map[string]struct {
		term, commit uint64
		entries      []*raftpb.Entry
		want         string
	}{
		"whole":            {1, 2, []*raftpb.Entry{entry(1, 1, ""), entry(2, 1, whole)}, ""},
		"nothing":          {1, 0, nil, ""},
		"commit too far":   {1, 3, []*raftpb.Entry{entry(1, 1, ""), entry(2, 1, "")}, "commit index 3"},
		"term too low":     {1, 1, []*raftpb.Entry{entry(1, 2, "")}, "term 2"},
		"terms that fall":  {3, 1, []*raftpb.Entry{entry(1, 2, ""), entry(2, 1, "")}, "entry 2 is of term 1"},
		"not decodable":    {1, 1, []*raftpb.Entry{entry(1, 1, "nonsense")}, "entry 1 does not decode"},
		"unknown to apply": {1, 1, []*raftpb.Entry{{Index: &one, Term: &one, Type: raftpb.EntryConfChangeV2.Enum()}}, "entry 1 does not decode"},
	} {
		f := memdisk.New(1)
		log, err := raftlog.Open(raftlog.Options{FS: f, Dir: "log", SegmentSizeBytes: 8 << 10})
		if err != nil {
			t.Fatal(err)
		}
		err = log.Append([]raftlog.Write{{Group: logGroup, HardState: &raftpb.HardState{Term: &c.term, Commit: &c.commit}, Durable: true, Entries: c.entries}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch err := CheckLog(log, logGroup); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!errors.Is(err, ErrLogBroken) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
