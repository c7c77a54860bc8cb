package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	damageFlips = flag.Int("damage.flips", 60, "bits that TestDamage flips, one at a time")
	damageSeed  = flag.Uint64("damage.seed", 0, "seed of the places; 0 takes a new one")
)

// TestDamage flips one bit at each of many random places of real data dirs. Each
// time the member comes up with exactly what was stored, or it stops with the
// exit code for damage and a line that names the file and what to do. It never
// serves anything else and never panics; with -v the place is printed before.
// Check, which looks first, changes nothing, and finds all that a start finds.
func TestDamage(t *testing.T) {
	seed := *damageSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("replay with -damage.seed=%d -damage.flips=%d", seed, *damageFlips)
	r := rand.New(rand.NewPCG(seed, 0))
	var dirs []*storedDir
	for _, engine := range damageEngines() {
		dirs = append(dirs, storedDirs(t, engine)...)
	}
	results := damageTable{}
	for i := range *damageFlips {
		d := dirs[i%len(dirs)]
		p := d.place(r)
		if testing.Verbose() {
			t.Logf("flip %d: %s: %s", i, d.name, p)
		}
		outcome, what := d.flip(t, p)
		results.count(d.engine+" "+p.class, outcome)
		if outcome == wrong {
			t.Errorf("flip %d: %s: %s: %s", i, d.name, p, what)
		} else if testing.Verbose() {
			t.Logf("flip %d: %s: %s", i, outcomes[outcome], what)
		}
	}
	t.Log("\n" + results.String())
}

type outcome int

const (
	// detected: the member stopped as it should.
	detected outcome = iota
	// recovered: everything that was stored is there, and nothing else.
	recovered
	// wrong: anything else.
	wrong
)

var outcomes = [...]string{"detected", "recovered", "wrong"}

// damageTable counts outcomes by what was damaged.
type damageTable map[string]*[len(outcomes)]int

func (d damageTable) count(what string, o outcome) {
	if d[what] == nil {
		d[what] = &[len(outcomes)]int{}
	}
	d[what][o]++
}

func (d damageTable) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "flipped in\tflips\t%s\t\n", strings.Join(outcomes[:], "\t"))
	var all [len(outcomes)]int
	names := make([]string, 0, len(d))
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	line := func(name string, n [len(outcomes)]int) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t\n", name, n[0]+n[1]+n[2], n[0], n[1], n[2])
	}
	for _, name := range names {
		line(name, *d[name])
		for i, n := range d[name] {
			all[i] += n
		}
	}
	line("all", all)
	_ = w.Flush() // into memory
	return b.String()
}

// place is one bit of a file, by its path in the data dir.
type place struct {
	class, file string
	bit         int64
}

func (p place) String() string {
	return fmt.Sprintf("%s: offset %d, bit %d (%s)", p.file, p.bit/8, p.bit%8, p.class)
}

// classes are the kinds of files, by how often one is chosen. A log is mostly
// room for records to come.
var classes = []struct {
	name   string
	weight int
	is     func(file string) bool
}{
	{"log", 30, func(f string) bool { return strings.HasPrefix(f, logDir+"/") }},
	{"log, unused room", 5, func(f string) bool { return strings.HasPrefix(f, logDir+"/") }},
	{"marker", 8, func(f string) bool { return f == markerFile }},
	{"engine in use", 6, func(f string) bool { return f == engineDir+"/CURRENT" }},
	{"dump", 30, func(f string) bool { return filepath.Base(f) == "dump" }},
	{"image", 20, func(f string) bool { return strings.HasSuffix(f, ".index") }},
	{"tables", 40, func(f string) bool { return strings.HasSuffix(f, ".sst") }},
	{"manifest", 12, func(f string) bool { return strings.HasPrefix(filepath.Base(f), "MANIFEST-") }},
	{"manifest's name", 5, func(f string) bool { return strings.HasPrefix(f, engineDir+"/") && filepath.Base(f) == "CURRENT" }},
	{"options", 5, func(f string) bool { return strings.HasPrefix(filepath.Base(f), "OPTIONS-") }},
	{"other files", 3, func(string) bool { return true }},
}

// edgeBytes is how near to an end of a file every fourth place lies: headers and
// footers are small and matter most.
const edgeBytes = 64

// place chooses a bit.
func (d *storedDir) place(r *rand.Rand) place {
	total := 0
	for _, c := range classes {
		if len(d.files[c.name]) > 0 {
			total += c.weight
		}
	}
	n := r.IntN(total)
	for _, c := range classes {
		files := d.files[c.name]
		if len(files) == 0 {
			continue
		}
		if n -= c.weight; n < 0 {
			return chooseBit(r, c.name, files)
		}
	}
	panic("unreachable: the weights add up to the total")
}

func chooseBit(r *rand.Rand, class string, files []part) place {
	var size int64
	for _, f := range files {
		size += f.end - f.start
	}
	at := r.Int64N(size)
	for _, f := range files {
		n := f.end - f.start
		if at >= n {
			at -= n
			continue
		}
		if r.IntN(4) == 0 {
			at = r.Int64N(min(edgeBytes, n))
			if r.IntN(2) == 0 {
				at = n - 1 - at
			}
		}
		return place{class, f.name, (f.start+at)*8 + r.Int64N(8)}
	}
	panic("unreachable: the place is within the sizes' sum")
}

// part is a piece of a file.
type part struct {
	name       string
	start, end int64
}

// flip damages a copy and looks what a member makes of it.
func (d *storedDir) flip(t *testing.T, p place) (outcome, string) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(d.dir)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) // a thousand copies are too much to keep to the end
	flipBit(t, filepath.Join(dir, p.file), p.bit)
	checked := d.check(t, dir)
	if what := d.misjudged(checked, dir); what != "" {
		return wrong, "check: " + what
	}
	found, err := readDir(d.config(dir))
	if err == nil {
		if diff := diffContent(found, d.truth); diff != "" {
			return wrong, "it serves other data: " + diff
		}
		if checked != nil {
			return recovered, "everything is there, and " + checked.Error()
		}
		return recovered, "everything is there"
	}
	if checked == nil {
		return wrong, "check finds everything there, but the member stops: " + err.Error()
	}
	if what := d.misjudged(err, dir); what != "" {
		return wrong, what
	}
	return detected, err.Error()
}

// misjudged tells how an error is not what damage has to end with, "" for none.
func (d *storedDir) misjudged(err error, dir string) string {
	var exit *ExitError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &exit) || exit.Code != ExitCorrupt:
		return "it stops, but not as damaged: " + err.Error()
	case !strings.Contains(err.Error(), dir):
		return "it does not name the file: " + err.Error()
	case !strings.Contains(err.Error(), "replace"):
		return "it does not say what to do: " + err.Error()
	}
	return ""
}

// check is what Check finds, which must not change a byte and whose view of whole
// data is the member's.
func (d *storedDir) check(t *testing.T, dir string) error {
	t.Helper()
	before := hashDir(t, dir)
	found, err := checkDir(t, dir)
	if hashDir(t, dir) != before {
		t.Errorf("check has changed %s", dir)
	}
	if err != nil {
		return err
	}
	if diff := diffContent(found, d.truth); diff != "" {
		return fmt.Errorf("other data: %s", diff)
	}
	return nil
}

func flipBit(t *testing.T, name string, bit int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b[:], bit/8)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// readDir starts a member on a data dir, reads everything and stops it.
func readDir(c Config) (content, error) {
	n, err := Start(context.Background(), c)
	if err != nil {
		return nil, err
	}
	found, err := readMember(n)
	return found, errors.Join(err, n.Stop(context.Background()))
}

func readMember(n *Node) (content, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- n.Wait(ctx) }()
	select {
	case <-n.Ready():
	case err := <-failed:
		return nil, err
	}
	err := n.host.ReadBarrier(ctx) // everything in the log is applied
	var found content
	if err == nil {
		found, err = contentOf(n.host.Machine())
	}
	if err != nil {
		if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
			return nil, err // why the member stops
		}
		return nil, fmt.Errorf("reads fail and the member goes on: %w", err)
	}
	return found, nil
}
