package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"metastore.io/metastore/server/host"
	"metastore.io/metastore/server/mvcc"
)

// compared is a group whose members answer as a test says.
type compared struct {
	own    []host.KeysHash // one a call; the last one stays
	peers  []host.PeerHash
	hashes []mvcc.Hash
	asked  []int64
	raised []uint64
}

func (c *compared) KeysHash(int64) (host.KeysHash, error) {
	h := c.own[0]
	if len(c.own) > 1 {
		c.own = c.own[1:]
	}
	return h, nil
}

func (c *compared) PeerHashes(_ context.Context, rev int64) []host.PeerHash {
	c.asked = append(c.asked, rev)
	return c.peers
}

func (c *compared) CompactionHashes() []mvcc.Hash { return c.hashes }

func (c *compared) ReadBarrier(context.Context) error { return nil }

func (c *compared) RaiseCorrupt(_ context.Context, member uint64) error {
	c.raised = append(c.raised, member)
	return nil
}

func (c *compared) corruption() *corruption {
	return &corruption{self: 1, group: c, log: slog.New(slog.DiscardHandler)}
}

// at is a hash of the rows up to revision 9, compacted to 3.
func at(hash uint32) host.KeysHash {
	return host.KeysHash{Revision: 9, Hashed: 9, CompactRevision: 3, Hash: hash}
}

func peerAt(id uint64, hash uint32) host.PeerHash { return host.PeerHash{ID: id, KeysHash: at(hash)} }

var errNoAnswer = errors.New("no answer")

func TestOddOnes(t *testing.T) {
	for _, c := range []struct {
		members int
		hashes  map[uint64]uint32
		want    []uint64
	}{
		{3, map[uint64]uint32{1: 7, 2: 7, 3: 7}, nil},
		{3, map[uint64]uint32{1: 7}, nil},
		{3, map[uint64]uint32{1: 7, 2: 7, 3: 8}, []uint64{3}},
		{3, map[uint64]uint32{1: 8, 2: 7, 3: 7}, []uint64{1}},
		{3, map[uint64]uint32{1: 7, 3: 8}, []uint64{unknownMember}},
		{3, map[uint64]uint32{1: 7, 2: 8, 3: 9}, []uint64{unknownMember}},
		{2, map[uint64]uint32{1: 7, 2: 8}, []uint64{unknownMember}},
		{5, map[uint64]uint32{1: 8, 2: 7, 3: 7, 4: 9, 5: 7}, []uint64{1, 4}},
		{5, map[uint64]uint32{1: 8, 2: 7, 3: 7, 4: 8}, []uint64{unknownMember}},
		{4, map[uint64]uint32{1: 8, 2: 7, 3: 7, 4: 8}, []uint64{unknownMember}},
	} {
		if got := oddOnes(c.members, c.hashes); !slices.Equal(got, c.want) {
			t.Errorf("%v of %d members: %v, want %v", c.hashes, c.members, got, c.want)
		}
	}
}

func TestPeriodicCheck(t *testing.T) {
	ahead, compactedAhead, behind := peerAt(3, 7), peerAt(3, 7), peerAt(3, 8)
	ahead.Revision, compactedAhead.CompactRevision, behind.CompactRevision = 10, 4, 2
	for name, c := range map[string]struct {
		own   []host.KeysHash
		peers []host.PeerHash
		want  []uint64
	}{
		"all the same":                      {[]host.KeysHash{at(7)}, []host.PeerHash{peerAt(2, 7), peerAt(3, 7)}, nil},
		"a follower differs":                {[]host.KeysHash{at(7)}, []host.PeerHash{peerAt(2, 7), peerAt(3, 8)}, []uint64{3}},
		"the leader differs":                {[]host.KeysHash{at(7)}, []host.PeerHash{peerAt(2, 8), peerAt(3, 8)}, []uint64{1}},
		"nobody knows":                      {[]host.KeysHash{at(7)}, []host.PeerHash{peerAt(2, 8), {ID: 3, Err: errNoAnswer}}, []uint64{unknownMember}},
		"nobody answers":                    {[]host.KeysHash{at(7)}, []host.PeerHash{{ID: 2, Err: errNoAnswer}, {ID: 3, Err: errNoAnswer}}, nil},
		"compacted otherwise":               {[]host.KeysHash{at(7)}, []host.PeerHash{peerAt(2, 7), behind}, nil},
		"a follower is ahead":               {[]host.KeysHash{at(7)}, []host.PeerHash{peerAt(2, 7), ahead}, []uint64{3}},
		"a follower is compacted further":   {[]host.KeysHash{at(7)}, []host.PeerHash{peerAt(2, 7), compactedAhead}, []uint64{3}},
		"the leader does not agree with it": {[]host.KeysHash{at(7), at(8)}, []host.PeerHash{peerAt(2, 7), peerAt(3, 7)}, []uint64{1}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &compared{own: c.own, peers: c.peers}
			if err := g.corruption().periodic(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(g.raised, c.want) || !slices.Equal(g.asked, []int64{9}) {
				t.Errorf("raised for %v, want %v; asked for %v", g.raised, c.want, g.asked)
			}
		})
	}
}

// A compaction that all have compared is not compared again; one that somebody
// has not made yet is left for an older one.
func TestCompactionHashCheck(t *testing.T) {
	g := &compared{
		hashes: []mvcc.Hash{{Rev: 9, CompactRev: 3, Sum: 7}, {Rev: 3, CompactRev: -1, Sum: 6}},
		peers:  []host.PeerHash{peerAt(2, 7), {ID: 3, Err: errNoAnswer}},
	}
	c := g.corruption()
	check := func(asked []int64, raised []uint64) {
		t.Helper()
		g.asked = nil
		if err := c.compacted(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(g.asked, asked) || !slices.Equal(g.raised, raised) {
			t.Errorf("asked for %v, want %v; raised for %v, want %v", g.asked, asked, g.raised, raised)
		}
	}
	check([]int64{9, 3}, nil)
	g.peers[1] = peerAt(3, 7)
	check([]int64{9}, nil)
	check(nil, nil)
	g.hashes = append([]mvcc.Hash{{Rev: 12, CompactRev: 3, Sum: 5}}, g.hashes...)
	check([]int64{12}, []uint64{1})
}

func TestInitialCheck(t *testing.T) {
	behind := peerAt(3, 8)
	behind.CompactRevision = 2
	for name, c := range map[string]struct {
		peers []host.PeerHash
		code  int
		want  string
	}{
		"all the same":        {peers: []host.PeerHash{peerAt(2, 7), peerAt(3, 7)}},
		"alone":               {},
		"nobody answers":      {peers: []host.PeerHash{{ID: 2, Err: errNoAnswer}, {ID: 3, Err: errNoAnswer}}},
		"compacted otherwise": {peers: []host.PeerHash{peerAt(2, 7), behind}},
		"another one differs": {peers: []host.PeerHash{peerAt(2, 7), peerAt(3, 8)}},
		"this one differs":    {[]host.PeerHash{peerAt(2, 8), peerAt(3, 8)}, ExitCorrupt, "the data of this member, 1, differ from that of [2 3] at revision 9 (hash 00000007, theirs 00000008), who are a majority"},
		"one of two differs":  {[]host.PeerHash{peerAt(2, 8)}, ExitFailure, "no majority tells who is right"},
		"three hashes":        {[]host.PeerHash{peerAt(2, 8), peerAt(3, 9)}, ExitFailure, "no majority tells who is right"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &compared{own: []host.KeysHash{at(7)}, peers: c.peers}
			err := g.corruption().initial(t.Context())
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			code := ExitFailure
			var exit *ExitError
			if errors.As(err, &exit) {
				code = exit.Code
			}
			if err == nil || code != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v with code %d, want %q with %d", err, code, c.want, c.code)
			}
		})
	}
}
