package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// behindWriters are many, so that the revisions come fast.
const behindWriters = 64

// A member that was down for many revisions, far more than the log of the others
// still holds, comes back by a snapshot while writes go on, also when it is
// killed while the snapshot comes in.
func TestFaultsFarBehind(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		// In proportion, a million revisions meet the values that hold by default.
		members := newCluster(t, engine, 3, "--heartbeat-interval=50", "--election-timeout=500",
			fmt.Sprintf("--snapshot-count=%d", *faultRevisions/100), fmt.Sprintf("--snapshot-catchup-entries=%d", *faultRevisions/200))
		startAll(members)
		late := others(members, leader(t, members))[0]
		rest := others(members, late)
		h := startHistory(t, 4, members...)
		h.progress(20)
		late.kill()
		l := startLoad(client(t, rest...), behindWriters)
		defer l.end()
		behind, filled := fallBehind(t, h, late, rest)
		writes, received, back := l.writes.Load(), strings.Count(late.out.String(), "snapshot received"), time.Now()
		late.start()
		c := client(t, late)
		eventually(t, 10*time.Minute, func() error { return answers(c) })
		took := time.Since(back)
		writes = l.writes.Load() - writes
		h.next()
		h.progress(50)
		// One is enough, if the first try did not bring it already: while a member
		// fetches it, nobody drops what comes next.
		if received = strings.Count(late.out.String(), "snapshot received") - received; received > 1 {
			t.Errorf("it needed %d snapshots", received)
		}
		l.end()
		if n := l.failed.Load(); n > 0 {
			t.Errorf("%d writes failed", n)
		}
		l.verify(t, client(t, late))
		h.verify(members...)
		checkHashes(t, members)
		t.Logf("%s: %d revisions behind (written in %s), serves %s after its start, while %d writes were answered",
			engine, behind, filled.Round(time.Second), took.Round(time.Millisecond), writes)
		if writes == 0 {
			t.Error("no write was answered while the member came back")
		}
	})
}

// fallBehind starts a member when it has been down for the wanted revisions, and
// kills it when the snapshot is on its way.
func fallBehind(t *testing.T, h *history, late *member, rest []*member) (behind int64, filled time.Duration) {
	t.Helper()
	c := client(t, late)
	for !logged("sending snapshot", rest...) {
		began := time.Now()
		behind = waitRevisions(t, h, rest[0], revision(t, rest[0]), int64(*faultRevisions))
		filled = time.Since(began)
		late.start()
		eventually(t, 10*time.Minute, func() error {
			if logged("sending snapshot", rest...) {
				return nil
			}
			return answers(c) // the others had not shortened their logs yet
		})
		late.kill()
	}
	return behind, filled
}

func revision(t *testing.T, m *member) int64 {
	t.Helper()
	s, err := client(t, m).Status(within(t, clientPatience), m.client)
	if err != nil {
		t.Fatal(err)
	}
	return s.Header.Revision
}

// waitRevisions waits until a member is so many revisions ahead, and keeps the
// rounds of the history short meanwhile. Half way it compacts: an engine that
// writes dumps does so, and shortens the log, when the log has outgrown the dump.
func waitRevisions(t *testing.T, h *history, m *member, from, ahead int64) (behind int64) {
	t.Helper()
	told, compacted := time.Now(), false
	for behind < ahead {
		h.progress(200)
		h.next()
		behind = revision(t, m) - from
		if !compacted && behind >= ahead/2 {
			compacted = true
			if _, err := client(t, m).Compact(within(t, clientPatience), from+behind); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			t.Logf("%d revisions of %d", behind, ahead)
		}
	}
	return behind
}

// answers tells whether linearizable reads are.
func answers(c *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := c.Get(ctx, "x")
	return err
}

// logged tells whether one of the members has logged a message.
func logged(message string, members ...*member) bool {
	return slices.ContainsFunc(members, func(m *member) bool { return strings.Contains(m.out.String(), message) })
}
