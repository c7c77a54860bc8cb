package state

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/lease"
)

var sampleCommands = []Command{
	{Kind: KindPut, By: auth.Identity{User: "me", Revision: 300}, Body: []byte("body")},
	{Kind: KindTxn, Body: []byte{}},
	{Kind: KindLeaseExpire, Body: bytes.Repeat([]byte{0xff}, 300)},
}

var sampleMember = Member{
	ID: 0xfedcba9876543210, Name: "älpha", Learner: true,
	PeerURLs: []string{"http://a:2380", "http://b:2380"}, ClientURLs: []string{"http://a:2379"},
}

// The bytes of the first formats: they must decode for ever.
func TestFormats(t *testing.T) {
	cmds := EncodeCommands(Origin{Member: 1, Incarnation: 0x0203}, 300, sampleCommands[:2])
	want := "\x01" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x02\x03" +
		"\xac\x02" + "\x02" + "\x01\x02me\xac\x02\x04body" + "\x03\x00\x00\x00"
	if string(cmds) != want {
		t.Errorf("commands are\n%q, want\n%q", cmds, want)
	}
	change := MemberChange{Kind: AddLearner, Member: Member{ID: 5, Name: "n", PeerURLs: []string{"u"}, Learner: true}}
	want = "\x01\x02" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x01" + "\x01n" + "\x01\x01u" + "\x00"
	if got := change.Encode(); string(got) != want {
		t.Errorf("the change is\n%q, want\n%q", got, want)
	}
	expire := LeaseExpire(7, []lease.ID{1, -1})
	want = "\x00\x00\x00\x00\x00\x00\x00\x07\x02\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff"
	if string(expire.Body) != want || expire.Kind != KindLeaseExpire {
		t.Errorf("the expiry is\n%q, want\n%q", expire.Body, want)
	}
}

func TestRoundTrips(t *testing.T) {
	origin := Origin{Member: 1 << 63, Incarnation: 42}
	data := EncodeCommands(origin, 1<<64-1, sampleCommands)
	o, seq, cmds, err := DecodeCommands(data)
	if err != nil || o != origin || seq != 1<<64-1 || !reflect.DeepEqual(cmds, sampleCommands) {
		t.Errorf("got %v %d %v, %v", o, seq, cmds, err)
	}
	if o, seq, ok := PeekOrigin(data); !ok || o != origin || seq != 1<<64-1 {
		t.Errorf("peeked %v %d %v", o, seq, ok)
	}
	if _, _, cmds, err := DecodeCommands(EncodeCommands(origin, 0, nil)); err != nil || len(cmds) != 0 {
		t.Errorf("no commands: %v, %v", cmds, err)
	}
	for _, k := range []MemberChangeKind{AddVoter, AddLearner, Promote, Remove} {
		c := MemberChange{Kind: k, Member: sampleMember}
		if got, err := DecodeMemberChange(c.Encode()); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	ids := []lease.ID{3, -9, 1 << 62}
	if term, got, err := decodeLeaseExpire(LeaseExpire(9, ids).Body); err != nil || term != 9 || !reflect.DeepEqual(got, ids) {
		t.Errorf("got %d %v, %v", term, got, err)
	}
}

// TestDecodeAliases keeps decoding free of copies.
func TestDecodeAliases(t *testing.T) {
	data := EncodeCommands(Origin{}, 0, sampleCommands[:1])
	_, _, cmds, err := DecodeCommands(data)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] = '!'
	if string(cmds[0].Body) != "bod!" {
		t.Errorf("the body is %q", cmds[0].Body)
	}
	if cap(cmds[0].Body) != len(cmds[0].Body) {
		t.Error("appending to a body would write into the entry")
	}
}

// TestTruncation cuts valid encodings at every length.
func TestTruncation(t *testing.T) {
	cmds := EncodeCommands(Origin{1, 2}, 3, sampleCommands)
	change := MemberChange{Kind: Promote, Member: sampleMember}.Encode()
	for i := range cmds {
		if _, _, _, err := DecodeCommands(cmds[:i]); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes of commands: %v", i, err)
		}
	}
	for i := range change {
		if _, err := DecodeMemberChange(change[:i]); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes of a change: %v", i, err)
		}
	}
	if _, _, _, err := DecodeCommands(append(cmds, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := DecodeMemberChange(append(change, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte too many: %v", err)
	}
	for _, flip := range []int{0, 1} { // version, kind
		bad := bytes.Clone(change)
		bad[flip] = 99
		if _, err := DecodeMemberChange(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d wrong: %v", flip, err)
		}
	}
}

// FuzzDecodeCommands: whatever decodes encodes to the same bytes.
func FuzzDecodeCommands(f *testing.F) {
	f.Add(EncodeCommands(Origin{1, 2}, 3, sampleCommands))
	f.Add(EncodeCommands(Origin{}, 1<<40, nil))
	f.Add([]byte{commandsVersion})
	f.Add(append(make([]byte, 18), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, seq, cmds, err := DecodeCommands(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		if o2, seq2, ok := PeekOrigin(data); !ok || o2 != o || seq2 != seq {
			t.Fatalf("%x is of %v %d, and PeekOrigin says %v %d %v", data, o, seq, o2, seq2, ok)
		}
		if again := EncodeCommands(o, seq, cmds); !bytes.Equal(again, data) {
			t.Fatalf("%x encodes to %x", data, again)
		}
	})
}

// FuzzDecodeMemberChange: as above.
func FuzzDecodeMemberChange(f *testing.F) {
	f.Add(MemberChange{Kind: AddVoter, Member: sampleMember}.Encode())
	f.Add(MemberChange{Kind: Remove, Member: Member{ID: 1}}.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeMemberChange(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		if again := c.Encode(); !bytes.Equal(again, data) {
			t.Fatalf("%x encodes to %x", data, again)
		}
	})
}

// FuzzDecodeLeaseExpire: as above.
func FuzzDecodeLeaseExpire(f *testing.F) {
	f.Add(LeaseExpire(1, []lease.ID{1, 2}).Body)
	f.Add(LeaseExpire(1, nil).Body)
	f.Fuzz(func(t *testing.T, data []byte) {
		term, ids, err := decodeLeaseExpire(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		if again := LeaseExpire(term, ids).Body; !bytes.Equal(again, data) {
			t.Fatalf("%x encodes to %x", data, again)
		}
	})
}
