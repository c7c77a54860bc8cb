package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"testing"

	"metastore.io/metastore/server/engine"
)

var imageAt = Applied{Index: 77, Term: 5}

// busyStore holds what random commands leave: histories, tombstones, leases,
// changes of several keys in a revision, and compactions.
func busyStore(t testing.TB, seed uint64, commands int) *Store {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	s := openStore(t, openEngine(t, t.TempDir()))
	key := func() []byte { return fmt.Appendf(nil, "%.*s/%d", r.IntN(9), "/registry", r.IntN(1+commands/3)) }
	for range commands {
		command(t, s, func(w *Writer) {
			for range 1 + r.IntN(3) {
				switch r.IntN(8) {
				case 0, 1:
					w.DeleteRange(key(), nil)
				case 2:
					w.Put(key(), []byte("leased"), 1+r.Int64N(9))
				default:
					w.Put(key(), []byte("v"), 0)
				}
			}
		})
		if r.IntN(50) == 0 {
			if rev := s.Rev() - r.Int64N(20); rev > s.CompactRev() && rev > 0 {
				compact(t, s, rev)
				sweepAll(t, s, 100)
			}
		}
	}
	return s
}

func imageOf(t testing.TB, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteImage(&b, imageAt); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A store that is opened with its image is the one that its rows give, and goes
// on as that one does.
func TestImage(t *testing.T) {
	for seed := range uint64(40) {
		s := busyStore(t, seed, []int{0, 1, 30, 300, 3000}[seed%5])
		image := imageOf(t, s)
		read, err := OpenImage(s.engine, 1, bytes.NewReader(image), imageAt)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		scanned := openStore(t, s.engine)
		for _, other := range []*Store{scanned, s} {
			if err := read.CompareIndex(other); err != nil {
				t.Fatalf("seed %d: the image differs: %v", seed, err)
			}
		}
		if again := imageOf(t, read); !bytes.Equal(again, image) {
			t.Errorf("seed %d: the image of what was read from an image is another", seed)
		}
		goOn(t, read, seed)
	}
}

// goOn changes a store and wants the same of it as of one that is opened then.
func goOn(t *testing.T, s *Store, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	for range 300 {
		key := fmt.Sprintf("%.*s/%d", r.IntN(9), "/registry", r.IntN(900))
		if r.IntN(3) == 0 {
			del(t, s, key, "")
		} else {
			put(t, s, key, "later")
		}
	}
	compact(t, s, s.Rev()-5)
	sweepAll(t, s, 10)
	if err := s.CompareIndex(openStore(t, s.engine)); err != nil {
		t.Errorf("seed %d: some changes later it differs: %v", seed, err)
	}
}

// An image is used for the rows that it was written of, and no others.
func TestImageOfAnotherMoment(t *testing.T) {
	s := busyStore(t, 1, 50)
	image := imageOf(t, s)
	refused := func(what string, e engine.Engine, g engine.GroupID, at Applied) {
		t.Helper()
		if _, err := OpenImage(e, g, bytes.NewReader(image), at); !errors.Is(err, ErrNoImage) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("a later entry", s.engine, 1, Applied{imageAt.Index + 1, imageAt.Term})
	refused("an earlier entry", s.engine, 1, Applied{imageAt.Index - 1, imageAt.Term})
	refused("another term", s.engine, 1, Applied{imageAt.Index, imageAt.Term + 1})
	refused("another group", s.engine, 2, imageAt)
	last := s.engine
	put(t, s, "one", "more")
	refused("a revision more", last, 1, imageAt)
	image = imageOf(t, s)
	b := engine.NewBatch()
	b.DeleteRange(engine.Revisions, appendMain(nil, 1, s.Rev()), nil)
	if err := last.Apply(b); err != nil {
		t.Fatal(err)
	}
	refused("a revision less", last, 1, imageAt)

	s = busyStore(t, 1, 50)
	image = imageOf(t, s)
	compact(t, s, s.Rev())
	refused("a compaction", s.engine, 1, imageAt)
	if err := s.WriteImage(new(bytes.Buffer), imageAt); !errors.Is(err, errSweeping) {
		t.Errorf("an image amid a compaction: %v", err)
	}
	sweepAll(t, s, 1)
	refused("a compaction that is done", s.engine, 1, imageAt)
	image = imageOf(t, s)
	if _, err := OpenImage(s.engine, 1, bytes.NewReader(image), imageAt); err != nil {
		t.Error(err)
	}
}

// Every flipped bit, every cut and every byte too many is found.
func TestImageDamaged(t *testing.T) {
	s := busyStore(t, 3, 60)
	image := imageOf(t, s)
	found := func(what string, image []byte) {
		t.Helper()
		_, err := OpenImage(s.engine, 1, bytes.NewReader(image), imageAt)
		if !errors.Is(err, ErrImageDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for bit := range len(image) * 8 {
		image[bit/8] ^= 1 << (bit % 8)
		found(fmt.Sprintf("bit %d", bit), image)
		image[bit/8] ^= 1 << (bit % 8)
	}
	for n := range image {
		found(fmt.Sprintf("the first %d bytes", n), image[:n])
	}
	found("a byte too many", append(bytes.Clone(image), 0))
}

// FuzzImage: blocks that verify and say anything never panic, and what opens can
// be walked.
func FuzzImage(f *testing.F) {
	s := busyStore(f, 2, 40)
	image := imageOf(f, s)
	f.Add(image[imageHeaderBytes+blockHeaderBytes:len(image)-blockHeaderBytes], uint64(s.index.keys.records.count()))
	f.Add([]byte{0, 1, 'a', 0, 2, 0, 1, 0, 1, 'b', 1, 3}, uint64(2))
	f.Fuzz(func(t *testing.T, keys []byte, count uint64) {
		var b bytes.Buffer
		h := imageHeader{group: 1, applied: imageAt, revision: s.Rev(), compact: s.CompactRev(), keys: count % 1000}
		b.Write(h.encode())
		w := imageWriter{w: &b}
		w.begin()
		w.block = append(w.block, keys...)
		if err := w.end(); err != nil {
			t.Skip(err)
		}
		read, err := OpenImage(s.engine, 1, &b, imageAt)
		if err != nil {
			if !errors.Is(err, ErrImageDamaged) {
				t.Fatal(err)
			}
			return
		}
		if err := read.CompareIndex(read); err != nil {
			t.Fatal(err)
		}
	})
}

var writeImage = flag.Bool("image.write", false, "write testdata/image-v1")

// The format does not change by accident: it would change its version.
func TestImageGolden(t *testing.T) {
	const name = "testdata/image-v1"
	s := openStore(t, openEngine(t, t.TempDir()))
	put(t, s, "a", "1")
	put(t, s, "a", "2")
	del(t, s, "a", "")
	command(t, s, func(w *Writer) { w.Put([]byte("ab"), nil, 7); w.Put([]byte("b"), nil, 0) })
	put(t, s, "b", "4")
	compact(t, s, 3)
	sweepAll(t, s, 10)
	image := imageOf(t, s)
	if *writeImage {
		if err := os.WriteFile(name, image, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(image, want) {
		t.Errorf("got %x, want %x, %v", image, want, err)
	}
}

// A later version's image is none.
func TestImageOfALaterVersion(t *testing.T) {
	s := busyStore(t, 4, 10)
	image := imageOf(t, s)
	binary.LittleEndian.PutUint32(image[8:], imageVersion+1)
	binary.LittleEndian.PutUint32(image[imageHeaderBytes-4:], crc32.Checksum(image[:imageHeaderBytes-4], castagnoli))
	if _, err := OpenImage(s.engine, 1, bytes.NewReader(image), imageAt); !errors.Is(err, ErrNoImage) {
		t.Error(err)
	}
}

// BenchmarkImage is a start with a million keys, and the stop before it.
func BenchmarkImage(b *testing.B) {
	const n = 1_000_000
	s, _ := benchFull(b, n)
	image := imageOf(b, s)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if _, err := OpenImage(s.engine, 1, bytes.NewReader(image), imageAt); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(image))/n, "bytes/key")
	})
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			imageOf(b, s)
		}
	})
}
