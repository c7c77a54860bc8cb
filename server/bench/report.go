package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run found, as its JSON has it. Latencies are microseconds.
type Report struct {
	Scenario    string           `json:"scenario"`
	Client      string           `json:"client"`
	Began       time.Time        `json:"began"`
	Connections int              `json:"connections"`
	InFlight    int              `json:"inFlight"`
	KeySize     int              `json:"keySize"`
	ValueSize   int              `json:"valueSize"`
	KeySpace    int              `json:"keySpace"`
	Seed        uint64           `json:"seed"`
	Seconds     float64          `json:"seconds"`
	Errors      map[string]int64 `json:"errors,omitempty"`
	Total       Kind             `json:"total"`
	// Kinds are what Total sums up, when it sums up several, and what there is
	// beside it.
	Kinds []Kind `json:"kinds,omitempty"`
	// ClientCPU is the loader's own CPU time, per operation of Total.
	ClientCPU float64 `json:"clientCPUMicrosPerOperation"`
	Server    *Server `json:"server,omitempty"`
	// Figures are what only this scenario tells.
	Figures     []Figure `json:"figures,omitempty"`
	Percentiles []Point  `json:"percentiles"`
	Series      []Second `json:"series"`
}

// Kind is one kind of operation.
type Kind struct {
	Name       string  `json:"name"`
	Operations int64   `json:"operations"`
	Throughput float64 `json:"perSecond"`
	Mean       float64 `json:"meanMicros"`
	P50        float64 `json:"p50Micros"`
	P90        float64 `json:"p90Micros"`
	P99        float64 `json:"p99Micros"`
	P999       float64 `json:"p999Micros"`
	Max        float64 `json:"maxMicros"`
}

// Server is what the server's processes used while it was measured.
type Server struct {
	CPU          float64 `json:"cpuMicrosPerOperation"`
	CPUSeconds   float64 `json:"cpuSeconds"`
	RSSBytes     int64   `json:"rssBytes"`     // at the end
	RSSPeakBytes int64   `json:"rssPeakBytes"` // since the start of the process
	// WrittenBytes is what the kernel accounts: pages of files that became dirty,
	// which may be many times what the disk is given.
	WrittenBytes int64 `json:"writtenBytes"`
}

// Figure is a number with its name.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Point is a percentile, 0 to 100.
type Point struct {
	Percentile float64 `json:"percentile"`
	Micros     float64 `json:"micros"`
}

// Second is an interval of the run, of all kinds together.
type Second struct {
	At         float64 `json:"at"` // seconds since the beginning
	Operations int64   `json:"operations"`
	Throughput float64 `json:"perSecond"`
	P50        float64 `json:"p50Micros"`
	P99        float64 `json:"p99Micros"`
}

// percentiles are the points of the plot, denser where it gets rare.
var percentiles = []float64{0, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100}

func (r *run) report(name string, rec *recorder, sums int, before, after usage) *Report {
	c := r.c
	seconds := after.at.Sub(before.at).Seconds()
	total := rec.all(0, sums)
	p := &Report{
		Scenario: name, Client: c.Client, Began: before.at.UTC(), Connections: c.Connections, InFlight: c.InFlight,
		KeySize: c.KeySize, ValueSize: c.ValueSize, KeySpace: c.KeySpace, Seed: c.Seed,
		Seconds: seconds, Errors: maps.Clone(r.errors.byText), Series: rec.series,
		Total: newKind("all", total, seconds),
	}
	first := 0
	if sums == 1 {
		p.Total.Name, first = rec.kinds[0], 1
	}
	for i := first; i < len(rec.kinds); i++ {
		p.Kinds = append(p.Kinds, newKind(rec.kinds[i], rec.totals[i], seconds))
	}
	for _, at := range percentiles {
		p.Percentiles = append(p.Percentiles, Point{at, micros(total.ValueAtQuantile(at))})
	}
	operations := float64(max(1, total.TotalCount()))
	p.ClientCPU = float64((after.client - before.client).Microseconds()) / operations
	if len(c.ServerPIDs) > 0 {
		cpu := after.server.cpu - before.server.cpu
		p.Server = &Server{
			CPU: float64(cpu.Microseconds()) / operations, CPUSeconds: cpu.Seconds(),
			RSSBytes: after.server.rss, RSSPeakBytes: after.server.rssPeak,
			WrittenBytes: after.server.written - before.server.written,
		}
	}
	return p
}

func newKind(name string, h *hdrhistogram.Histogram, seconds float64) Kind {
	at := func(q float64) float64 { return micros(h.ValueAtQuantile(q)) }
	return Kind{
		Name: name, Operations: h.TotalCount(), Throughput: float64(h.TotalCount()) / max(seconds, 1e-6),
		Mean: h.Mean() / 1000, P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: micros(h.Max()),
	}
}

// Print writes the report as a table.
func (p *Report) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\toperations\tper second\tmean\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, k := range append([]Kind{p.Total}, p.Kinds...) {
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t\n", k.Name, k.Operations, k.Throughput,
			duration(k.Mean), duration(k.P50), duration(k.P90), duration(k.P99), duration(k.P999), duration(k.Max))
	}
	if err := w.Flush(); err != nil { // has all errors before
		return err
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, name+":\t"+format+"\n", args...) }
	line("load", "%s by the %s client, %d in flight, connections %d, keys %d of %d bytes, values %d, %.1f s",
		p.Scenario, p.Client, p.InFlight, p.Connections, p.KeySpace, p.KeySize, p.ValueSize, p.Seconds)
	line("client CPU", "%.1f µs an operation", p.ClientCPU)
	if s := p.Server; s != nil {
		line("server CPU", "%.1f µs an operation, %.2f s", s.CPU, s.CPUSeconds)
		line("server memory", "%s, at most %s", bytesText(s.RSSBytes), bytesText(s.RSSPeakBytes))
		line("server dirtied", "%s of files", bytesText(s.WrittenBytes))
	}
	for _, f := range p.Figures {
		line(f.Name, "%.6g %s", f.Value, f.Unit)
	}
	for _, text := range slices.Sorted(maps.Keys(p.Errors)) {
		line("errors", "%d: %s", p.Errors[text], text)
	}
	return w.Flush()
}

// duration prints microseconds with three digits.
func duration(micros float64) string {
	switch {
	case micros < 999.5:
		return fmt.Sprintf("%.3g µs", micros)
	case micros < 999_500:
		return fmt.Sprintf("%.3g ms", micros/1000)
	default:
		return fmt.Sprintf("%.3g s", micros/1e6)
	}
}

func bytesText(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
