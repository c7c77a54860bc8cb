package state

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/mvcc"
)

func changeOf(k MemberChangeKind, id uint64, urls ...string) MemberChange {
	return MemberChange{Kind: k, Member: Member{ID: id, PeerURLs: urls}}
}

func (m *testMachine) wantConf(voters, learners []uint64) {
	m.t.Helper()
	c := m.ConfState()
	if !slices.Equal(c.Voters, voters) || !slices.Equal(c.Learners, learners) {
		m.t.Errorf("the configuration is %v, want voters %v and learners %v", c, voters, learners)
	}
}

func TestBootstrap(t *testing.T) {
	dir := t.TempDir()
	m := openMachine(t, memory.Opener{}, dir)
	if index, term := m.Applied(); index != 0 || term != 0 || m.ClusterID() != 0 || len(m.Members()) != 0 {
		t.Error("an empty engine holds something")
	}
	if err := m.Bootstrap(1, []Member{{ID: 5}, {ID: 5}}); !errors.Is(err, ErrIDExists) {
		t.Errorf("a member twice: %v", err)
	}
	m.bootstrap()
	if err := m.Bootstrap(77, firstMembers); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("a second bootstrap: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = openMachine(t, memory.Opener{}, dir) // nothing but Bootstrap flushed it
	if index, term := m.Applied(); index != 1 || term != 1 || m.ClusterID() != 77 {
		t.Errorf("reopened at %d/%d of cluster %d", index, term, m.ClusterID())
	}
	m.wantConf([]uint64{10, 20, 30}, nil)
	if a, ok := m.Member(10); !ok || !reflect.DeepEqual(a, firstMembers[1]) {
		t.Errorf("member 10 is %+v", a)
	}
}

// TestLearnerLimit: a change carries how many learners there may be, so that all
// members judge it alike.
func TestLearnerLimit(t *testing.T) {
	m := newMachine(t)
	add := func(id uint64, limit int32) MemberChange {
		c := changeOf(AddLearner, id, fmt.Sprintf("http://l%d", id))
		c.MaxLearners = limit
		return c
	}
	for _, c := range []struct {
		change MemberChange
		want   error
	}{
		{add(50, -1), ErrTooManyLearners},
		{add(50, 0), nil},
		{add(51, 0), ErrTooManyLearners},
		{add(51, 1), ErrTooManyLearners},
		{add(51, 3), nil},
		{add(52, 3), nil},
		{add(53, 3), ErrTooManyLearners},
	} {
		decoded, err := DecodeMemberChange(c.change.Encode())
		if err != nil || !reflect.DeepEqual(decoded, c.change) {
			t.Fatalf("%+v becomes %+v, %v", c.change, decoded, err)
		}
		if r := m.change(c.change); !errors.Is(r.Err, c.want) {
			t.Errorf("limit %d: %v, want %v", c.change.MaxLearners, r.Err, c.want)
		}
	}
}

// TestMembershipRules: what is invalid when its turn comes changes nothing, and
// is refused before its proposal likewise.
func TestMembershipRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		change MemberChange
		want   error
	}{
		{"add a voter that is there", changeOf(AddVoter, 10, "http://n"), ErrIDExists},
		{"add a learner that is there", changeOf(AddLearner, 40, "http://n"), ErrIDExists},
		{"add a removed member", changeOf(AddVoter, 30, "http://n"), ErrIDRemoved},
		{"promote a removed member", changeOf(Promote, 30), ErrIDRemoved},
		{"remove a removed member", changeOf(Remove, 30), ErrIDRemoved},
		{"take a member's URL", changeOf(AddVoter, 50, "http://n", "http://a:2380"), ErrPeerURLExists},
		{"take a learner's URL", changeOf(AddLearner, 50, "http://d:2380"), ErrPeerURLExists},
		{"too many learners", changeOf(AddLearner, 50, "http://n"), ErrTooManyLearners},
		{"promote no member", changeOf(Promote, 50), ErrMemberNotFound},
		{"promote a voter", changeOf(Promote, 10), ErrNotLearner},
		{"remove no member", changeOf(Remove, 50), ErrMemberNotFound},
		{"no ID", changeOf(AddVoter, 0), ErrMalformed},
		{"remove no ID", changeOf(Remove, 0), ErrMemberNotFound},
		{"promote no ID", changeOf(Promote, 0), ErrMemberNotFound},
		{"unknown kind", changeOf(9, 50), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.change(changeOf(Remove, 30))
			m.change(changeOf(AddLearner, 40, "http://d:2380"))
			before := rowsOf(t, m)
			if err := m.CheckChange(c.change); !errors.Is(err, c.want) {
				t.Errorf("before the proposal: %v, want %v", err, c.want)
			}
			if r := m.change(c.change); r.Applied || !errors.Is(r.Err, c.want) {
				t.Errorf("got %+v, want %v", r, c.want)
			}
			if !slices.Equal(before, rowsOf(t, m)) {
				t.Error("it changed something")
			}
			if index, _ := m.Applied(); index != 4 {
				t.Errorf("the applied index is %d", index)
			}
		})
	}
}

func TestMembershipLife(t *testing.T) {
	dir := t.TempDir()
	m := openMachine(t, memory.Opener{}, dir)
	m.bootstrap()
	apply := func(c MemberChange) {
		t.Helper()
		if r := m.change(c); !r.Applied || r.Err != nil {
			t.Fatalf("%v: %+v", c, r)
		}
	}
	apply(changeOf(AddLearner, 15, "http://l:2380"))
	m.wantConf([]uint64{10, 20, 30}, []uint64{15})
	m.do(KindMemberPublish, &pb.Member{ID: 15, Name: "lima", ClientURLs: []string{"http://l:2379"}, PeerURLs: []string{"ignored"}})
	m.do(KindMemberUpdate, &pb.Member{ID: 15, Name: "ignored", PeerURLs: []string{"http://l2:2380"}})
	apply(changeOf(Promote, 15))
	m.wantConf([]uint64{10, 15, 20, 30}, nil)
	apply(changeOf(Remove, 10))
	apply(changeOf(AddVoter, 40, "http://a:2380")) // the URL is free again
	m.wantConf([]uint64{15, 20, 30, 40}, nil)

	check := func() {
		t.Helper()
		want := Member{ID: 15, Name: "lima", PeerURLs: []string{"http://l2:2380"}, ClientURLs: []string{"http://l:2379"}}
		if got, ok := m.Member(15); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("member 15 is %+v", got)
		}
		if !m.Removed(10) || m.Removed(15) {
			t.Error("removed members are wrong")
		}
		if _, ok := m.Member(10); ok {
			t.Error("member 10 is still there")
		}
		m.wantConf([]uint64{15, 20, 30, 40}, nil)
	}
	check()
	if _, err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = openMachine(t, memory.Opener{}, dir)
	check()
	if r := m.run(KindMemberPublish, &pb.Member{ID: 10}); !errors.Is(r.Err, ErrIDRemoved) {
		t.Errorf("publishing a removed member: %v", r.Err)
	}
	for _, id := range []uint64{15, 20, 30} {
		apply(changeOf(Remove, id))
	}
	if r := m.change(changeOf(Remove, 40)); !errors.Is(r.Err, ErrLastVoter) {
		t.Errorf("removing the last voter: %+v", r)
	}
}

// TestMembersAreCopies: what a caller gets it may change.
func TestMembersAreCopies(t *testing.T) {
	m := newMachine(t)
	m.Members()[0].PeerURLs[0] = "x"
	a, _ := m.Member(10)
	a.PeerURLs[0] = "x"
	if b, _ := m.Member(10); b.PeerURLs[0] != "http://a:2380" {
		t.Errorf("it is %+v now", b)
	}
}

// TestRowFormats: rows of the first format open for ever.
func TestRowFormats(t *testing.T) {
	rows := map[string]string{
		"applied": "\x01\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x04",
		"cluster": "\x01\x00\x00\x00\x00\x00\x00\x01\x00",
		"version": "\x013.7.0",
		"member/\x00\x00\x00\x00\x00\x00\x00\x05":                "\x01\x00\x00\x00\x00\x00\x00\x00\x05\x01\x01n\x01\x01u\x00",
		"removed/\x00\x00\x00\x00\x00\x00\x00\x06":               "\x01",
		"alarm/\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05": "\x01",
	}
	m, err := openWithRows(t, rows)
	if err != nil {
		t.Fatal(err)
	}
	if index, term := m.Applied(); index != 9 || term != 4 || m.ClusterID() != 256 || m.ClusterVersion() != "3.7.0" {
		t.Errorf("read %d/%d, cluster %d, version %q", index, term, m.ClusterID(), m.ClusterVersion())
	}
	want := []Member{{ID: 5, Name: "n", PeerURLs: []string{"u"}, Learner: true}}
	if got := m.Members(); !reflect.DeepEqual(got, want) || !m.Removed(6) || !m.HasAlarm(pb.AlarmType_NOSPACE) {
		t.Errorf("read %+v, alarms %v", got, m.Alarms())
	}
	for name := range rows {
		newer := "\x02"
		if name == "applied" {
			newer = "\x03"
		}
		for damage, value := range map[string]string{"newer": newer + rows[name][1:], "longer": rows[name] + "\x00", "empty": ""} {
			if name == "version" && damage == "longer" {
				continue // any text is a version
			}
			if _, err := openWithRows(t, map[string]string{name: value}); !errors.Is(err, engine.ErrCorrupt) {
				t.Errorf("%q that is %s: %v", name, damage, err)
			}
		}
	}
	rev := map[string]string{"applied": "\x02" + rows["applied"][1:] + "\x00\x00\x00\x00\x00\x00\x00\x01"}
	if m, err := openWithRows(t, rev); err != nil || m.KV().Rev() != 1 {
		t.Errorf("applied with a revision: %v", err)
	}
	rev["applied"] = rev["applied"][:24] + "\x02"
	if _, err := openWithRows(t, rev); !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), "its rows end at 1") {
		t.Errorf("a state at revision 2 without its rows: %v", err)
	}
	for _, name := range []string{"", "member/\x05", "unheard of", "appliedx"} {
		if _, err := openWithRows(t, map[string]string{name: "\x01"}); !errors.Is(err, engine.ErrCorrupt) {
			t.Errorf("row %q: %v", name, err)
		}
	}
}

func openWithRows(t *testing.T, rows map[string]string) (*Machine, error) {
	t.Helper()
	e, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := engine.NewBatch()
	for name, value := range rows {
		b.Put(engine.Meta, rowKey(testGroup, name), []byte(value))
	}
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
	return Open(Options{Engine: e, Group: testGroup})
}

// TestKeyWithoutItsLease: such data did not come from here.
func TestKeyWithoutItsLease(t *testing.T) {
	e, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := mvcc.Open(e, testGroup)
	if err != nil {
		t.Fatal(err)
	}
	b := engine.NewBatch()
	w := kv.Writer(b)
	w.Begin()
	w.Put([]byte("k"), []byte("v"), 5)
	w.End()
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Engine: e, Group: testGroup}); !errors.Is(err, engine.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// TestGroupsShareAnEngine: many machines on one engine do not see each other.
func TestGroupsShareAnEngine(t *testing.T) {
	e, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var machines []*testMachine
	for g := range engine.GroupID(3) {
		m, err := Open(Options{Engine: e, Group: g})
		if err != nil {
			t.Fatal(err)
		}
		tm := &testMachine{Machine: m, t: t}
		tm.bootstrap()
		machines = append(machines, tm)
	}
	for i, m := range machines {
		for range i + 1 {
			m.do(KindPut, put("k", fmt.Sprint(i)))
		}
		m.do(KindLeaseGrant, &pb.LeaseGrantRequest{ID: int64(i) + 1, TTL: 5})
	}
	for i := range machines {
		m, err := Open(Options{Engine: e, Group: engine.GroupID(i)})
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Range(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
		if err != nil || r.Header.Revision != int64(i)+2 || string(r.Kvs[0].Value) != fmt.Sprint(i) || m.Leases().Len() != 1 {
			t.Errorf("group %d holds %v, %v, %d leases", i, r, err, m.Leases().Len())
		}
	}
}
