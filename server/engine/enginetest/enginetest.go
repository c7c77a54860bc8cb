// Package enginetest is the contract of package engine as tests. Every engine
// runs Run; what it does not check is no promise of an engine.
package enginetest

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"metastore.io/metastore/server/engine"
)

// check is one subtest.
type check struct {
	name string
	run  func(t *testing.T, o engine.Opener)
}

// Run checks an engine against the contract. open is called once a subtest and
// gives the opener to use; every subtest has a folder of its own. Run must be
// called from a top-level test: the crash test starts the test binary again to
// run that test alone.
func Run(t *testing.T, open func(t *testing.T) engine.Opener) {
	run(t, open, append([]check{
		{"EmptyEngine", testEmpty},
		{"PutOverwriteDelete", testPutOverwriteDelete},
		{"OrderWithinABatch", testOrderWithinABatch},
		{"BatchMayBeReused", testBatchMayBeReused},
		{"DeleteRange", testDeleteRange},
		{"DeleteLargeRange", testDeleteLargeRange},
		{"BinaryKeysAndEmptyValues", testBinaryKeys},
		{"ScanBounds", testScanBounds},
		{"ScanStops", testScanStops},
		{"ScanCallsBack", testScanCallsBack},
		{"ScanManyRows", testScanManyRows},
		{"GetMany", testGetMany},
		{"GetManyInOrder", testGetManyInOrder},
		{"ValuesMayBeKept", testValuesMayBeKept},
		{"UnknownSpace", testUnknownSpace},
		{"SnapshotIsFrozen", testSnapshotIsFrozen},
		{"SnapshotsUnderWrites", testSnapshotsUnderWrites},
		{"ReadersSeeWholeBatches", testReadersSeeWholeBatches},
		{"Size", testSize},
		{"Closed", testClosed},
	}, durability...))
}

// RunDurability is the part of Run that depends on when an engine writes to
// disk, for engines that can be set to do so at other times.
func RunDurability(t *testing.T, open func(t *testing.T) engine.Opener) {
	run(t, open, durability)
}

var durability = []check{
	{"Load", testLoad},
	{"LoadOfNothing", testLoadOfNothing},
	{"LoadFails", testLoadFails},
	{"FlushAndReopen", testFlushAndReopen},
	{"ReopenWithoutFlush", testReopenWithoutFlush},
	{"FlushUnderWrites", testFlushUnderWrites},
	{"KilledWhileWriting", testKilledWhileWriting},
	{"Model", testModel},
}

func run(t *testing.T, open func(t *testing.T) engine.Opener, checks []check) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		writeUntilKilled(t, open(t), dir)
		return
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// openDir opens an engine and closes it at the end of the test unless the test
// did.
func openDir(t *testing.T, o engine.Opener, dir string) *testEngine {
	t.Helper()
	e, err := o.Open(dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	te := &testEngine{Engine: e, t: t}
	t.Cleanup(te.close)
	return te
}

// openNew opens an engine in a folder that does not exist yet.
func openNew(t *testing.T, o engine.Opener) *testEngine {
	t.Helper()
	return openDir(t, o, t.TempDir()+"/engine")
}

// testEngine is an engine with the steps that tests take often.
type testEngine struct {
	engine.Engine
	t      *testing.T
	closed bool
}

func (e *testEngine) close() {
	e.t.Helper()
	if e.closed {
		return
	}
	e.closed = true
	if err := e.Close(); err != nil {
		e.t.Errorf("close: %v", err)
	}
}

// apply writes one batch.
func (e *testEngine) apply(fill func(b *engine.Batch)) {
	e.t.Helper()
	b := engine.NewBatch()
	fill(b)
	if err := e.Apply(b); err != nil {
		e.t.Fatalf("apply: %v", err)
	}
}

// put writes one row.
func (e *testEngine) put(s engine.Space, key, value string) {
	e.t.Helper()
	e.apply(func(b *engine.Batch) { b.Put(s, []byte(key), []byte(value)) })
}

func (e *testEngine) flush() {
	e.t.Helper()
	if err := e.Flush(); err != nil {
		e.t.Fatalf("flush: %v", err)
	}
}

func (e *testEngine) snapshot() engine.Snapshot {
	e.t.Helper()
	s, err := e.Snapshot()
	if err != nil {
		e.t.Fatalf("snapshot: %v", err)
	}
	e.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			e.t.Errorf("close snapshot: %v", err)
		}
	})
	return s
}

// scanned lists rows as "key=value", quoted.
func scanned(t *testing.T, r engine.Reader, s engine.Space, from, to []byte) []string {
	t.Helper()
	var rows []string
	err := r.Scan(s, from, to, func(key, value []byte) (bool, error) {
		rows = append(rows, formatRow(key, value))
		return true, nil
	})
	if err != nil {
		t.Fatalf("scan space %d from %q to %q: %v", s, from, to, err)
	}
	return rows
}

func formatRow(key, value []byte) string { return fmt.Sprintf("%q=%q", key, value) }

// wantRows checks a scan of a whole space; rows are "key=value".
func wantRows(t *testing.T, r engine.Reader, s engine.Space, rows ...string) {
	t.Helper()
	wantScan(t, r, s, nil, nil, rows...)
}

func wantScan(t *testing.T, r engine.Reader, s engine.Space, from, to []byte, rows ...string) {
	t.Helper()
	want := make([]string, len(rows))
	for i, row := range rows {
		key, value, _ := bytes.Cut([]byte(row), []byte("="))
		want[i] = formatRow(key, value)
	}
	got := scanned(t, r, s, from, to)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("scan space %d from %q to %q: got %v, want %v", s, from, to, got, want)
	}
}

// wantGet checks one key.
func wantGet(t *testing.T, r engine.Reader, s engine.Space, key, value string) {
	t.Helper()
	got, ok, err := r.Get(s, []byte(key))
	if err != nil || !ok || got == nil || string(got) != value {
		t.Errorf("get %q: got %q, %v, %v, want %q", key, got, ok, err, value)
	}
}

func wantMissing(t *testing.T, r engine.Reader, s engine.Space, key string) {
	t.Helper()
	if got, ok, err := r.Get(s, []byte(key)); err != nil || ok || got != nil {
		t.Errorf("get %q: got %q, %v, %v, want no row", key, got, ok, err)
	}
}
