package host

import (
	"errors"
	"testing"

	"metastore.io/metastore/server/disk/memdisk"
)

// The log is not shortened past a snapshot that is on its way, nor past what the
// member that got it has since stored, until it has caught up or is lost.
func TestLogWaitsForSnapshots(t *testing.T) {
	var u upkeep
	u.init(newHost(t, memdisk.New(1), 1, 1, 2, 3).Machine())
	const near = 10
	step := func(what string, keepFrom, want uint64, progress map[uint64]uint64) {
		t.Helper()
		if got := u.neededFrom(keepFrom, near, progress); got != want {
			t.Errorf("%s: entries from %d on are kept, want %d", what, got, want)
		}
	}
	step("no snapshot", 50, 50, nil)
	u.applied(100)
	u.sending(2)
	u.applied(300)
	step("before it", 50, 50, map[uint64]uint64{2: 3})
	step("on its way", 200, 101, map[uint64]uint64{2: 3})
	u.sending(3)
	u.sent(2, nil)
	step("sent, and another later one", 280, 101, map[uint64]uint64{2: 100, 3: 3})
	step("catching up", 280, 251, map[uint64]uint64{2: 250, 3: 3})
	step("caught up", 280, 280, map[uint64]uint64{2: 290, 3: 3})
	u.applied(500)
	step("caught up for good", 480, 301, map[uint64]uint64{2: 290, 3: 3})
	u.sent(3, errors.New("lost"))
	step("lost", 480, 480, map[uint64]uint64{2: 490, 3: 3})
	u.sending(3)
	u.sent(3, nil)
	u.applied(900)
	step("another member leads", 880, 880, nil)
}
