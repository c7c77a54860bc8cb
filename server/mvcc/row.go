package mvcc

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// Tags of mvccpb.KeyValue's fields: number << 3 | wire type.
const (
	tagKey     = 1<<3 | 2
	tagCreated = 2<<3 | 0
	tagMod     = 3<<3 | 0
	tagVersion = 4<<3 | 0
	tagValue   = 5<<3 | 2
	tagLease   = 6<<3 | 0
)

// appendRow appends the protobuf encoding, byte-equal to proto.Marshal's.
func appendRow(dst []byte, kv *mvccpb.KeyValue) []byte {
	dst = appendBytesField(dst, tagKey, kv.Key)
	dst = appendIntField(dst, tagCreated, kv.CreateRevision)
	dst = appendIntField(dst, tagMod, kv.ModRevision)
	dst = appendIntField(dst, tagVersion, kv.Version)
	dst = appendBytesField(dst, tagValue, kv.Value)
	return appendIntField(dst, tagLease, kv.Lease)
}

func appendIntField(dst []byte, tag byte, v int64) []byte {
	if v == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, tag), uint64(v))
}

func appendBytesField(dst []byte, tag byte, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(v)))
	return append(dst, v...)
}

// decodeRow fills an empty kv from a row. Key and Value share the row's
// memory. Rows hold the six known fields and nothing else; anything more is
// corruption, not an extension.
func decodeRow(row []byte, kv *mvccpb.KeyValue) error {
	for rest := row; len(rest) > 0; {
		tag := rest[0]
		v, n := binary.Uvarint(rest[1:])
		if n <= 0 {
			return errRow(row, tag)
		}
		rest = rest[1+n:]
		if tag == tagKey || tag == tagValue {
			if v > uint64(len(rest)) {
				return errRow(row, tag)
			}
			part := rest[:v:v]
			rest = rest[v:]
			if tag == tagKey {
				kv.Key = part
			} else {
				kv.Value = part
			}
			continue
		}
		if !setIntField(kv, tag, int64(v)) {
			return errRow(row, tag)
		}
	}
	return nil
}

func setIntField(kv *mvccpb.KeyValue, tag byte, v int64) bool {
	switch tag {
	case tagCreated:
		kv.CreateRevision = v
	case tagMod:
		kv.ModRevision = v
	case tagVersion:
		kv.Version = v
	case tagLease:
		kv.Lease = v
	default:
		return false
	}
	return true
}

func errRow(row []byte, tag byte) error {
	return fmt.Errorf("mvcc: row of %d bytes does not decode at tag %d: %w", len(row), tag, engine.ErrCorrupt)
}
