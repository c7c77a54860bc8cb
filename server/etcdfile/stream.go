package etcdfile

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// ChunkBytes is how much Stream hands over at a time, as in etcd.
const ChunkBytes = 32 << 10

// SizeBytes is the length of the database, without its SHA-256.
func (t *Temp) SizeBytes() int64 { return t.sizeBytes }

// Stream hands the database over in chunks, each with what remains of it, and
// at last its SHA-256. send may keep the chunk.
func (t *Temp) Stream(send func(chunk []byte, remaining int64) error) error {
	sum := sha256.New()
	for at := int64(0); at < t.sizeBytes; {
		chunk := make([]byte, min(ChunkBytes, t.sizeBytes-at))
		if _, err := io.ReadFull(io.NewSectionReader(t.file, at, int64(len(chunk))), chunk); err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
		at += int64(len(chunk))
		sum.Write(chunk) // never fails
		if err := send(chunk, t.sizeBytes-at); err != nil {
			return err
		}
	}
	return send(sum.Sum(nil), 0)
}
