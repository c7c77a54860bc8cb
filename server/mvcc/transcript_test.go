package mvcc

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into the transcripts")

// TestTranscripts plays testdata/*.txt. A block is a command line, "----", and
// what it answers, up to an empty line. Commands:
//
//	put KEY VALUE [lease=N]      one command
//	del KEY [END]
//	txn OP ; OP ...              puts, dels and ranges in one command
//	batch OP ; OP ...            one command each, published together; "read ..." is a reader's range in between
//	range KEY [END] [rev=N] [limit=N] [count] [keys]
//	compact REV                  the command only
//	sweep [ROWS]                 one step, or all
//	history FROM TO [BYTES]
//	rows                         the row keys in the engine
//	reopen                       the store over the same engine
//
// Keys and values may be quoted as in Go.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { playFile(t, file) })
	}
}

func playFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, store: openStore(t, openEngine(t, t.TempDir()))}
	var out []string
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		if strings.HasPrefix(block, "#") {
			out = append(out, block)
			continue
		}
		cmd, want, _ := strings.Cut(block, "\n----")
		want = strings.Trim(want, "\n")
		got := strings.Trim(s.play(cmd), "\n")
		out = append(out, strings.TrimRight(cmd+"\n----\n"+got, "\n"))
		if got != want && !*rewrite {
			t.Fatalf("%s\ngot:\n%s\nwant:\n%s", cmd, got, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type scene struct {
	t     *testing.T
	store *Store
}

func (s *scene) play(line string) string {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "put", "del", "txn", "batch":
		return s.write(verb, line, rest)
	case "range":
		return showRange(s.rangeArgs(rest, s.store.Range))
	case "compact":
		return s.compact(rest)
	case "sweep":
		return s.sweep(rest)
	case "history":
		return s.history(strings.Fields(rest))
	case "rows":
		return s.rows()
	case "reopen":
		s.store = openStore(s.t, s.store.engine)
		return fmt.Sprintf("rev %d compacted %d", s.store.Rev(), s.store.CompactRev())
	}
	s.t.Fatalf("unknown command %q", line)
	return ""
}

func (s *scene) write(verb, line, rest string) (out string) {
	ops := []string{line}
	if verb == "txn" || verb == "batch" {
		ops = strings.Split(rest, " ; ")
	}
	var parts []func() string // events have their previous values when all are through
	say := func(text string) { parts = append(parts, func() string { return text }) }
	batch(s.t, s.store, func(w *Writer) {
		finish := func() {
			rev, evs := w.End()
			parts = append(parts, func() string { return fmt.Sprintf("rev %d\n%s", rev, showEvents(evs)) })
		}
		w.Begin()
		for i, op := range ops {
			if verb == "batch" && i > 0 {
				finish()
				w.Begin()
			}
			say(s.op(w, op))
		}
		finish()
	})
	for _, part := range parts {
		out += part()
	}
	return out
}

func (s *scene) op(w *Writer, op string) string {
	verb, rest, _ := strings.Cut(op, " ")
	args := s.unquote(strings.Fields(rest))
	switch verb {
	case "put":
		lease := int64(0)
		if len(args) > 2 {
			lease = s.num(strings.TrimPrefix(args[2], "lease="))
		}
		if prev := w.Put([]byte(args[0]), []byte(args[1]), lease); prev != 0 {
			return fmt.Sprintf("had lease %d\n", prev)
		}
		return ""
	case "del":
		end := ""
		if len(args) > 1 {
			end = args[1]
		}
		keys, n := w.DeleteRange([]byte(args[0]), []byte(end))
		out := fmt.Sprintf("deleted %d", n)
		for _, k := range keys {
			out += fmt.Sprintf(" %s/%d", show(k.Key), k.Lease)
		}
		return out + "\n"
	case "range":
		return showRange(s.rangeArgs(rest, w.Range))
	case "read":
		return "reader: " + showRange(s.rangeArgs(rest, s.store.Range))
	}
	s.t.Fatalf("unknown operation %q", op)
	return ""
}

func (s *scene) rangeArgs(line string, read func(key, end []byte, o RangeOptions) (RangeResult, error)) (RangeResult, error) {
	var o RangeOptions
	var keys [][]byte
	for _, a := range s.unquote(strings.Fields(line)) {
		name, n, _ := strings.Cut(a, "=")
		switch name {
		case "rev":
			o.Rev = s.num(n)
		case "limit":
			o.Limit = s.num(n)
		case "count":
			o.CountOnly = true
		case "keys":
			o.KeysOnly = true
		default:
			keys = append(keys, []byte(a))
		}
	}
	return read(keys[0], append(keys, nil)[1], o)
}

func (s *scene) compact(rest string) (out string) {
	batch(s.t, s.store, func(w *Writer) {
		if err := w.Compact(s.num(rest)); err != nil {
			out = err.Error()
		}
	})
	return out
}

func (s *scene) sweep(rest string) string {
	if rest == "" {
		sweepAll(s.t, s.store, 2)
		return "done"
	}
	done, err := s.store.CompactStep(int(s.num(rest)))
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("done %v", done)
}

func (s *scene) history(args []string) (out string) {
	bytes := 1 << 20
	if len(args) > 2 {
		bytes = int(s.num(args[2]))
	}
	next, err := s.store.History(s.num(args[0]), s.num(args[1]), bytes, true, func(rev int64, evs []*mvccpb.Event) error {
		out += fmt.Sprintf("rev %d\n%s", rev, showEvents(evs))
		return nil
	})
	if err != nil {
		return out + err.Error()
	}
	return out + fmt.Sprintf("next %d", next)
}

func (s *scene) rows() (out string) {
	from := s.store.group.Key()
	err := s.store.engine.Scan(engine.Revisions, from, engine.PrefixEnd(from), func(key, row []byte) (bool, error) {
		at, err := parseRowKey(key)
		if err != nil {
			return false, err
		}
		var kv mvccpb.KeyValue
		if err := decodeRow(row, &kv); err != nil {
			return false, err
		}
		mark := ""
		if at.dead {
			mark = "t"
		}
		out += fmt.Sprintf("%d.%d%s %s\n", at.main, at.sub, mark, show(kv.Key))
		return true, nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *scene) num(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *scene) unquote(args []string) []string {
	for i, a := range args {
		if strings.HasPrefix(a, `"`) {
			u, err := strconv.Unquote(a)
			if err != nil {
				s.t.Fatal(err)
			}
			args[i] = u
		}
	}
	return args
}
