//go:build rocksdb

package rocksdb

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/engine"
)

// openRocks opens an engine that is closed at the end of the test.
func openRocks(t *testing.T, o Options, dir string) *rocks {
	t.Helper()
	e, err := Opener{Options: o}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return e.(*rocks)
}

func putRows(t *testing.T, e engine.Engine, rows int) {
	t.Helper()
	b := engine.NewBatch()
	for i := range rows {
		b.Put(engine.Revisions, fmt.Appendf(nil, "%06d", i), []byte(strings.Repeat("v", 100)))
	}
	b.Put(engine.Meta, []byte("applied"), []byte("1"))
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
}

// fileOptions reads the newest OPTIONS file that RocksDB wrote: "section/key".
func fileOptions(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "OPTIONS-*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no OPTIONS file in %s: %v", dir, err)
	}
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	options, section := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
		} else if key, value, ok := strings.Cut(line, "="); ok {
			options[section+"/"+key] = value
		}
	}
	return options
}

func TestKnobsArriveInRocksDB(t *testing.T) {
	dir := t.TempDir()
	e := openRocks(t, Options{
		BlockCacheBytes: 7 << 20, WriteBufferBytes: 3 << 20, MaxWriteBufferNumber: 5, MaxBackgroundJobs: 3,
		BloomBitsPerKey: 12, Compression: ZSTD, Level0FileNumCompactionTrigger: 6,
		Level0SlowdownWritesTrigger: 17, Level0StopWritesTrigger: 23, MaxOpenFiles: 333, BytesPerSync: 2 << 20,
	}, dir)
	got := fileOptions(t, dir)
	want := map[string]string{
		"DBOptions/max_background_jobs":         "3",
		"DBOptions/max_open_files":              "333",
		"DBOptions/bytes_per_sync":              "2097152",
		"DBOptions/atomic_flush":                "true",
		"DBOptions/paranoid_checks":             "true",
		"DBOptions/avoid_flush_during_shutdown": "true",
		"DBOptions/create_if_missing":           "true",
	}
	for _, family := range familyNames[1:] {
		cf := fmt.Sprintf("CFOptions %q/", family)
		want[cf+"write_buffer_size"] = "3145728"
		want[cf+"max_write_buffer_number"] = "5"
		want[cf+"compression"] = "kZSTD"
		want[cf+"level0_file_num_compaction_trigger"] = "6"
		want[cf+"level0_slowdown_writes_trigger"] = "17"
		want[cf+"level0_stop_writes_trigger"] = "23"
		table := fmt.Sprintf("TableOptions/BlockBasedTable %q/", family)
		want[table+"filter_policy"] = "bloomfilter"
		want[table+"cache_index_and_filter_blocks"] = "true"
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("option %s: got %q, want %q", key, got[key], value)
		}
	}
	if n, ok := e.db.GetIntPropertyCF("rocksdb.block-cache-capacity", e.cfs[2]); !ok || n != 7<<20 {
		t.Errorf("block cache: got %d bytes (%v), want %d", n, ok, 7<<20)
	}
	// The file names no bits: look at what they make of a table.
	const rows = 20_000
	putRows(t, e, rows)
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	properties := e.db.GetPropertyCF("rocksdb.aggregated-table-properties", e.cfs[2])
	_, after, _ := strings.Cut(properties, "filter block size=")
	var filterBytes int
	if _, err := fmt.Sscanf(after, "%d", &filterBytes); err != nil || filterBytes < rows*12/8 || filterBytes > rows*13/8 {
		t.Errorf("filters: got %d bytes (%v) for %d rows, want 12 bits each", filterBytes, err, rows)
	}
}

func TestCompressionNoneAndNoFilter(t *testing.T) {
	for compression, name := range map[Compression]string{
		None: "kNoCompression", Snappy: "kSnappyCompression", LZ4: "kLZ4Compression",
	} {
		o := DefaultOptions()
		o.Compression, o.BloomBitsPerKey = compression, 0
		dir := t.TempDir()
		e := openRocks(t, o, dir)
		putRows(t, e, 1000)
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
		if v, ok, err := e.Get(engine.Revisions, []byte("000999")); err != nil || !ok || len(v) != 100 {
			t.Errorf("%s: got %q, %v, %v", compression, v, ok, err)
		}
		got := fileOptions(t, dir)
		if v := got[`CFOptions "revisions"/compression`]; v != name {
			t.Errorf("compression: got %s, want %s", v, name)
		}
		if v := got[`TableOptions/BlockBasedTable "revisions"/filter_policy`]; v != "nullptr" {
			t.Errorf("filter: got %s, want none", v)
		}
	}
}

func TestWritesLeaveRocksDBsLogEmpty(t *testing.T) {
	dir := t.TempDir()
	putRows(t, openRocks(t, Options{}, dir), 10_000)
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		if info, err := os.Stat(name); err != nil || info.Size() != 0 {
			t.Errorf("the write-ahead log %s is used: %v, %v", name, info, err)
		}
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	openRocks(t, Options{}, dir)
	_, err := Opener{}.Open(dir)
	if err == nil || !strings.Contains(err.Error(), "another process has it open") || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that says who holds the folder", err)
	}
}

// flushedDir makes a folder with table files of a closed engine.
func flushedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	e := openRocks(t, Options{}, dir)
	putRows(t, e, 20_000)
	if err := errors.Join(e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newest is the last of the files with a name, and its content.
func newest(t *testing.T, pattern string) (string, []byte) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	name := files[len(files)-1]
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, content
}

// readAll opens a folder and reads every row.
func readAll(dir string) error {
	e, err := Opener{}.Open(dir)
	if err != nil {
		return err
	}
	for s := range engine.Space(engine.SpaceCount) {
		err = errors.Join(err, e.Scan(s, nil, nil, func(_, _ []byte) (bool, error) { return true, nil }))
	}
	return errors.Join(err, e.Close())
}

func TestDamageIsReported(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string) error
	}{
		{"flipped bit in a row", func(t *testing.T, dir string) error {
			name, content := newest(t, dir+"/*.sst")
			content[len(content)/3] ^= 4
			return os.WriteFile(name, content, 0o600)
		}},
		{"table file cut", func(t *testing.T, dir string) error {
			name, content := newest(t, dir+"/*.sst")
			return os.WriteFile(name, content[:len(content)/2], 0o600)
		}},
		{"table file gone", func(t *testing.T, dir string) error {
			name, _ := newest(t, dir+"/*.sst")
			return os.Remove(name)
		}},
		{"flipped bit in the manifest", func(t *testing.T, dir string) error {
			name, content := newest(t, dir+"/MANIFEST-*")
			content[len(content)/2] ^= 4
			return os.WriteFile(name, content, 0o600)
		}},
		{"CURRENT gone", func(_ *testing.T, dir string) error { return os.Remove(dir + "/CURRENT") }},
		{"CURRENT names nothing", func(_ *testing.T, dir string) error {
			return os.WriteFile(dir+"/CURRENT", []byte("nothing\n"), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := flushedDir(t)
			if err := readAll(dir); err != nil {
				t.Fatalf("before the damage: %v", err)
			}
			if err := c.damage(t, dir); err != nil {
				t.Fatal(err)
			}
			if err := readAll(dir); !errors.Is(err, engine.ErrCorrupt) {
				t.Errorf("got %v, want %v", err, engine.ErrCorrupt)
			}
		})
	}
}

// severalTables makes a folder whose rows lie in several table files, one after
// the other in the order of keys, and returns the files.
func severalTables(t *testing.T, o Options) (dir string, tables []string) {
	t.Helper()
	dir = t.TempDir()
	e := openRocks(t, o, dir)
	for table := range 6 {
		b := engine.NewBatch()
		for i := range 300 {
			b.Put(engine.Revisions, fmt.Appendf(nil, "%d/%06d", table, i), []byte(strings.Repeat("v", 50)))
		}
		if err := errors.Join(e.Apply(b), e.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) < 2 {
		t.Fatalf("tables %q: %v", tables, err)
	}
	return dir, tables
}

// A scan that meets a damaged table file says so, wherever the file lies in the
// order of keys and of levels; it never ends as if there were no more rows.
func TestScanTellsOfEveryDamagedTable(t *testing.T) {
	for name, trigger := range map[string]int{"level 0": 100, "deeper levels": 2} {
		t.Run(name, func(t *testing.T) {
			o := DefaultOptions()
			o.Level0FileNumCompactionTrigger, o.Level0SlowdownWritesTrigger, o.Level0StopWritesTrigger = trigger, 200, 300
			dir, tables := severalTables(t, o)
			for _, table := range tables {
				content, err := os.ReadFile(table)
				if err != nil {
					t.Fatal(err)
				}
				content[100] ^= 1
				if err := os.WriteFile(table, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := readAll(dir); !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), table) {
					t.Errorf("%s is damaged: got %v", table, err)
				}
				content[100] ^= 1
				if err := os.WriteFile(table, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A compaction of a damaged table file fails; it does not go on with the rows of
// the other ones.
func TestCompactionTellsOfEveryDamagedTable(t *testing.T) {
	for name, trigger := range map[string]int{"level 0": 100, "deeper levels": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // RocksDB takes a second to close after that
			o := DefaultOptions()
			o.Level0FileNumCompactionTrigger, o.Level0SlowdownWritesTrigger, o.Level0StopWritesTrigger = trigger, 200, 300
			dir, tables := severalTables(t, o)
			for _, table := range []string{tables[0], tables[len(tables)/2], tables[len(tables)-1]} {
				copied := t.TempDir()
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(copied, filepath.Base(table))
				content, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				content[100] ^= 1
				if err := os.WriteFile(name, content, 0o600); err != nil {
					t.Fatal(err)
				}
				e := openRocks(t, o, copied)
				if err := e.Defragment(); !errors.Is(err, engine.ErrCorrupt) {
					t.Errorf("%s is damaged: the compaction gives %v", table, err)
				}
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestInterruptedCreationIsRepeated(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"LOG", "IDENTITY", "MANIFEST-000001"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := readAll(dir); err != nil {
		t.Error(err)
	}
}

func TestSizeIsMeasuredOnceASecond(t *testing.T) {
	now, measured := time.Unix(1000, 0), 0
	c := sizeCache{
		now:     func() time.Time { return now },
		measure: func() engine.Size { measured++; return engine.Size{TotalBytes: 100, UsedBytes: 50} },
	}
	check := func(wantMeasured int, want engine.Size) {
		t.Helper()
		if got := c.get(); got != want || measured != wantMeasured {
			t.Errorf("got %+v after %d measurements, want %+v after %d", got, measured, want, wantMeasured)
		}
	}
	check(1, engine.Size{TotalBytes: 100, UsedBytes: 50})
	c.added.Add(7)
	now = now.Add(sizeAge)
	check(1, engine.Size{TotalBytes: 107, UsedBytes: 57})
	now = now.Add(1)
	check(2, engine.Size{TotalBytes: 100, UsedBytes: 50})
	c.expire()
	check(3, engine.Size{TotalBytes: 100, UsedBytes: 50})
}

// RocksDB's own logger aborts the process when it finds no room for a line.
func TestRocksDBWritesNoLogFile(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := readAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if logs, err := filepath.Glob(filepath.Join(dir, "LOG*")); err != nil || len(logs) > 0 {
		t.Errorf("it wrote %v, %v", logs, err)
	}
}

// What RocksDB warns of comes out of the logger that the engine was opened with.
func TestWarningsReachTheLogger(t *testing.T) {
	dir := flushedDir(t)
	table, _ := newest(t, dir+"/*.sst")
	if err := os.Remove(table); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := (Opener{Logger: slog.New(slog.NewTextHandler(&out, nil))}).Open(dir); err == nil {
		t.Fatal("a database without its table was opened")
	}
	if !strings.Contains(out.String(), "RocksDB tells") {
		t.Errorf("it logged %q", out.String())
	}
}
