package memory

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"metastore.io/metastore/server/engine"
)

// FuzzDumpDamage changes up to four bytes of a dump, or cuts it: none of that is
// ever taken.
func FuzzDumpDamage(f *testing.F) {
	_, file := writeDump(f, 40, 30)
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), uint32(1), uint32(0))
	f.Add(uint32(headerBytes+4), uint32(0xff), uint32(0))
	f.Add(uint32(headerBytes+blockHeaderBytes), uint32(1<<31), uint32(0))
	f.Add(uint32(0), uint32(0), uint32(trailerBytes))
	f.Fuzz(func(t *testing.T, offset, xor, cut uint32) {
		bad := bytes.Clone(good)
		at := int(offset) % len(bad)
		for i := range min(4, len(bad)-at) {
			bad[at+i] ^= byte(xor >> (8 * i))
		}
		bad = bad[:len(bad)-int(cut)%len(bad)]
		err := decodeDump(bytes.NewReader(bad), int64(len(bad)), func(dumpRow) {})
		if bytes.Equal(bad, good) {
			if err != nil {
				t.Fatalf("the whole dump: %v", err)
			}
			return
		}
		if !errors.Is(err, engine.ErrCorrupt) {
			t.Fatalf("offset %d, bits %x, cut by %d: %v", offset, xor, cut, err)
		}
	})
}
