package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// report is of metastore bench's JSON what is compared.
type report struct {
	Total struct {
		Operations int64   `json:"operations"`
		PerSecond  float64 `json:"perSecond"`
		P50        float64 `json:"p50Micros"`
		P99        float64 `json:"p99Micros"`
	} `json:"total"`
	ClientCPU float64 `json:"clientCPUMicrosPerOperation"`
	Server    struct {
		CPU          float64 `json:"cpuMicrosPerOperation"`
		RSSPeakBytes float64 `json:"rssPeakBytes"`
	} `json:"server"`
	Figures []figure `json:"figures,omitempty"`
	// What only this program knows: what the device wrote for the run, its
	// preparation and anybody else meanwhile, and what the data dirs hold in the
	// end.
	WrittenBytes float64 `json:"writtenBytes"`
	DataBytes    float64 `json:"dataBytes"`
}

// measure makes one run on a new cluster.
func (s *settings) measure(ctx context.Context, one server, c comparison) (r *report, err error) {
	parent := s.diskFolder
	if c.Disk == diskTmpfs {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "metastore-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	members, err := one.start(ctx, c.Members, dir, s.Pin)
	defer func() { stop(members) }() // before the folder goes
	if err != nil {
		return nil, err
	}
	before, err := deviceWritten(dir)
	if err != nil {
		return nil, err
	}
	if r, err = s.load(ctx, members, c.Workload, dir); err != nil {
		return nil, err
	}
	after, err := deviceWritten(dir)
	if err != nil {
		return nil, err
	}
	r.WrittenBytes = after - before
	if then := behind(c.Workload); then != nil {
		figures, err := then(ctx, members)
		if err != nil {
			return nil, fmt.Errorf("behind the load: %w", err)
		}
		r.Figures = append(r.Figures, figures...)
	}
	for _, m := range members {
		r.DataBytes += float64(folderBytes(m.dir))
	}
	return r, nil
}

// load runs the loader.
func (s *settings) load(ctx context.Context, members []*member, workload, dir string) (*report, error) {
	var endpoints, pids []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
		pids = append(pids, fmt.Sprint(m.cmd.Process.Pid))
	}
	file := filepath.Join(dir, "report.json")
	argv := append([]string{s.MetaStore}, arguments(workload)...)
	argv = append(argv, "--quiet", "--json="+file, "--client="+s.Client, fmt.Sprintf("--duration=%gs", s.Seconds),
		"--endpoints="+strings.Join(endpoints, ","), "--server-pid="+strings.Join(pids, ","))
	if out, err := command(ctx, s.Pin, loaderCore, argv).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r report
	return &r, json.Unmarshal(text, &r)
}
