package etcdfile

import (
	"fmt"
	"hash"
	"hash/crc32"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// Status is what etcdutl tells of a file, under its names.
type Status struct {
	// Hash is a CRC-32C over the names of the buckets and all rows.
	Hash uint32 `json:"hash"`
	// Revision is that of the newest row.
	Revision int64 `json:"revision"`
	// TotalKey counts the keys that are there at that revision.
	TotalKey int `json:"totalKey"`
	// TotalSize is the database's, in bytes, without a SHA-256.
	TotalSize int64 `json:"totalSize"`
	// Version is that of the storage, empty before v3.6.
	Version string `json:"version"`
}

// Status reads the whole file. It needs memory for the names of all keys.
func (f *File) Status() (Status, error) {
	s := summary{sum: crc32.New(crc32.MakeTable(crc32.Castagnoli)), live: map[string]struct{}{}}
	err := f.view(func(tx *bbolt.Tx) error {
		s.TotalSize = tx.Size()
		s.Version = string(tx.Bucket(bucketMeta).Get(metaStorageVersion))
		return tx.ForEach(s.bucket)
	})
	s.Status.Hash, s.TotalKey = s.sum.Sum32(), len(s.live)
	return s.Status, err
}

type summary struct {
	Status
	sum  hash.Hash32
	live map[string]struct{}
}

func (s *summary) bucket(name []byte, b *bbolt.Bucket) error {
	s.add(name)
	keys := string(name) == string(bucketKey)
	return b.ForEach(func(k, v []byte) error {
		s.add(k)
		s.add(v)
		if keys {
			return s.row(k, v)
		}
		return nil
	})
}

func (s *summary) add(b []byte) { _, _ = s.sum.Write(b) } // never fails

func (s *summary) row(k, v []byte) (err error) {
	if s.Revision, err = revisionMain(k); err != nil {
		return err
	}
	kv := &mvccpb.KeyValue{}
	if err := proto.Unmarshal(v, kv); err != nil {
		return fmt.Errorf("revision %x: %w", k, err)
	}
	if len(k) > revisionBytes {
		delete(s.live, string(kv.Key))
	} else {
		s.live[string(kv.Key)] = struct{}{}
	}
	return nil
}
