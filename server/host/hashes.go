package host

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"metastore.io/metastore/server/state"
)

// callHash asks any member, not the leader only, for the hash of its keys.
const callHash = "hash"

// KeysHash is what a member's keys hash to. Two members with the same Hashed and
// CompactRevision have the same Hash.
type KeysHash struct {
	// Revision is the member's newest one, Hashed the one that the hash goes up
	// to, CompactRevision the compaction that it takes into account.
	Revision        int64  `json:"revision"`
	Hashed          int64  `json:"hashed"`
	CompactRevision int64  `json:"compact_revision"`
	Hash            uint32 `json:"hash"`
}

// PeerHash is another member's answer, or why there is none.
type PeerHash struct {
	ID uint64
	KeysHash
	Err error
}

// KeysHash hashes this member's keys up to a revision; 0 is the newest. One hash
// is made at a time; reads and writes go on meanwhile.
func (h *Host) KeysHash(rev int64) (KeysHash, error) {
	h.hashing.Lock()
	defer h.hashing.Unlock()
	hash, compact, current, err := h.machine.Load().KV().HashKV(rev)
	if err != nil {
		return KeysHash{}, fmt.Errorf("hash the keys at revision %d: %w", rev, err)
	}
	if rev == 0 {
		rev = current
	}
	return KeysHash{Revision: current, Hashed: rev, CompactRevision: compact, Hash: hash}, nil
}

// PeerHashes asks all other members that ever started, at the same time, over the
// given transport: a member may ask before it starts to work.
func (h *Host) PeerHashes(ctx context.Context, p Peers, rev int64) []PeerHash {
	members := slices.DeleteFunc(h.machine.Load().Members(), func(m state.Member) bool {
		return m.ID == h.c.ID || m.Name == ""
	})
	answers := make([]PeerHash, len(members))
	var asked sync.WaitGroup
	for i, m := range members {
		asked.Add(1)
		go func() {
			defer asked.Done()
			answers[i].ID = m.ID
			answers[i].KeysHash, answers[i].Err = h.peerHash(ctx, p, m.ID, rev)
		}()
	}
	asked.Wait()
	return answers
}

func (h *Host) peerHash(ctx context.Context, p Peers, id uint64, rev int64) (KeysHash, error) {
	ctx, cancel := context.WithTimeout(ctx, h.c.RequestTimeout)
	defer cancel()
	body, err := json.Marshal(rev)
	if err != nil {
		return KeysHash{}, err
	}
	answer, err := p.Call(ctx, id, callHash, body)
	if err != nil {
		return KeysHash{}, err
	}
	var a callAnswer
	if err := json.Unmarshal(answer, &a); err != nil {
		return KeysHash{}, fmt.Errorf("answer of a peer: %w", err)
	}
	if a.Hash == nil && a.Error == "" {
		a.Error = "it gave no hash"
	}
	if err := a.err(); err != nil {
		return KeysHash{}, err
	}
	return *a.Hash, nil
}

func (h *Host) answerHash(body []byte) callAnswer {
	var rev int64
	if err := json.Unmarshal(body, &rev); err != nil {
		return callAnswer{Error: err.Error()}
	}
	hash, err := h.KeysHash(rev)
	if err != nil {
		return callAnswer{Error: err.Error()}
	}
	return callAnswer{Hash: &hash}
}
