package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc, the same on all of Linux's
// architectures that Go knows.
const clockTick = time.Second / 100

// readProcess reads what proc(5) tells. A process of another user does not tell
// what it wrote; that is 0.
func readProcess(pid int) (p process, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return p, fmt.Errorf("--server-pid=%d: %w", pid, err)
	}
	// The name, in brackets, may hold anything. utime and stime are the 14th and
	// 15th field, state behind the name is the 3rd.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return p, fmt.Errorf("--server-pid=%d: %sstat has %d fields behind the name", pid, dir, len(fields))
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	status, err3 := readFields(dir + "status")
	if err := errors.Join(err1, err2, err3); err != nil {
		return p, fmt.Errorf("--server-pid=%d: %w", pid, err)
	}
	p.cpu = time.Duration(user+system) * clockTick
	p.rss, p.rssPeak = status["VmRSS"]<<10, status["VmHWM"]<<10
	if io, err := readFields(dir + "io"); err == nil {
		p.written = io["write_bytes"]
	}
	return p, nil
}

// readFields reads lines of "name: number" and leaves out others.
func readFields(name string) (map[string]int64, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		key, rest, _ := strings.Cut(line, ":")
		if words := strings.Fields(rest); len(words) > 0 {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				values[key] = n
			}
		}
	}
	return values, nil
}
