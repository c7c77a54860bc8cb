package backup

import (
	"path/filepath"
	"testing"
)

// A bare snapshot file is verified as it would be restored.
func TestBareFileIsVerified(t *testing.T) {
	endpoint, _ := serve(t, 5)
	dest := t.TempDir()
	m := take(t, endpoint, "b", dest, func(o *TakeOptions) { o.Codec.Compression = CompressionNone })
	whole := read(t, filepath.Join(dest, m.snapshot()))
	verify := func(name string) (*Manifest, error) {
		return Verify(t.Context(), VerifyOptions{Name: name, From: Location{URL: dest}, EtcdSnapshot: true, Scratch: t.TempDir(), Logger: quiet})
	}
	got, err := verify(m.snapshot())
	if err != nil || got.Revision != m.Revision || got.Verified != VerifiedChecksum {
		t.Fatalf("%+v, %v; want revision %d", got, err, m.Revision)
	}
	write(t, filepath.Join(dest, "short.db"), whole[:len(whole)/2])
	_, err = verify("short.db")
	wantReason(t, "half a file", err, Corrupt)
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)/2] ^= 1
	write(t, filepath.Join(dest, "flipped.db"), flipped)
	_, err = verify("flipped.db")
	wantReason(t, "a flipped bit", err, Corrupt)
	_, err = verify("none.db")
	wantReason(t, "no file", err, NotFound)
	_, err = Verify(t.Context(), VerifyOptions{Name: "flipped.db", From: Location{URL: dest}, EtcdSnapshot: true, RestoreTest: true, Logger: quiet})
	wantReason(t, "a restore test of it", err, InvalidArgument)
}
