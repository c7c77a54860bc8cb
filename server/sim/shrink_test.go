package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// part is something in a run that can be left out: a client's operation, or a
// deed of the nemesis (who is nobody). The rest of the run is then another one,
// but clients and nemesis have their own randomness and go on as before.
type part struct{ who, number int }

// left notes a part and tells whether it is left out.
func (w *world) left(who, number int) bool {
	p := part{who, number}
	if w.leave[p] {
		return true
	}
	w.parts = append(w.parts, p)
	return false
}

// shrink looks for a smaller run that breaks the same promise: it leaves out
// ever smaller parts of what is left, deeds first, and keeps what still fails.
// It ends after so many runs.
func shrink(failed outcome, runs int, again func(leave map[part]bool) outcome) (smaller outcome, leave map[part]bool) {
	leave = map[part]bool{}
	for share := 2; runs > 0; share *= 2 {
		parts := slices.Clone(failed.parts)
		slices.SortStableFunc(parts, func(a, b part) int { return min(a.who, 0) - min(b.who, 0) })
		size := max(1, len(parts)/share)
		shrunk := false
		for from := 0; from < len(parts) && runs > 0; from += size {
			runs--
			try := map[part]bool{}
			for p := range leave {
				try[p] = true
			}
			for _, p := range parts[from:min(from+size, len(parts))] {
				try[p] = true
			}
			if out := again(try); out.kind == failed.kind && len(out.parts) < len(failed.parts) {
				failed, leave, shrunk = out, try, true
			}
		}
		if size == 1 && !shrunk {
			break
		}
	}
	return failed, leave
}

// leftText writes parts as ranges: "n3-7,0:1-40" are deeds 3 to 7 and the first
// client's operations 1 to 40.
func leftText(leave map[part]bool) string {
	parts := make([]part, 0, len(leave))
	for p := range leave {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b part) int {
		if a.who != b.who {
			return a.who - b.who
		}
		return a.number - b.number
	})
	var text []string
	for i := 0; i < len(parts); {
		j := i + 1
		for j < len(parts) && parts[j].who == parts[i].who && parts[j].number == parts[j-1].number+1 {
			j++
		}
		text = append(text, fmt.Sprintf("%d:%d-%d", parts[i].who, parts[i].number, parts[j-1].number))
		i = j
	}
	return strings.ReplaceAll(strings.Join(text, ","), "-1:", "n")
}

func parseLeft(text string) (map[part]bool, error) {
	leave := map[part]bool{}
	if text == "" {
		return leave, nil
	}
	for _, s := range strings.Split(strings.ReplaceAll(text, "n", "-1:"), ",") {
		who, numbers, _ := strings.Cut(s, ":")
		from, to, _ := strings.Cut(numbers, "-")
		w, err := strconv.Atoi(who)
		if err != nil {
			return nil, err
		}
		first, err := strconv.Atoi(from)
		if err != nil {
			return nil, err
		}
		last, err := strconv.Atoi(to)
		if err != nil {
			return nil, err
		}
		for n := first; n <= last; n++ {
			leave[part{w, n}] = true
		}
	}
	return leave, nil
}
