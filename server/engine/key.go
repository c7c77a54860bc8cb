package engine

import "encoding/binary"

// groupIDBytes is the length of the group prefix of every key.
const groupIDBytes = 4

// Append appends the group's key prefix to dst.
func (g GroupID) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(g))
}

// Key is the group's prefix followed by the parts, in memory of its own.
func (g GroupID) Key(parts ...[]byte) []byte {
	n := groupIDBytes
	for _, p := range parts {
		n += len(p)
	}
	key := g.Append(make([]byte, 0, n))
	for _, p := range parts {
		key = append(key, p...)
	}
	return key
}

// PrefixEnd is the smallest key greater than every key with the prefix, or nil
// when there is none: prefix <= key < PrefixEnd(prefix) are the keys with the
// prefix, with nil unbounded as in Reader.Scan.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append(make([]byte, 0, i+1), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
