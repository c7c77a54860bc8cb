package replica

import (
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

// resting is a member's storage that is left and opened again.
type resting struct {
	t       *testing.T
	disk    *memdisk.FS
	log     *raftlog.Log
	engines *Engines
	engine  engine.Engine
	machine *state.Machine
	// flushed is what the engine holds durably; image what was said of its image
	// at the last opening, notAsked for nothing.
	flushed uint64
	image   error
}

var errNotAsked = errors.New("there was no image")

func (r *resting) open() {
	r.t.Helper()
	check := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	var err error
	r.log, err = raftlog.Open(raftlog.Options{FS: r.disk, Dir: "log", SegmentSizeBytes: 8 << 10})
	check(err)
	r.engines, r.engine, err = OpenEngines(r.disk, "engine", memory.Opener{FS: r.disk})
	check(errors.Join(err, r.disk.SyncDir("."))) // as node does with its marker
	r.image = errNotAsked
	r.machine, err = r.engines.OpenState(state.Options{Engine: r.engine, Group: testGroup, OnImage: func(err error) { r.image = err }})
	check(err)
	if index, _ := r.machine.Applied(); index == 0 {
		one := uint64(1)
		check(r.machine.Bootstrap(7, []state.Member{{ID: 1, PeerURLs: []string{"http://a"}}}))
		check(r.log.Append([]raftlog.Write{{
			Group: logGroup, Reset: &raftlog.Position{Index: 1, Term: 1}, HardState: &raftpb.HardState{Term: &one, Commit: &one},
		}}))
	}
	check(Recover(r.log, logGroup, r.machine))
	r.flushed, _ = r.machine.Applied()
	check(Replay(r.log, logGroup, r.machine, r.log.Group(logGroup).LastIndex()))
}

// put appends and applies entries of one put each.
func (r *resting) put(keys ...string) {
	r.t.Helper()
	for _, key := range keys {
		one, index := uint64(1), r.log.Group(logGroup).LastIndex()+1
		body, err := proto.Marshal(&pb.PutRequest{Key: []byte(key), Value: make([]byte, 700)})
		if err != nil {
			r.t.Fatal(err)
		}
		data := state.EncodeCommands(state.Origin{}, 1, []state.Command{{Kind: state.KindPut, Body: body}})
		err = r.log.Append([]raftlog.Write{{
			Group: logGroup, HardState: &raftpb.HardState{Term: &one, Commit: &index},
			Entries: []*raftpb.Entry{{Index: &index, Term: &one, Data: data}},
		}})
		if err == nil {
			err = Replay(r.log, logGroup, r.machine, index)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *resting) rest() error {
	return Rest(r.log, logGroup, r.engines, r.machine, r.flushed, func(durable uint64) uint64 { return durable })
}

func (r *resting) close() error { return errors.Join(r.machine.Close(), r.log.Close()) }

// A member that was stopped in order starts with the image of its index and an
// empty log; the image counts for as long as the engine holds what it is of.
func TestRest(t *testing.T) {
	r := &resting{t: t, disk: memdisk.New(1)}
	r.open()
	r.put("a", "b", "a")
	if err := errors.Join(r.rest(), r.close()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing has changed
		r.open()
		if index, _ := r.machine.Applied(); r.image != nil || r.machine.Imaged() != 4 || index != 4 || r.flushed != 4 ||
			r.log.Group(logGroup).FirstIndex() != 5 || r.machine.KV().Rev() != 4 {
			t.Fatalf("opened at index %d, %d of it flushed, image %v of %d, log from %d", index, r.flushed, r.image, r.machine.Imaged(), r.log.Group(logGroup).FirstIndex())
		}
		if err := errors.Join(r.rest(), r.close()); err != nil {
			t.Fatal(err)
		}
	}

	r.open()
	r.put("c")
	if err := errors.Join(r.rest(), r.close()); err != nil { // hardly worth it
		t.Fatal(err)
	}
	r.open()
	if r.image != nil || r.flushed != 4 || r.machine.KV().Rev() != 5 {
		t.Errorf("%d is flushed, image: %v, revision %d", r.flushed, r.image, r.machine.KV().Rev())
	}
	if _, err := r.machine.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	if r.image == nil || r.flushed != 5 || r.machine.Imaged() != 0 {
		t.Errorf("%d is flushed, image: %v of %d", r.flushed, r.image, r.machine.Imaged())
	}
}

// Whatever operation of the disk a power cut falls into, all that was stored is
// there at the next start.
func TestPowerCutWhileResting(t *testing.T) {
	for cut := 0; ; cut++ {
		r := &resting{t: t, disk: memdisk.New(uint64(cut))}
		r.open()
		r.put("a", "b")
		if cut%2 == 1 {
			if err := errors.Join(r.rest(), r.close()); err != nil {
				t.Fatal(err)
			}
			r.open()
			r.put(manyKeys...)
		}
		rev := r.machine.KV().Rev()
		r.disk.CrashAfter(cut / 2)
		err := errors.Join(r.rest(), r.close())
		r.disk.Crash()
		r.open()
		if got := r.machine.KV().Rev(); got != rev {
			t.Fatalf("cut %d: revision %d was there, %d is", cut, rev, got)
		}
		scanned, serr := mvcc.Open(r.engine, testGroup)
		if serr == nil {
			serr = r.machine.KV().CompareIndex(scanned)
		}
		if serr != nil {
			t.Fatalf("cut %d: the index is not that of the rows: %v", cut, serr)
		}
		if err == nil {
			return
		}
	}
}

// manyKeys are worth a rest.
var manyKeys = func() (keys []string) {
	for i := range 1600 {
		keys = append(keys, fmt.Sprintf("key/%04d", i%50))
	}
	return keys
}()
