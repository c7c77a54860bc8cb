package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// figure is a number with its name, as the loader's report has it.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// restart tells what the members hold in memory, ends them in order, starts them
// on their data again and tells what CPU time that took until they are healthy.
func restart(ctx context.Context, members []*member) ([]figure, error) {
	var before, after, cpu float64
	for _, m := range members {
		rss, _, err := m.usage()
		if err != nil {
			return nil, err
		}
		before += rss
	}
	stop(members)
	for _, m := range members {
		if err := m.again(); err != nil {
			return nil, err
		}
	}
	for _, m := range members {
		if err := m.waitHealthy(ctx); err != nil {
			return nil, err
		}
		rss, seconds, err := m.usage()
		if err != nil {
			return nil, err
		}
		after += rss
		cpu += seconds
	}
	return []figure{
		{"memory, loaded", before / 1e6, "MB"}, {"memory, restarted", after / 1e6, "MB"},
		{"CPU time of a restart", cpu * 1000, "ms"},
	}, nil
}

// again starts a member that has ended on its data.
func (m *member) again() error {
	cmd := exec.Command(m.cmd.Path, m.cmd.Args[1:]...)
	cmd.Env = m.cmd.Env
	m.cmd, m.ended = cmd, make(chan struct{})
	err := m.run(m.dir + ".log")
	if err != nil {
		close(m.ended)
	}
	return err
}

// ticksPerSecond is the unit of times in /proc, the same on all of Linux's
// architectures that Go knows.
const ticksPerSecond = 100

// usage is the resident memory of the process and its CPU time since it began.
func (m *member) usage() (rssBytes, cpuSeconds float64, err error) {
	dir := fmt.Sprintf("/proc/%d/", m.cmd.Process.Pid)
	stat, err1 := os.ReadFile(dir + "stat")
	statm, err2 := os.ReadFile(dir + "statm")
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	// The name, in brackets, may hold anything. utime and stime are the 14th and
	// 15th field, state behind the name is the 3rd.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system, pages float64
	if len(fields) > 12 {
		_, err1 = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	}
	_, err2 = fmt.Sscan(string(statm), new(float64), &pages)
	return pages * float64(os.Getpagesize()), (user + system) / ticksPerSecond, errors.Join(err1, err2)
}
