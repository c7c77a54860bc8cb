// Command bench measures MetaStore beside real etcd: servers with equal flags,
// one after the other in rounds, each run on a new data dir, loaded by
// metastore bench. It prints medians and their ratios, and writes all runs as
// JSON and the ratios as a picture.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are what is to be measured, and how.
type settings struct {
	Etcd       string   `json:"etcd"`
	MetaStore  string   `json:"metastore"`
	Engines    []string `json:"engines"`
	Workloads  []string `json:"workloads"`
	Rounds     int      `json:"rounds"`
	Seconds    float64  `json:"seconds"` // of one run
	Members    []int    `json:"members"`
	Disks      []string `json:"disks"`
	Client     string   `json:"client"`
	Pin        bool     `json:"pin"`
	diskFolder string
	out        string
}

// Kinds of disks.
const (
	diskTmpfs = "tmpfs"
	diskReal  = "disk"
)

func main() {
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, s)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (s settings, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&s.Etcd, "etcd", "", "etcd's binary")
	fs.StringVar(&s.MetaStore, "metastore", "bin/metastore", "MetaStore's binary, which is also the loader")
	engines := fs.String("engine", "rocksdb,memory", "engines of MetaStore")
	names := fs.String("workload", "short", "short, all, or names: "+strings.Join(workloadNames(false), ","))
	fs.IntVar(&s.Rounds, "rounds", 5, "runs of each server and workload")
	fs.Float64Var(&s.Seconds, "seconds", 2, "seconds of one run")
	members := fs.String("members", "1", "1, 3 or 1,3")
	disks := fs.String("disk", diskTmpfs, diskTmpfs+", "+diskReal+" or both")
	fs.StringVar(&s.Client, "client", "lean", "lean or grpc")
	fs.BoolVar(&s.Pin, "pin", false, "servers on core 0, the loader on core 1")
	fs.StringVar(&s.diskFolder, "disk-folder", "dist/bench", "where data goes for -disk="+diskReal)
	fs.StringVar(&s.out, "out", "dist/bench", "folder for the results")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	s.Engines, s.Disks, s.Workloads = strings.Split(*engines, ","), strings.Split(*disks, ","), chosen(*names)
	for m := range strings.SplitSeq(*members, ",") {
		n, _ := strconv.Atoi(m) // check sees a 0
		s.Members = append(s.Members, n)
	}
	return s, s.check()
}

func (s *settings) check() error {
	refuse := func(flag string, value any, allowed string) error {
		return fmt.Errorf("-%s=%v is not valid: %s is allowed", flag, value, allowed)
	}
	for _, m := range s.Members {
		if m != 1 && m != 3 {
			return refuse("members", m, "1, 3 or 1,3")
		}
	}
	for _, d := range s.Disks {
		if d != diskTmpfs && d != diskReal {
			return refuse("disk", d, diskTmpfs+", "+diskReal+" or both with a comma between")
		}
	}
	for _, e := range s.Engines {
		if e != "rocksdb" && e != "memory" {
			return refuse("engine", e, "rocksdb, memory or both with a comma between")
		}
	}
	for _, w := range s.Workloads {
		if !slices.Contains(workloadNames(false), w) {
			return refuse("workload", w, "short, all, or names with commas between: "+strings.Join(workloadNames(false), ","))
		}
	}
	switch {
	case s.Rounds < 1:
		return refuse("rounds", s.Rounds, "1 or more")
	case s.Seconds < 0.1:
		return refuse("seconds", s.Seconds, "0.1 or more")
	case s.Client != "lean" && s.Client != "grpc":
		return refuse("client", s.Client, "lean or grpc")
	}
	for _, binary := range []string{s.Etcd, s.MetaStore} {
		if _, err := exec.LookPath(binary); err != nil {
			return fmt.Errorf("%w; make bench builds what is needed", err)
		}
	}
	return nil
}

// servers are what is compared, etcd first.
func (s *settings) servers() []server {
	list := []server{{name: "etcd", binary: s.Etcd}}
	for _, e := range s.Engines {
		list = append(list, server{name: "metastore " + e, binary: s.MetaStore, flags: []string{"--storage-engine=" + e}})
	}
	return list
}

// run measures everything; what failed does not keep the rest from being
// measured.
func run(ctx context.Context, s settings) error {
	results := &results{Began: time.Now().UTC(), Settings: s}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	var failures []error
	for _, disk := range s.Disks {
		for _, members := range s.Members {
			for _, w := range s.Workloads {
				c := comparison{Disk: disk, Members: members, Workload: w}
				failures = append(failures, s.compare(ctx, &c))
				if ctx.Err() != nil {
					return errors.Join(results.write(s.out), ctx.Err())
				}
				results.Comparisons = append(results.Comparisons, c)
			}
		}
	}
	return errors.Join(append(failures, results.print(os.Stdout), results.write(s.out))...)
}

// compare runs one workload on all servers, in rounds whose order turns.
func (s *settings) compare(ctx context.Context, c *comparison) error {
	servers := s.servers()
	for _, one := range servers {
		c.Servers = append(c.Servers, measured{Name: one.name})
	}
	var failures []error
	for round := range s.Rounds {
		for i := range servers {
			at := (i + round) % len(servers)
			r, err := s.measure(ctx, servers[at], *c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				err = fmt.Errorf("%s, %s, members %d, %s: %w", c.Workload, c.Disk, c.Members, servers[at].name, err)
				fmt.Fprintln(os.Stderr, err)
				failures = append(failures, err)
				continue
			}
			c.Servers[at].Runs = append(c.Servers[at].Runs, *r)
			fmt.Fprintf(os.Stderr, "%s, %s, members %d, round %d of %d: %-18s %9.0f/s  p99 %s  CPU %s an operation\n",
				c.Workload, c.Disk, c.Members, round+1, s.Rounds, servers[at].name, r.Total.PerSecond, micros(r.Total.P99), micros(r.Server.CPU))
		}
	}
	return errors.Join(failures...)
}
