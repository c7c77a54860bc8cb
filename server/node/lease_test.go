package node

import "testing"

func TestMinLeaseSeconds(t *testing.T) {
	for _, c := range []struct {
		heartbeat, election uint
		want                int64
	}{{100, 1000, 2}, {10, 100, 1}, {100, 500, 1}, {100, 700, 1}, {300, 1000, 2}, {500, 5000, 8}, {1, 50000, 75}} {
		config := Config{HeartbeatMillis: c.heartbeat, ElectionMillis: c.election}
		if got := config.minLeaseSeconds(); got != c.want {
			t.Errorf("election in %d ms, heartbeat of %d ms: got %d s, want %d s", c.election, c.heartbeat, got, c.want)
		}
	}
}
