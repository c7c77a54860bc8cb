package node

import (
	"fmt"

	"metastore.io/metastore/server/mvcc"
)

// Content is what a running member holds at one revision.
type Content struct {
	// Hash is HashKV at the revision when history up to CompactRevision, below 0
	// for none, was compacted.
	Hash            uint32
	CompactRevision int64
	// Keys counts the keys.
	Keys int64
}

// Content reads it, whoever may or may not read it as a client. A revision that
// is compacted or not there yet is an error. It is for a member that is Ready,
// and may run concurrently with all but Stop.
func (n *Node) Content(rev int64) (c Content, err error) {
	kv := n.host.Machine().KV()
	if c.Hash, c.CompactRevision, _, err = kv.HashKV(rev); err != nil {
		return c, fmt.Errorf("hash revision %d: %w", rev, err)
	}
	found, err := kv.Range([]byte{0}, []byte{0}, mvcc.RangeOptions{Rev: rev, CountOnly: true})
	if err != nil {
		return c, fmt.Errorf("count the keys of revision %d: %w", rev, err)
	}
	c.Keys = found.Count
	return c, nil
}
