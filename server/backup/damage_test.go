package backup

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
)

// damaged is a backup whose bytes a test changes.
type damaged struct {
	name, dest, artifact, manifest string
	keys                           Codec
}

// kinds are backups of one store in each form, small enough to change bits everywhere.
func kinds(t *testing.T) []damaged {
	endpoint, _ := serve(t, 5)
	recipients, identity := newKey(t)
	var all []damaged
	for _, codec := range []Codec{
		{Compression: CompressionZstd},
		{Compression: CompressionZstd, RecipientsFile: recipients, IdentityFile: identity},
		{Compression: CompressionNone},
	} {
		dest := t.TempDir()
		m := take(t, endpoint, "b", dest, func(o *TakeOptions) { o.Codec = codec })
		all = append(all, damaged{
			name: filepath.Ext(m.snapshot()), dest: dest, keys: codec,
			artifact: filepath.Join(dest, m.snapshot()), manifest: filepath.Join(dest, "b", manifestFile),
		})
	}
	return all
}

func (d damaged) verify(t *testing.T) error {
	_, err := Verify(t.Context(), VerifyOptions{Name: "b", From: Location{URL: d.dest}, Codec: d.keys, Logger: quiet})
	return err
}

// wantNotRestored wants a restore to be refused with nothing touched.
func (d damaged) wantNotRestored(t *testing.T, what string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Restore(t.Context(), restoreOptions("b", d.dest, dir)); err == nil {
		t.Errorf("%s is restored", what)
	}
	if left := names(t, filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("%s: the restore leaves %v", what, left)
	}
}

// A flipped bit of what is stored is found wherever it is, in every form.
func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, d := range kinds(t) {
		t.Run(d.name, func(t *testing.T) {
			if err := d.verify(t); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{d.artifact, d.manifest} {
				d.flipAll(t, file)
			}
			if err := d.verify(t); err != nil {
				t.Errorf("the backup as it was: %v", err)
			}
		})
	}
}

// maxFlips is how many bits of a file are flipped, about.
const maxFlips = 1000

func (d damaged) flipAll(t *testing.T, file string) {
	t.Helper()
	good := read(t, file)
	step := max(len(good)*8/maxFlips, 1) | 1 // odd, so that it is another bit of each byte
	for bit := 0; bit < len(good)*8; bit += step {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		write(t, file, bad)
		err := d.verify(t)
		reasons := []Reason{Corrupt}
		if file == d.manifest {
			reasons = append(reasons, NewerFormat) // of the digit that is the format
		}
		if err == nil || !slices.Contains(reasons, ReasonOf(err)) {
			t.Fatalf("bit %d of %s is flipped, and verify says %s: %v", bit, filepath.Base(file), ReasonOf(err), err)
		}
		if bit/step%250 == 0 {
			d.wantNotRestored(t, "a flipped bit")
		}
	}
	write(t, file, good)
}

// A file that is cut anywhere, is longer, or is gone, is found.
func TestTruncatedIsFound(t *testing.T) {
	for _, d := range kinds(t) {
		good := read(t, d.artifact)
		for n := 0; n < len(good); n += len(good)/50 + 1 {
			write(t, d.artifact, good[:n])
			wantReason(t, "truncated", d.verify(t), Corrupt)
		}
		d.wantNotRestored(t, "what is truncated")
		write(t, d.artifact, append(bytes.Clone(good), 0))
		wantReason(t, "one byte more", d.verify(t), Corrupt)
		write(t, d.artifact, good)
		manifest := read(t, d.manifest)
		for n := range len(manifest) {
			write(t, d.manifest, manifest[:n])
			wantReason(t, "a truncated manifest", d.verify(t), Corrupt)
		}
	}
}
