package etcdfile

import (
	"bytes"
	"crypto/sha256"
	"os"
	"testing"

	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/state"
)

// openAny does with a file all that the product does with one.
func openAny(t *testing.T, path string, check HashCheck) (taken bool) {
	f, err := Open(path, check)
	if err != nil {
		return false
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	_, _ = f.Status() // what it says does not matter
	if _, err := f.Inspect(3); err != nil {
		return true
	}
	e, err := memory.Opener{FS: memdisk.New(1)}.Open("/engine")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	if _, err := f.CopyTo(t.Context(), e, testGroup, 3); err != nil {
		return true
	}
	_, _ = state.Open(state.Options{Engine: e, Group: testGroup}) // or it says why not
	return true
}

// FuzzOpenDamaged changes up to eight bytes of a snapshot. With its hash that
// never goes unnoticed, and without it costs an error at most.
func FuzzOpenDamaged(f *testing.F) {
	good, err := os.ReadFile(newFullStore(f).file())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), uint64(0))
	f.Add(uint32(4096*2+8), uint64(1))
	f.Add(uint32(4096*3+16), uint64(0xff00ff00))
	f.Add(uint32(len(good)-sumBytes), uint64(1))
	f.Fuzz(func(t *testing.T, offset uint32, xor uint64) {
		bad := bytes.Clone(good)
		at := int(offset) % len(bad)
		for i := range min(8, len(bad)-at) {
			bad[at+i] ^= byte(xor >> (8 * i))
		}
		path := writeFile(t, bad)
		if taken := openAny(t, path, HashRequired); taken != bytes.Equal(bad, good) {
			t.Fatalf("offset %d, bits %x: taken %v", offset, xor, taken)
		}
		openAny(t, path, HashSkipped)
	})
}

// FuzzOpen opens anything: what is taken with its hash has the right one.
func FuzzOpen(f *testing.F) {
	good, err := os.ReadFile(newFullStore(f).file())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:4096*4])
	f.Add([]byte("not a database"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		path := writeFile(t, b)
		if openAny(t, path, HashRequired) {
			end := len(b) - sumBytes
			if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) {
				t.Fatal("taken with a hash that is not right")
			}
		}
		openAny(t, path, HashSkipped)
	})
}

// FuzzRevision: what is read is what is written, tombstones and sub revisions
// apart.
func FuzzRevision(f *testing.F) {
	f.Add(appendRevision(nil, 5))
	f.Add(append(appendRevision(nil, 1<<62), 't'))
	f.Add(appendRevision(nil, -1))
	f.Fuzz(func(t *testing.T, b []byte) {
		main, err := revisionMain(b)
		if err != nil {
			return
		}
		if again := appendRevision(nil, main); main < 0 || !bytes.Equal(again[:9], b[:9]) {
			t.Fatalf("%x is %d, and that %x", b, main, again)
		}
	})
}
