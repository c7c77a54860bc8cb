package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/node"
)

// logTo logs one line to a file and returns it.
func logTo(t *testing.T, o logOptions, tell func(logs)) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	o.outputs = file
	l, err := newLogs(o)
	if err != nil {
		t.Fatal(err)
	}
	tell(l)
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestLogLines(t *testing.T) {
	line := logTo(t, logOptions{level: "info", format: formatJSON}, func(l logs) {
		l.slog.With("member", "a1").Warn("something", "error", errors.New("why"), "took", 1500*time.Millisecond, "urls", []string{"x"})
	})
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	if !strings.HasPrefix(line, `{"level":"warn","ts":"`) {
		t.Errorf("it begins with %.40s", line)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.999999Z0700", fmt.Sprint(fields["ts"])); err != nil {
		t.Error(err)
	}
	if caller := fmt.Sprint(fields["caller"]); !regexp.MustCompile(`^metastore/log_test\.go:\d+$`).MatchString(caller) {
		t.Errorf("caller %s", caller)
	}
	for k, want := range map[string]string{"msg": "something", "member": "a1", "error": "why", "took": "1.5s", "urls": "[x]"} {
		if got := fmt.Sprint(fields[k]); got != want {
			t.Errorf("%s is %s, want %s", k, got, want)
		}
	}
}

func TestLogFormatsAndLevels(t *testing.T) {
	console := logTo(t, logOptions{level: "info", format: formatConsole}, func(l logs) { l.slog.Info("hello", "a", 1) })
	if !regexp.MustCompile(`^\S+Z\tinfo\tmetastore/log_test\.go:\d+\thello\t{"a": 1}\n$`).MatchString(console) {
		t.Errorf("console: %q", console)
	}
	for level, want := range map[string]string{
		"debug": "debug info warn error", "info": "info warn error", "warn": "warn error", "error": "error", "panic": "", "fatal": "",
	} {
		text := logTo(t, logOptions{level: level, format: formatJSON}, func(l logs) {
			l.slog.Debug("x")
			l.slog.Info("x")
			l.slog.Warn("x")
			l.slog.Error("x")
		})
		var got []string
		for _, m := range regexp.MustCompile(`"level":"(\w+)"`).FindAllStringSubmatch(text, -1) {
			got = append(got, m[1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s logs %q, want %q", level, got, want)
		}
	}
}

func TestLogRotation(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log")
	l, err := newLogs(logOptions{
		level: "info", outputs: file, rotate: true,
		rotation: `{"maxsize": 1, "maxbackups": 1, "compress": false}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 64<<10)
	for range 40 { // two and a half megabytes
		l.slog.Info(long)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // an old one, deleted meanwhile
		}
		if info.Size() > 1<<20 {
			t.Errorf("%s has %d bytes", e.Name(), info.Size())
		}
	}
	if len(entries) < 2 {
		t.Errorf("there are %d files", len(entries))
	}
}

// Several outputs get every line.
func TestLogOutputs(t *testing.T) {
	m := newMember(t, "m", node.EngineMemory)
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	m.extra = []string{"--log-outputs=stdout," + one + "," + two + "," + one}
	m.start()
	m.waitServing()
	m.terminate()
	for _, f := range []string{one, two} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "starting a member"); n != 1 {
			t.Errorf("%s has the line %d times", f, n)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			var fields struct{ Level, TS, Caller, Msg string }
			if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Level == "" || fields.TS == "" || fields.Caller == "" || fields.Msg == "" {
				t.Errorf("%v in %s", err, line)
			}
		}
	}
	if !strings.Contains(m.out.String(), "starting a member") {
		t.Error("stdout has nothing of it")
	}
}
