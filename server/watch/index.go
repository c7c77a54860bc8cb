package watch

import (
	"go.etcd.io/etcd/pkg/v3/adt"
)

// group is the watchers of one key, or of one range. They are matched once.
type group struct {
	watchers map[*watcher]struct{}
	// picked and shared are Publish's, under Hub.mu: the positions of the events
	// that match, and what has been made of them by what watchers want.
	picked pick
	shared [wants]*Events
}

// index finds the watchers of a key: a hash for those of one key, an interval
// tree for those of a range.
type index struct {
	keys   map[string]*group
	ranges adt.IntervalTree
	// spans is the number of distinct ranges in the tree, prevs that of the
	// watchers who want previous values.
	spans, prevs int
}

func newIndex() *index {
	return &index{keys: make(map[string]*group), ranges: adt.NewIntervalTree()}
}

// interval is a range as the tree has it, where an empty end is without bound.
func interval(w *watcher) adt.Interval {
	return adt.NewStringAffineInterval(string(w.key), string(w.end))
}

func (x *index) add(w *watcher) {
	if w.prevKV {
		x.prevs++
	}
	if w.single {
		g := x.keys[string(w.key)]
		if g == nil {
			g = &group{watchers: make(map[*watcher]struct{}, 1)}
			x.keys[string(w.key)] = g
		}
		g.watchers[w] = struct{}{}
		return
	}
	ivl := interval(w)
	if iv := x.ranges.Find(ivl); iv != nil {
		iv.Val.(*group).watchers[w] = struct{}{}
		return
	}
	x.ranges.Insert(ivl, &group{watchers: map[*watcher]struct{}{w: {}}})
	x.spans++
}

func (x *index) remove(w *watcher) {
	if w.prevKV {
		x.prevs--
	}
	if w.single {
		g := x.keys[string(w.key)]
		delete(g.watchers, w)
		if len(g.watchers) == 0 {
			delete(x.keys, string(w.key))
		}
		return
	}
	ivl := interval(w)
	iv := x.ranges.Find(ivl)
	if iv == nil {
		return
	}
	g := iv.Val.(*group)
	delete(g.watchers, w)
	if len(g.watchers) == 0 {
		x.ranges.Delete(ivl)
		x.spans--
	}
}

// match calls fn once for every group of watchers of the key.
func (x *index) match(key []byte, fn func(*group)) {
	if g := x.keys[string(key)]; g != nil {
		fn(g)
	}
	if x.spans == 0 {
		return
	}
	x.ranges.Visit(adt.NewStringAffinePoint(string(key)), func(n *adt.IntervalValue) bool {
		fn(n.Val.(*group))
		return true
	})
}
