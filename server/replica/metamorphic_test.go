package replica

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/state"
)

var (
	metamorphicOps  = flag.Int("metamorphic.ops", 20_000, "operations of TestMetamorphic")
	metamorphicSeed = flag.Uint64("metamorphic.seed", 0, "its seed; 0 is a new one")
)

const metamorphicGroup engine.GroupID = 5

// TestMetamorphic plays one stream of commands and reads to a member on the
// memory engine and to one on RocksDB, each in batches of its own, with flushes,
// restarts, crashes, settings, snapshots and background work of its own: all
// answers, events and hashes have to be the same. Where RocksDB is not built in,
// both are on the memory engine.
func TestMetamorphic(t *testing.T) {
	seed := *metamorphicSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	r := newMetamorphic(t, seed)
	began := time.Now()
	for r.ops < *metamorphicOps {
		r.chunk()
	}
	r.compareStates()
	for what, n := range map[string]int{
		"restarts": r.restarts, "crashes": r.crashes, "snapshots": r.installs, "flushes": r.flushes,
		"compactions": r.compactions, "hashes": r.hashes, "refused commands": r.refused,
	} {
		if n == 0 {
			t.Errorf("seed %d: there were no %s", seed, what)
		}
	}
	t.Logf("seed %d: %d operations agree on %s and %s at revision %d; %d entries, %d reads, %d refused commands, %d hashes, %d compactions, %d flushes, %d restarts, %d crashes, %d snapshots installed, in %s",
		seed, r.ops, r.sides[0].opener.Name(), r.sides[1].opener.Name(), r.sides[0].machine.KV().Rev(), r.index-1, r.reads, r.refused,
		r.hashes, r.compactions, r.flushes, r.restarts, r.crashes, r.installs, time.Since(began).Round(time.Millisecond))
}

// digest stands for an answer.
type digest uint64

// metamorphic is one run.
type metamorphic struct {
	t    *testing.T
	seed uint64
	gen  *requests
	// fate decides what happens beside the operations.
	fate  *rand.Rand
	sides [2]*side

	// log holds the entries after the index logStart, up to index, with the
	// answers that the first side gave; events are those of each revision.
	log      []logged
	logStart uint64
	index    uint64
	events   map[int64]digest

	ops, reads, refused, hashes, compactions, flushes, restarts, crashes, installs int
}

type logged struct {
	entry  state.Entry
	answer digest
	known  bool
}

// side is one member's storage.
type side struct {
	run     *metamorphic
	opener  engine.Opener
	rng     *rand.Rand
	dir     string
	engines *Engines
	machine *state.Machine
	// durable is the index up to which it is flushed.
	durable uint64
}

// anyRocks opens RocksDB with other settings each time.
type anyRocks struct{ rng *rand.Rand }

func (anyRocks) Name() string { return "rocksdb" }

func (o anyRocks) Open(dir string) (engine.Engine, error) {
	pick := func(from ...int64) int64 { return from[o.rng.IntN(len(from))] }
	trigger := int(pick(1, 2, 4, 8))
	slowdown := trigger + int(pick(0, 4, 20))
	return rocksdb.Opener{Options: rocksdb.Options{
		BlockCacheBytes:                pick(1<<20, 8<<20, 64<<20),
		WriteBufferBytes:               pick(64<<10, 256<<10, 1<<20, 32<<20),
		MaxWriteBufferNumber:           int(pick(2, 3, 6)),
		MaxBackgroundJobs:              int(pick(1, 2, 4)),
		BloomBitsPerKey:                int(pick(0, 1, 10, 20)),
		Compression:                    []rocksdb.Compression{rocksdb.None, rocksdb.Snappy, rocksdb.LZ4, rocksdb.ZSTD}[o.rng.IntN(4)],
		Level0FileNumCompactionTrigger: trigger,
		Level0SlowdownWritesTrigger:    slowdown,
		Level0StopWritesTrigger:        slowdown + int(pick(1, 16)),
		MaxOpenFiles:                   int(pick(-1, 64, 1024)),
		BytesPerSync:                   pick(0, 64<<10, 1<<20),
	}}.Open(dir)
}

func newMetamorphic(t *testing.T, seed uint64) *metamorphic {
	random := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
	r := &metamorphic{t: t, seed: seed, gen: &requests{rng: random(1)}, fate: random(2), events: map[int64]digest{}}
	openers := [2]engine.Opener{memory.Opener{}, memory.Opener{}}
	if rocksdb.Built {
		openers[1] = anyRocks{random(3)}
	}
	for i, o := range openers {
		s := &side{run: r, opener: o, rng: random(uint64(10 + i)), dir: filepath.Join(t.TempDir(), "engine")}
		r.sides[i] = s
		s.open()
		t.Cleanup(func() { _ = s.machine.Close() }) // a failed run may have closed it
		if err := s.machine.Bootstrap(77, []state.Member{{ID: 10, PeerURLs: []string{"http://a:1"}}, {ID: 20, PeerURLs: []string{"http://b:1"}}}); err != nil {
			t.Fatal(err)
		}
		s.durable = 1
	}
	r.index, r.logStart = 1, 1
	return r
}

// failf ends the run with what replays it.
func (r *metamorphic) failf(format string, args ...any) {
	r.t.Helper()
	r.t.Fatalf("seed %d, operation %d: %s", r.seed, r.ops, fmt.Sprintf(format, args...))
}

// must ends the run at an error.
func (r *metamorphic) must(err error) {
	if err != nil {
		r.t.Helper()
		r.failf("%v", err)
	}
}

// chunk is some entries on both sides, then reads, then whatever fate wants.
func (r *metamorphic) chunk() {
	kv := r.sides[0].machine.KV()
	r.gen.look(kv.Rev(), kv.CompactRev(), r.sides[0].machine.Auth())
	for range 1 + r.fate.IntN(8) {
		r.index++
		e := r.gen.entry(r.index)
		r.ops += max(len(e.Commands), 1)
		r.log = append(r.log, logged{entry: e})
	}
	r.sides[0].catchUp()
	if r.fate.IntN(150) == 0 {
		r.sides[1].install(r.sides[0])
	}
	r.sides[1].catchUp()
	if a, b := r.sides[0].machine.KV(), r.sides[1].machine.KV(); a.Rev() != b.Rev() || a.CompactRev() != b.CompactRev() {
		r.failf("revision %d compacted to %d, and %d compacted to %d", a.Rev(), a.CompactRev(), b.Rev(), b.CompactRev())
	}
	if c := kv.CompactRev(); c > r.gen.compacted {
		r.compactions++
		for rev := range r.events {
			if rev < c {
				delete(r.events, rev)
			}
		}
	}
	for range r.fate.IntN(12) {
		r.read()
	}
	r.somethingElse()
}

// somethingElse is what happens to members beside their work.
func (r *metamorphic) somethingElse() {
	s := r.sides[r.fate.IntN(2)]
	switch n := r.fate.IntN(400); {
	case n < 25 || len(r.log) > 4000:
		r.flushes++
		s.flush()
	case n < 31:
		r.restarts++
		s.flush()
		s.reopen()
	case n < 38:
		r.crashes++
		s.reopen()
		s.catchUp()
	case n < 43:
		s.install(r.sides[r.fate.IntN(2)])
		s.catchUp()
	case n < 46:
		r.must(s.machine.Defragment())
	case n < 60:
		r.compareHashKV(r.gen.revision())
	case n < 64:
		r.compareStates()
	}
	r.trim()
}

// trim forgets the log that no side would replay.
func (r *metamorphic) trim() {
	for _, s := range r.sides {
		if len(r.log) > 6000 && s.durable < r.index {
			s.flush()
		}
	}
	upTo := min(r.sides[0].durable, r.sides[1].durable)
	r.log = r.log[upTo-r.logStart:]
	r.logStart = upTo
}

// read asks both sides the same.
func (r *metamorphic) read() {
	r.ops++
	r.reads++
	if r.fate.IntN(5) == 0 {
		q := r.gen.txn(0, true)
		sameAnswer(r, q, (*state.Machine).ReadTxn)
		return
	}
	sameAnswer(r, r.gen.rangeRequest(), (*state.Machine).Range)
}

func sameAnswer[Q, A proto.Message](r *metamorphic, q Q, ask func(*state.Machine, Q) (A, error)) {
	r.t.Helper()
	a, err1 := ask(r.sides[0].machine, q)
	b, err2 := ask(r.sides[1].machine, q)
	if fmt.Sprint(err1) != fmt.Sprint(err2) || err1 == nil && !proto.Equal(a, b) {
		r.failf("%s\nis answered on one side by\n%s%v\nand on the other by\n%s%v", prototext.Format(q), prototext.Format(a), err1, prototext.Format(b), err2)
	}
}

// compareHashKV wants the same hash. Of revisions up to the compacted one a
// member knows only what it remembers of before, until it restarts: two such
// hashes can be compared where they are of the same rows.
func (r *metamorphic) compareHashKV(rev int64) {
	r.hashes++
	var answers [2]string
	var compacted [2]int64
	var remembered bool
	for i, s := range r.sides {
		hash, c, current, err := s.machine.KV().HashKV(rev)
		answers[i], compacted[i] = fmt.Sprint(hash, c, current, err), c
		remembered = remembered || c < s.machine.KV().CompactRev()
	}
	if remembered && compacted[0] != compacted[1] && rev <= r.sides[0].machine.KV().CompactRev() {
		return
	}
	if answers[0] != answers[1] {
		r.failf("HashKV of %d: %s and %s", rev, answers[0], answers[1])
	}
}

// compareStates wants the same bytes, once background work is done.
func (r *metamorphic) compareStates() {
	r.compareHashKV(0)
	var hashes [2]uint32
	for i, s := range r.sides {
		for more := true; more; {
			var err error
			more, err = s.machine.Step(1000)
			r.must(err)
		}
		var err error
		hashes[i], err = s.machine.Hash()
		r.must(err)
	}
	r.compareHashKV(0)
	if hashes[0] != hashes[1] {
		a, b := rowsOf(r.t, r.sides[0].view()), rowsOf(r.t, r.sides[1].view())
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				r.failf("row %d is %s and %s", i, a[i], b[i])
			}
		}
		r.failf("there are %d rows and %d rows", len(a), len(b))
	}
}

func (s *side) view() engine.Reader {
	snap, err := s.machine.Snapshot()
	s.run.must(err)
	s.run.t.Cleanup(func() { _ = snap.Close() }) // the run is over
	return snap
}

func (s *side) open() {
	var e engine.Engine
	var err error
	s.engines, e, err = OpenEngines(disk.OS(), s.dir, s.opener)
	s.run.must(err)
	s.use(e)
}

func (s *side) use(e engine.Engine) {
	m, err := state.Open(state.Options{Engine: e, Group: metamorphicGroup})
	s.run.must(err)
	s.machine = m
}

func (s *side) flush() {
	index, err := s.machine.Flush()
	s.run.must(err)
	s.durable = index
}

// reopen closes without a flush: what is not durable may be gone.
func (s *side) reopen() {
	s.run.must(s.machine.Close())
	s.open()
	if index, _ := s.machine.Applied(); index < s.durable || index > s.run.index {
		s.run.failf("%s opens at index %d, durable was %d", s.opener.Name(), index, s.durable)
	}
}

// install replaces the state by a snapshot of another side or its own.
func (s *side) install(from *side) {
	s.run.installs++
	snap, err := from.machine.Snapshot()
	s.run.must(err)
	var stream bytes.Buffer
	s.run.must(errors.Join(WriteSnapshot(&stream, metamorphicGroup, snap.Index, snap.Term, snap), snap.Close()))
	imported, err := s.engines.Import()
	s.run.must(err)
	index, _, err := ReadSnapshot(&stream, metamorphicGroup, imported.Engine)
	s.run.must(err)
	s.run.must(errors.Join(imported.Adopt(), s.machine.Close(), s.engines.RemoveReplaced()))
	s.use(imported.Engine)
	if applied, _ := s.machine.Applied(); applied != index {
		s.run.failf("a snapshot of index %d opens at %d", index, applied)
	}
	s.durable = index
}

// catchUp applies the log from where the machine is, in batches of its own.
func (s *side) catchUp() {
	index, _ := s.machine.Applied()
	for todo := s.run.log[index-s.run.logStart:]; len(todo) > 0; {
		n := min(1+s.rng.IntN(6), len(todo))
		batch := make([]state.Entry, n)
		for i := range batch {
			batch[i] = todo[i].entry
		}
		out, err := s.machine.Apply(batch)
		s.run.must(err)
		for i := range batch {
			s.run.answered(&todo[i], out.Entries[i])
		}
		for _, e := range out.Events {
			s.run.published(e)
		}
		todo = todo[n:]
		if s.rng.IntN(3) == 0 {
			_, err := s.machine.Step(1 + s.rng.IntN(60))
			s.run.must(err)
		}
	}
}

// answered wants the same answers of whoever applies an entry, and whenever.
func (r *metamorphic) answered(l *logged, got state.EntryResult) {
	h := fnv.New64a()
	fmt.Fprint(h, got.Change.Applied, got.Change.Err)
	for _, res := range got.Results {
		if res.Err != nil {
			fmt.Fprint(h, res.Err)
			continue
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(res.Response)
		r.must(err)
		_, _ = h.Write(b) // never fails
	}
	if d := digest(h.Sum64()); !l.known {
		l.answer, l.known = d, true
		for _, res := range got.Results {
			if res.Err != nil {
				r.refused++
			}
		}
	} else if d != l.answer {
		r.failf("entry %d of %d commands has other answers than before: %+v", l.entry.Index, len(l.entry.Commands), got)
	}
}

// published wants the same events of a revision, likewise.
func (r *metamorphic) published(e state.RevisionEvents) {
	h := fnv.New64a()
	for _, ev := range e.Events {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(ev)
		r.must(err)
		_, _ = h.Write(b) // never fails
	}
	d := digest(h.Sum64())
	if want, known := r.events[e.Rev]; known && want != d {
		r.failf("revision %d has other events than before: %v", e.Rev, e.Events)
	}
	r.events[e.Rev] = d
}
