package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// results are all that was measured, as the JSON has it.
type results struct {
	Began       time.Time    `json:"began"`
	Settings    settings     `json:"settings"`
	Comparisons []comparison `json:"comparisons"`
}

// comparison is one workload on all servers.
type comparison struct {
	Disk     string     `json:"disk"`
	Members  int        `json:"members"`
	Workload string     `json:"workload"`
	Servers  []measured `json:"servers"` // etcd first
}

// measured are the runs of one server.
type measured struct {
	Name   string   `json:"name"`
	Runs   []report `json:"runs"`
	Median *medians `json:"median,omitempty"` // nil when all runs failed
}

// medians are of all runs.
type medians struct {
	PerSecond    float64   `json:"perSecond"`
	P50          float64   `json:"p50Micros"`
	P99          float64   `json:"p99Micros"`
	CPU          float64   `json:"serverCPUMicrosPerOperation"`
	ClientCPU    float64   `json:"clientCPUMicrosPerOperation"`
	RSSPeakBytes float64   `json:"rssPeakBytes"`
	WrittenBytes float64   `json:"writtenBytes"`
	DataBytes    float64   `json:"dataBytes"`
	Figures      []float64 `json:"figures,omitempty"`
}

func (m *measured) median() *medians {
	if len(m.Runs) == 0 {
		return nil
	}
	of := func(value func(report) float64) float64 {
		var list []float64
		for _, r := range m.Runs {
			list = append(list, value(r))
		}
		return middle(list)
	}
	all := &medians{
		PerSecond:    of(func(r report) float64 { return r.Total.PerSecond }),
		P50:          of(func(r report) float64 { return r.Total.P50 }),
		P99:          of(func(r report) float64 { return r.Total.P99 }),
		CPU:          of(func(r report) float64 { return r.Server.CPU }),
		ClientCPU:    of(func(r report) float64 { return r.ClientCPU }),
		RSSPeakBytes: of(func(r report) float64 { return r.Server.RSSPeakBytes }),
		WrittenBytes: of(func(r report) float64 { return r.WrittenBytes }),
		DataBytes:    of(func(r report) float64 { return r.DataBytes }),
	}
	for i := range m.Runs[0].Figures {
		all.Figures = append(all.Figures, of(func(r report) float64 { return r.Figures[i].Value }))
	}
	return all
}

// middle is the median.
func middle(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

func (r *results) fillMedians() {
	for c := range r.Comparisons {
		for s := range r.Comparisons[c].Servers {
			one := &r.Comparisons[c].Servers[s]
			one.Median = one.median()
		}
	}
}

// print writes a table; behind each of our numbers is its ratio to etcd's.
func (r *results) print(out io.Writer) error {
	r.fillMedians()
	for _, c := range r.Comparisons {
		fmt.Fprintf(out, "\n%s on %s, members %d; medians of %d runs of %g s, (times etcd)\n", c.Workload, c.Disk, c.Members, r.Settings.Rounds, r.Settings.Seconds)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "\tper second\tp50\tp99\tserver CPU/op\tpeak RSS\twritten\tdata\tclient CPU/op\t")
		etcd := c.Servers[0].Median
		for _, s := range c.Servers {
			m, base := s.Median, etcd
			if m == nil {
				fmt.Fprintf(w, "%s\tfailed\t\t\t\t\t\t\t\t\n", s.Name)
				continue
			}
			if s.Name == c.Servers[0].Name {
				base = nil
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", s.Name,
				times(rate(m.PerSecond), m, base, func(m *medians) float64 { return m.PerSecond }),
				times(micros(m.P50), m, base, func(m *medians) float64 { return m.P50 }),
				times(micros(m.P99), m, base, func(m *medians) float64 { return m.P99 }),
				times(micros(m.CPU), m, base, func(m *medians) float64 { return m.CPU }),
				times(megabytes(m.RSSPeakBytes), m, base, func(m *medians) float64 { return m.RSSPeakBytes }),
				times(megabytes(m.WrittenBytes), m, base, func(m *medians) float64 { return m.WrittenBytes }),
				times(megabytes(m.DataBytes), m, base, func(m *medians) float64 { return m.DataBytes }), micros(m.ClientCPU))
		}
		if err := w.Flush(); err != nil { // has all errors before
			return err
		}
		c.printFigures(out)
	}
	return nil
}

func (c *comparison) printFigures(out io.Writer) {
	for _, s := range c.Servers {
		if s.Median == nil {
			continue
		}
		for i, value := range s.Median.Figures {
			f := s.Runs[0].Figures[i]
			fmt.Fprintf(out, "  %s, %s: %.4g %s\n", s.Name, f.Name, value, f.Unit)
		}
	}
}

// times puts the ratio behind the text, if there is one.
func times(text string, m, base *medians, value func(*medians) float64) string {
	if base == nil || value(base) == 0 {
		return text
	}
	return fmt.Sprintf("%s (%.2f)", text, value(m)/value(base))
}

func micros(n float64) string {
	switch {
	case n < 999.5:
		return fmt.Sprintf("%.3g µs", n)
	case n < 999_500:
		return fmt.Sprintf("%.3g ms", n/1000)
	default:
		return fmt.Sprintf("%.3g s", n/1e6)
	}
}

// rate keeps three digits of what is slow.
func rate(n float64) string {
	if n < 100 {
		return fmt.Sprintf("%.3g", n)
	}
	return fmt.Sprintf("%.0f", n)
}

func megabytes(n float64) string { return fmt.Sprintf("%.1f MB", n/1e6) }

// write writes bench.json and bench.svg.
func (r *results) write(folder string) error {
	r.fillMedians()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(folder, "bench.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(folder, "bench.svg"), []byte(r.plot()), 0o644))
}
