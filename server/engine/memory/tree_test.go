package memory

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// checkTree checks the tree's invariants and returns its keys.
func checkTree(t *testing.T, tr *tree) []string {
	t.Helper()
	var leaves []*leaf
	var walk func(n *node, low, high []byte, depth int) int
	walk = func(n *node, low, high []byte, depth int) int {
		if n.kids != nil && len(n.kids) != n.children() || n.kids == nil && len(n.leaves) != n.children() {
			t.Fatalf("a node has %d kids and %d leaves for %d separators", len(n.kids), len(n.leaves), len(n.seps))
		}
		if n != tr.root && n.children() < sparseNode || n.children() > nodeKids {
			t.Fatalf("a node has %d children", n.children())
		}
		height := -1
		for i := range n.children() {
			lo, hi := low, high
			if i > 0 {
				lo = n.seps[i-1]
			}
			if i < len(n.seps) {
				hi = n.seps[i]
			}
			h := 0
			if n.kids != nil {
				h = walk(n.kids[i], lo, hi, depth+1)
			} else {
				checkLeaf(t, tr, n.leaves[i], lo, hi, len(n.seps) == 0 && n == tr.root)
				leaves = append(leaves, n.leaves[i])
			}
			if height >= 0 && h != height {
				t.Fatalf("leaves lie %d and %d deep", h, height)
			}
			height = h
		}
		return height + 1
	}
	walk(tr.root, nil, nil, 0)

	var keys []string
	for i, l := range leaves {
		var next *leaf
		if i+1 < len(leaves) {
			next = leaves[i+1]
		}
		if l.next != next {
			t.Fatalf("leaf %d of %d is not linked to the next", i, len(leaves))
		}
		for j := range l.n {
			keys = append(keys, string(tr.heap.key(l.rows[j].place)))
		}
	}
	if tr.last != leaves[len(leaves)-1] || tr.leaves != len(leaves) || tr.rows != len(keys) {
		t.Fatalf("the tree counts %d leaves and %d rows, has %d and %d", tr.leaves, tr.rows, len(leaves), len(keys))
	}
	return keys
}

func checkLeaf(t *testing.T, tr *tree, l *leaf, low, high []byte, mayBeEmpty bool) {
	t.Helper()
	if l.n == 0 && !mayBeEmpty {
		t.Fatal("a leaf is empty")
	}
	for i := range l.n {
		key := tr.heap.key(l.rows[i].place)
		if low != nil && bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 {
			t.Fatalf("key %x outside its leaf's bounds %x to %x", key, low, high)
		}
		if i > 0 && tr.compare(&l.rows[i-1], key) >= 0 {
			t.Fatalf("key %x after %x", key, tr.heap.key(l.rows[i-1].place))
		}
	}
	for i := l.n; i < leafRows; i++ {
		if l.rows[i] != (row{}) {
			t.Fatalf("a leaf of %d rows keeps row %d alive", l.n, i)
		}
	}
}

func putKey(tr *tree, key []byte) {
	if r := (row{place: tr.heap.put(key, nil)}); !tr.append(key, r) && tr.get(key) == nil {
		tr.insert(key, r)
	}
}

func number(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

func TestTreeAppendsFillLeaves(t *testing.T) {
	tr := newTree(&heap{})
	const rows = 50_000
	for i := range rows {
		putKey(&tr, number(i))
	}
	if keys := checkTree(t, &tr); len(keys) != rows {
		t.Fatalf("got %d rows, want %d", len(keys), rows)
	}
	if most := rows/leafRows + 1; tr.leaves > most {
		t.Errorf("got %d leaves of %d rows, want at most %d", tr.leaves, rows, most)
	}
}

func TestTreeShrinksAsRowsGo(t *testing.T) {
	const rows = 30_000
	for name, order := range map[string]func(i int) int{
		"from the left":  func(i int) int { return i },
		"from the right": func(i int) int { return rows - 1 - i },
		"spread":         func(i int) int { return i * 7919 % rows },
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(&heap{})
			for i := range rows {
				putKey(&tr, number(i))
			}
			for i := range rows {
				if !tr.remove(number(order(i))) {
					t.Fatalf("row %d is not there", order(i))
				}
				if tr.remove(number(order(i))) {
					t.Fatalf("row %d was removed twice", order(i))
				}
				if left := rows - i - 1; i%5003 == 0 || left == 100 {
					checkTree(t, &tr)
					if most := 4*left/leafRows + 4; left == 100 && tr.leaves > most {
						t.Errorf("%d rows are left in %d leaves, want at most %d", left, tr.leaves, most)
					}
				}
			}
			if keys := checkTree(t, &tr); len(keys) != 0 || tr.leaves != 1 {
				t.Errorf("got %d rows in %d leaves, want an empty tree", len(keys), tr.leaves)
			}
			putKey(&tr, number(1))
			checkTree(t, &tr)
		})
	}
}

func TestTreeRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	tr, want := newTree(&heap{}), map[string]bool{}
	for phase := range 6 {
		for range 12_000 {
			key := number(r.IntN(30_000))
			// Phases grow and shrink the tree in turn.
			if grow := phase%2 == 0; r.IntN(10) < 8 == grow {
				putKey(&tr, key)
				want[string(key)] = true
			} else if tr.remove(key) != want[string(key)] {
				t.Fatalf("remove %x: want %v", key, want[string(key)])
			} else {
				delete(want, string(key))
			}
		}
		keys := checkTree(t, &tr)
		if len(keys) != len(want) {
			t.Fatalf("phase %d: got %d rows, want %d", phase, len(keys), len(want))
		}
		for _, k := range keys {
			if !want[k] {
				t.Fatalf("phase %d: key %x should be gone", phase, k)
			}
		}
		l, i := tr.seek(number(15_000))
		for ; l != nil && i == l.n; l, i = l.next, 0 {
		}
		if l != nil && fmt.Sprintf("%x", tr.heap.key(l.rows[i].place)) < fmt.Sprintf("%x", number(15_000)) {
			t.Fatalf("seek found %x, which is below the key", tr.heap.key(l.rows[i].place))
		}
	}
}
