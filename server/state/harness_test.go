package state

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
)

const testGroup engine.GroupID = 3

// testMachine is a machine with the helpers of a test that applies to it.
type testMachine struct {
	*Machine
	t testing.TB
}

func openMachine(t testing.TB, o engine.Opener, dir string) *testMachine {
	t.Helper()
	e, err := o.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(Options{Engine: e, Group: testGroup})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() }) // a test may have closed it
	return &testMachine{Machine: m, t: t}
}

var firstMembers = []Member{
	{ID: 20, PeerURLs: []string{"http://b:2380"}},
	{ID: 10, PeerURLs: []string{"http://a:2380"}},
	{ID: 30, PeerURLs: []string{"http://c:2380"}},
}

// newMachine is a bootstrapped machine on an empty memory engine.
func newMachine(t testing.TB) *testMachine {
	t.Helper()
	m := openMachine(t, memory.Opener{}, t.TempDir())
	m.bootstrap()
	return m
}

func (m *testMachine) bootstrap() {
	m.t.Helper()
	if err := m.Bootstrap(77, firstMembers); err != nil {
		m.t.Fatal(err)
	}
}

// entry makes the next entry.
func (m *testMachine) entry(cmds ...Command) Entry {
	index, term := m.Applied()
	return Entry{Index: index + 1, Term: term, Commands: cmds}
}

func (m *testMachine) apply(entries ...Entry) Outcome {
	m.t.Helper()
	out, err := m.Apply(entries)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// run applies one request as an entry of its own.
func (m *testMachine) run(k Kind, body proto.Message) Result {
	m.t.Helper()
	return m.runAll(command(m.t, k, body)).Entries[0].Results[0]
}

func (m *testMachine) runAll(cmds ...Command) Outcome {
	m.t.Helper()
	return m.apply(m.entry(cmds...))
}

// do is run where the request has to succeed.
func (m *testMachine) do(k Kind, body proto.Message) proto.Message {
	m.t.Helper()
	r := m.run(k, body)
	if r.Err != nil {
		m.t.Fatalf("%v: %v", body, r.Err)
	}
	return r.Response
}

func (m *testMachine) change(c MemberChange) ChangeResult {
	m.t.Helper()
	e := m.entry()
	e.Change = &c
	return m.apply(e).Entries[0].Change
}

func (m *testMachine) hash() uint32 {
	m.t.Helper()
	h, err := m.Hash()
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

func (m *testMachine) hashKV() uint32 {
	m.t.Helper()
	h, _, _, err := m.KV().HashKV(0)
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

// settle finishes all background work.
func (m *testMachine) settle() {
	m.t.Helper()
	for more := true; more; {
		var err error
		if more, err = m.Step(100); err != nil {
			m.t.Fatal(err)
		}
	}
}

func command(t testing.TB, k Kind, body proto.Message) Command {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return Command{Kind: k, Body: b}
}
