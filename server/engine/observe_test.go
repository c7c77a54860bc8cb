package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// diary writes down what it is told.
type diary struct{ lines []string }

func (d *diary) add(line string, took time.Duration) {
	if took < 0 {
		line += " backwards"
	}
	d.lines = append(d.lines, line)
}

func (d *diary) Applied(took time.Duration)        { d.add("applied", took) }
func (d *diary) DefragmentBegins()                 { d.add("defragment begins", 0) }
func (d *diary) DefragmentEnds(took time.Duration) { d.add("defragment ends", took) }
func (d *diary) SnapshotOpened()                   { d.add("view opened", 0) }
func (d *diary) SnapshotClosed()                   { d.add("view closed", 0) }

// An observer hears of everything, also of what fails, and of a view's end once.
func TestObserve(t *testing.T) {
	for _, fails := range []error{nil, fmt.Errorf("disk on fire")} {
		d := &diary{}
		e, err := Observe(failing{fails}, d).Open("")
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(nil); err != fails {
			t.Errorf("apply: got %v, want %v", err, fails)
		}
		if err := e.Defragment(); err != fails {
			t.Errorf("defragment: got %v, want %v", err, fails)
		}
		view, err := e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := view.Close(); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"applied", "defragment begins", "defragment ends", "view opened", "view closed"}
		if !slices.Equal(d.lines, want) {
			t.Errorf("got %q, want %q", d.lines, want)
		}
	}
}
