package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Codec says what becomes of the bytes of a snapshot.
type Codec struct {
	// Compression is "zstd" or "none"; restores take it from the manifest.
	Compression string
	// RecipientsFile has the age recipients that a backup is encrypted to, one a
	// line, IdentityFile the age identities that can decrypt it. Empty is none.
	RecipientsFile, IdentityFile string
}

// decoderMemoryBytes bounds what a damaged zstd stream can make a reader take.
const decoderMemoryBytes = 64 << 20

func (c Codec) validate() error {
	if c.Compression != CompressionZstd && c.Compression != CompressionNone {
		return failf(InvalidArgument, "--compression=%s is not valid: zstd or none is allowed", c.Compression)
	}
	return nil
}

func (c Codec) recipients() ([]age.Recipient, error) {
	if c.RecipientsFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.RecipientsFile)
	if err != nil {
		return nil, failf(InvalidArgument, "--age-recipients-file: %w", err)
	}
	all, err := age.ParseRecipients(bytes.NewReader(b))
	if err != nil {
		return nil, failf(InvalidArgument, "--age-recipients-file=%s is not valid: %w", c.RecipientsFile, err)
	}
	return all, nil
}

func (c Codec) identities() ([]age.Identity, error) {
	if c.IdentityFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.IdentityFile)
	if err != nil {
		return nil, failf(InvalidArgument, "--age-identity-file: %w", err)
	}
	all, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		return nil, failf(InvalidArgument, "--age-identity-file=%s is not valid: %w", c.IdentityFile, err)
	}
	return all, nil
}

// digest counts and sums the bytes that are read through it.
type digest struct {
	r     io.Reader
	sum   hash.Hash
	bytes int64
}

func newDigest(r io.Reader) *digest { return &digest{r: r, sum: sha256.New()} }

func (d *digest) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	d.sum.Write(b[:n]) // never fails
	d.bytes += int64(n)
	return n, err
}

// copyTo writes what is left to w. A goroutine sums each piece while it is
// written: decoding, sums and writing are about a third each.
func (d *digest) copyTo(w io.Writer) error {
	pieces, summed := make(chan []byte), make(chan struct{})
	go func() {
		defer close(summed)
		for b := range pieces {
			d.sum.Write(b) // never fails
			summed <- struct{}{}
		}
	}()
	defer func() {
		close(pieces)
		<-summed
	}()
	for buffer := make([]byte, copyBytes); ; {
		n, err := d.r.Read(buffer)
		if n > 0 {
			pieces <- buffer[:n]
			_, failed := w.Write(buffer[:n])
			<-summed
			d.bytes += int64(n)
			if failed != nil {
				return failed
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (d *digest) hex() string { return hex.EncodeToString(d.sum.Sum(nil)) }

// encoded is a stream that a goroutine encodes; Close ends that and waits.
type encoded struct {
	*io.PipeReader
	done chan struct{}
}

func (e *encoded) Close() error {
	err := e.PipeReader.Close()
	<-e.done
	return err
}

// encode compresses, then encrypts what r gives.
func encode(r io.Reader, compression string, to []age.Recipient) io.ReadCloser {
	pr, pw := io.Pipe()
	e := &encoded{PipeReader: pr, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		buffer := bufio.NewWriterSize(pw, copyBytes)
		err := encodeTo(buffer, r, compression, to)
		if err == nil {
			err = buffer.Flush()
		}
		pw.CloseWithError(err)
	}()
	return e
}

func encodeTo(w io.Writer, r io.Reader, compression string, to []age.Recipient) (err error) {
	var closers []io.Closer
	if len(to) > 0 {
		e, err := age.Encrypt(w, to...)
		if err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		w, closers = e, append(closers, e)
	}
	if compression == CompressionZstd {
		z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			return fmt.Errorf("compress: %w", err)
		}
		w, closers = z, append(closers, z)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, copyBytes))
	for i := len(closers) - 1; i >= 0 && err == nil; i-- {
		err = closers[i].Close()
	}
	return err
}

// decode undoes encode; close what it gives.
func decode(r io.Reader, m *Manifest, keys []age.Identity) (io.ReadCloser, error) {
	if m.Encryption == EncryptionAge {
		plain, err := age.Decrypt(r, keys...)
		if err != nil {
			return nil, fmt.Errorf("decrypt: %w", err)
		}
		r = plain
	}
	if m.Compression != CompressionZstd {
		return io.NopCloser(r), nil
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(decoderMemoryBytes))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return z.IOReadCloser(), nil
}

// checkKeys wants what is needed to decrypt.
func checkKeys(m *Manifest, keys []age.Identity) error {
	if m.Encryption == EncryptionAge && len(keys) == 0 {
		return failf(WrongKey, "backup %q is encrypted: give --age-identity-file", m.Name)
	}
	return nil
}

// unpack reads a backup's stored bytes and writes the snapshot to w, which is
// not to be trusted before it returned nil: every byte was as the manifest says.
func unpack(ctx context.Context, s store, m *Manifest, keys []age.Identity, w io.Writer) error {
	r, size, err := s.open(ctx, m.snapshot())
	if err != nil {
		if ReasonOf(err) == NotFound {
			return failf(Corrupt, "backup %q has a manifest, but no %s", m.Name, m.snapshot())
		}
		return err
	}
	defer func() { _ = r.Close() }() // only read from
	if size != m.StoredBytes {
		return failf(Corrupt, "%s has %d bytes, its manifest says %d", m.snapshot(), size, m.StoredBytes)
	}
	source := &sourceReader{ctx: ctx, r: r}
	stored := newDigest(source)
	target := &targetWriter{w: w}
	plain, err := decodeAll(stored, m, keys, target)
	switch {
	case target.err != nil:
		return target.err
	case source.err != nil:
		return withReason(Unreachable, fmt.Errorf("read %s: %w", m.snapshot(), source.err))
	}
	// What was not decoded is read all the same: stored bytes that are not those
	// of the manifest are damaged, whatever the decoders make of them.
	if _, drained := io.Copy(io.Discard, stored); drained != nil {
		return withReason(Unreachable, fmt.Errorf("read %s: %w", m.snapshot(), drained))
	}
	if sum := stored.hex(); stored.bytes != m.StoredBytes || sum != m.StoredSHA256 {
		return failf(Corrupt, "%s is damaged: its sha256 is %s, its manifest says %s", m.snapshot(), sum, m.StoredSHA256)
	}
	var noKey *age.NoIdentityMatchError
	if errors.As(err, &noKey) {
		return failf(WrongKey, "backup %q: no identity of --age-identity-file is one of its recipients'", m.Name)
	}
	if err != nil {
		return failf(Corrupt, "%s cannot be read: %w", m.snapshot(), err)
	}
	if plain.bytes != m.SnapshotBytes || plain.hex() != m.SnapshotSHA256 {
		return failf(Corrupt, "%s holds a snapshot with the sha256 %s, its manifest says %s", m.snapshot(), plain.hex(), m.SnapshotSHA256)
	}
	return nil
}

func decodeAll(stored io.Reader, m *Manifest, keys []age.Identity, w io.Writer) (*digest, error) {
	r, err := decode(bufio.NewReaderSize(stored, copyBytes), m, keys)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // ends the decoder only
	// One byte more than the manifest allows is as bad as all of them.
	plain := newDigest(io.LimitReader(r, m.SnapshotBytes+1))
	return plain, plain.copyTo(w)
}

// targetWriter keeps the writer's error apart from the reader's.
type targetWriter struct {
	w   io.Writer
	err error
}

func (t *targetWriter) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	if err != nil {
		t.err = scratchError("write the snapshot", err)
	}
	return n, err
}

// copyBare writes an object without a manifest to w.
func copyBare(ctx context.Context, r io.Reader, w io.Writer) error {
	source, target := &sourceReader{ctx: ctx, r: r}, &targetWriter{w: w}
	_, err := io.CopyBuffer(target, source, make([]byte, copyBytes))
	if err != nil && target.err == nil {
		return withReason(Unreachable, fmt.Errorf("read the snapshot: %w", err))
	}
	return target.err
}
