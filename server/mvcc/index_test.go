package mvcc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"testing"
)

// naiveTree is the tree's model: sorted keys with their liveness.
type naiveTree struct {
	keys []string
	live map[string]bool
}

func (n *naiveTree) count(from, to string, bounded bool) (c int64) {
	for _, k := range n.keys {
		if k >= from && (!bounded || k < to) && n.live[k] {
			c++
		}
	}
	return c
}

func testSeed(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func TestTreeAgainstSortedSlice(t *testing.T) {
	// Keys of zeros tell apart by their length only: that is where the nodes'
	// word of each key is no help.
	kinds := []func(rnd *rand.Rand, i int) string{
		func(rnd *rand.Rand, i int) string { return fmt.Sprintf("key/%d", rnd.IntN(1<<30)) },
		func(rnd *rand.Rand, i int) string { return fmt.Sprintf("%08d", i) },
		func(rnd *rand.Rand, i int) string {
			b := bytes.Repeat([]byte{0}, rnd.IntN(24))
			for j := range b {
				if rnd.IntN(3) == 0 {
					b[j] = 'a'
				}
			}
			return string(b)
		},
	}
	for _, kind := range kinds {
		rnd := testSeed(t)
		keys := &keyTable{arena: newArena()}
		tr := newTree(keys)
		model := &naiveTree{live: map[string]bool{}}
		ids := map[string]uint32{}
		grow := true
		for i := range 30000 {
			if len(model.keys) > 9000 {
				grow = false
			} else if len(model.keys) == 0 {
				grow = true
			}
			switch n := rnd.IntN(10); {
			case grow && n < 6 || len(model.keys) == 0:
				k := kind(rnd, i)
				if _, ok := ids[k]; ok {
					continue
				}
				live := rnd.IntN(2) == 0
				ids[k] = keys.add([]byte(k), stamp{main: int64(i + 2), dead: !live})
				tr.insert(ids[k], []byte(k), live)
				at := sort.SearchStrings(model.keys, k)
				model.keys = slices.Insert(model.keys, at, k)
				model.live[k] = live
			case n < 8:
				k := model.keys[rnd.IntN(len(model.keys))]
				model.live[k] = !model.live[k]
				tr.setLive([]byte(k), model.live[k])
			default:
				// Runs of removals empty whole nodes.
				at := rnd.IntN(len(model.keys))
				for range min(1+rnd.IntN(100), len(model.keys)-at) {
					k := model.keys[at]
					tr.remove([]byte(k))
					keys.drop(ids[k])
					delete(ids, k)
					delete(model.live, k)
					model.keys = slices.Delete(model.keys, at, at+1)
				}
			}
			if i%500 == 0 {
				checkTree(t, &tr, model, rnd)
			}
		}
		for len(model.keys) > 0 {
			k := model.keys[0]
			tr.remove([]byte(k))
			model.keys = model.keys[1:]
		}
		checkTree(t, &tr, model, rnd)
		if tr.height != 0 {
			t.Fatalf("an empty tree has height %d", tr.height)
		}
	}
}

func checkTree(t *testing.T, tr *tree, model *naiveTree, rnd *rand.Rand) {
	t.Helper()
	var got []string
	tr.ascend(nil, nil, func(id uint32, live bool) bool {
		k := string(tr.keys.key(id))
		if live != model.live[k] {
			t.Fatalf("key %q: live %v", k, live)
		}
		got = append(got, k)
		return true
	})
	if !slices.Equal(got, model.keys) {
		t.Fatalf("tree has %d keys, model %d, or another order", len(got), len(model.keys))
	}
	pick := func() string {
		if len(model.keys) == 0 || rnd.IntN(4) == 0 {
			return fmt.Sprintf("key/%d", rnd.IntN(1<<30))
		}
		return model.keys[rnd.IntN(len(model.keys))]
	}
	for range 20 {
		from, to := pick(), pick()
		if n, want := tr.count([]byte(from), []byte(to)), model.count(from, to, true); n != want {
			t.Fatalf("count [%q, %q) is %d, want %d", from, to, n, want)
		}
		if n, want := tr.count([]byte(from), nil), model.count(from, "", false); n != want {
			t.Fatalf("count [%q, end) is %d, want %d", from, n, want)
		}
		n := 0
		tr.ascend([]byte(from), []byte(to), func(id uint32, _ bool) bool {
			k := string(tr.keys.key(id))
			if k < from || k >= to {
				t.Fatalf("ascend [%q, %q) meets %q", from, to, k)
			}
			n++
			return true
		})
		lo, hi := sort.SearchStrings(model.keys, from), sort.SearchStrings(model.keys, to)
		if n != max(0, hi-lo) {
			t.Fatalf("ascend [%q, %q) meets %d keys, want %d", from, to, n, hi-lo)
		}
	}
}

func TestRevisionsOfAKey(t *testing.T) {
	rnd := testSeed(t)
	for range 50 {
		keys := &keyTable{arena: newArena()}
		id := keys.add([]byte("k"), stamp{main: 2})
		r := keys.records.at(id)
		model := []stamp{{main: 2}}
		main := int64(2)
		for range 300 {
			if rnd.IntN(4) > 0 || len(model) == 1 {
				main += int64(rnd.IntN(3)) + 1
				at := stamp{main: main, sub: uint32(rnd.IntN(3)), dead: rnd.IntN(3) == 0}
				keys.push(r, at)
				model = append(model, at)
			} else {
				n := rnd.IntN(len(model))
				keys.trim(r, n)
				model = model[n:]
			}
			checkRevisions(t, keys, r, model, main)
		}
	}
}

func checkRevisions(t *testing.T, keys *keyTable, r *keyRecord, model []stamp, main int64) {
	t.Helper()
	if r.revisions() != len(model) {
		t.Fatalf("%d revisions, want %d", r.revisions(), len(model))
	}
	for i, want := range model {
		if got := keys.revision(r, i); got != want {
			t.Fatalf("revision %d is %v, want %v", i, got, want)
		}
	}
	for rev := model[0].main - 1; rev <= main+1; rev++ {
		n := 0
		for n < len(model) && model[n].main <= rev {
			n++
		}
		if got := keys.upTo(r, rev); got != n {
			t.Fatalf("%d revisions up to %d, want %d", got, rev, n)
		}
	}
}

func TestArenaReusesBlocks(t *testing.T) {
	rnd := testSeed(t)
	a := newArena()
	type block struct {
		r    ref
		b    []byte
		fill byte
	}
	var blocks []block
	for i := range 20000 {
		if len(blocks) > 500 || len(blocks) > 0 && rnd.IntN(3) == 0 {
			at := rnd.IntN(len(blocks))
			x := blocks[at]
			if !bytes.Equal(a.bytes(x.r, len(x.b)), bytes.Repeat([]byte{x.fill}, len(x.b))) {
				t.Fatalf("block %d of %d bytes was overwritten", x.r, len(x.b))
			}
			a.free(x.r, len(x.b))
			blocks[at] = blocks[len(blocks)-1]
			blocks = blocks[:len(blocks)-1]
			continue
		}
		n := 1 + rnd.IntN(200)
		if rnd.IntN(100) == 0 {
			n = 1 + rnd.IntN(4*arenaOwnLen)
		}
		r, b := a.alloc(n)
		if r == 0 || len(b) != n {
			t.Fatalf("alloc(%d) gave reference %d, %d bytes", n, r, len(b))
		}
		x := block{r, b, byte(i)}
		for j := range b {
			b[j] = x.fill
		}
		blocks = append(blocks, x)
	}
	if len(a.chunks) > 30 {
		t.Fatalf("%d chunks for about 500 blocks: freed ones are not used again", len(a.chunks))
	}
}

// Keys come and go in any number, and each is found exactly while it is there.
func TestPoints(t *testing.T) {
	x := newIndex()
	r := rand.New(rand.NewPCG(5, 5))
	there := map[string]uint32{}
	key := func() []byte { return strconv.AppendInt(nil, r.Int64N(20_000), 10) }
	for i := range 60_000 {
		k := key()
		if id, ok := there[string(k)]; ok && i%5 == 0 {
			x.drop(id)
			delete(there, string(k))
		} else if !ok {
			there[string(k)], _ = x.add(k, x.hash(k), stamp{main: int64(i)})
		}
		if k := key(); x.find(k) != there[string(k)] {
			t.Fatalf("step %d: key %s is record %d, found %d", i, k, there[string(k)], x.find(k))
		}
	}
	for k, id := range there {
		if x.find([]byte(k)) != id {
			t.Fatalf("key %s is record %d, found %d", k, id, x.find([]byte(k)))
		}
	}
	if n := int(x.points.n); n < len(there) || n > 20_000 {
		t.Errorf("%d buckets for %d keys", n, len(there))
	}
}
