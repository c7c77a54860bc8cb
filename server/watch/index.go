package watch

import (
	"go.etcd.io/etcd/pkg/v3/adt"
)

type watcherSet map[*watcher]struct{}

// index finds the watchers of a key: a hash for those of one key, an interval
// tree for those of a range. Watchers of the same range share a node.
type index struct {
	keys   map[string]watcherSet
	ranges adt.IntervalTree
	// spans is the number of distinct ranges in the tree.
	spans int
}

func newIndex() *index {
	return &index{keys: make(map[string]watcherSet), ranges: adt.NewIntervalTree()}
}

// interval is a range as the tree has it, where an empty end is without bound.
func interval(w *watcher) adt.Interval {
	return adt.NewStringAffineInterval(string(w.key), string(w.end))
}

func (x *index) add(w *watcher) {
	if w.single {
		set := x.keys[string(w.key)]
		if set == nil {
			set = make(watcherSet, 1)
			x.keys[string(w.key)] = set
		}
		set[w] = struct{}{}
		return
	}
	ivl := interval(w)
	if iv := x.ranges.Find(ivl); iv != nil {
		iv.Val.(watcherSet)[w] = struct{}{}
		return
	}
	x.ranges.Insert(ivl, watcherSet{w: {}})
	x.spans++
}

func (x *index) remove(w *watcher) {
	if w.single {
		set := x.keys[string(w.key)]
		delete(set, w)
		if len(set) == 0 {
			delete(x.keys, string(w.key))
		}
		return
	}
	ivl := interval(w)
	iv := x.ranges.Find(ivl)
	if iv == nil {
		return
	}
	set := iv.Val.(watcherSet)
	delete(set, w)
	if len(set) == 0 {
		x.ranges.Delete(ivl)
		x.spans--
	}
}

// match calls fn once for every watcher of the key.
func (x *index) match(key []byte, fn func(*watcher)) {
	for w := range x.keys[string(key)] {
		fn(w)
	}
	if x.spans == 0 {
		return
	}
	x.ranges.Visit(adt.NewStringAffinePoint(string(key)), func(n *adt.IntervalValue) bool {
		for w := range n.Val.(watcherSet) {
			fn(w)
		}
		return true
	})
}
