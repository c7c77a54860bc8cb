package lease_test

import (
	"errors"
	"math/rand"
	"slices"
	"testing"
	"time"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/lease"
)

var start = time.Now()

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

func wantExpired(t *testing.T, r *lease.Registry, seconds float64, want ...lease.ID) {
	t.Helper()
	if got := r.Expired(at(seconds), 100); !slices.Equal(got, want) {
		t.Errorf("at %v s: expired %v, want %v", seconds, got, want)
	}
}

func TestFollowerHasNoClocks(t *testing.T) {
	r := newRegistry(t, 1)
	check := func() {
		t.Helper()
		wantExpired(t, r, 1000)
		if _, err := r.Renew(1, at(0)); !errors.Is(err, lease.ErrNotPrimary) {
			t.Errorf("renew: %v", err)
		}
		if _, err := r.Remaining(1, at(0)); !errors.Is(err, lease.ErrNotPrimary) {
			t.Errorf("remaining: %v", err)
		}
		if _, ok := r.NextExpiry(); ok {
			t.Error("there is a next expiry")
		}
		if r.IsPrimary() {
			t.Error("it is primary")
		}
	}
	check()
	r.Promote(at(0), 0)
	grant(t, r, 2, 1)
	r.Demote()
	check()
}

func TestPromotionExtends(t *testing.T) {
	r := newRegistry(t, 10, 5)
	r.Promote(at(0), 2*time.Second)
	if next, ok := r.NextExpiry(); !ok || !next.Equal(at(7)) {
		t.Errorf("next expiry at %v, %v", next.Sub(start), ok)
	}
	wantExpired(t, r, 6.999)
	wantExpired(t, r, 7, 2)
	wantExpired(t, r, 11.999, 2)
	wantExpired(t, r, 12, 1)
	// A second promotion gives everything its whole time again.
	r.Demote()
	r.Promote(at(20), 0)
	wantExpired(t, r, 24.999)
	wantExpired(t, r, 25, 2)
}

func TestRenew(t *testing.T) {
	r := newRegistry(t, 10)
	r.Promote(at(0), 5*time.Second)
	ttl, err := r.Renew(1, at(1))
	if err != nil || ttl != 10 {
		t.Errorf("renewed %d, %v", ttl, err)
	}
	// The renewal does not take the extension away.
	if left, _ := r.Remaining(1, at(1)); left != 14*time.Second {
		t.Errorf("%v are left", left)
	}
	if _, err := r.Renew(1, at(14.9)); err != nil {
		t.Error(err)
	}
	wantExpired(t, r, 24.8)
	wantExpired(t, r, 24.9, 1)
	if _, err := r.Renew(1, at(25)); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing an expired lease: %v", err)
	}
	if left, err := r.Remaining(1, at(30)); err != nil || left != 0 {
		t.Errorf("an expired lease has %v left, %v", left, err)
	}
	if _, err := r.Renew(2, at(0)); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing no lease: %v", err)
	}
}

// A lease expired at its deadline even where nobody asked Expired about it.
func TestRenewDoesNotRaceExpired(t *testing.T) {
	r := newRegistry(t, 10)
	r.Promote(at(0), 0)
	if _, err := r.Renew(1, at(10)); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestClockOfAGrantStartsWithTheFirstTime(t *testing.T) {
	r := newRegistry(t)
	r.Promote(at(0), time.Minute)
	for id := range lease.ID(3) {
		grant(t, r, id+1, 10)
	}
	if next, ok := r.NextExpiry(); !ok || next.After(at(0)) {
		t.Errorf("Expired has to be called at once, not at %v", next)
	}
	if left, _ := r.Remaining(1, at(4)); left != 10*time.Second {
		t.Errorf("%v are left", left)
	}
	if _, err := r.Renew(2, at(5)); err != nil {
		t.Error(err)
	}
	wantExpired(t, r, 6)
	if next, _ := r.NextExpiry(); !next.Equal(at(14)) {
		t.Errorf("next expiry %v", next.Sub(start))
	}
	wantExpired(t, r, 100, 1, 2, 3)
}

func TestExpiredIsReportedAgainAndOldestFirst(t *testing.T) {
	r := newRegistry(t, 3, 1, 2)
	r.Promote(at(0), 0)
	if got := r.Expired(at(10), 2); !slices.Equal(got, []lease.ID{2, 3}) {
		t.Errorf("first %v", got)
	}
	wantExpired(t, r, 10, 1)
	wantExpired(t, r, 12.9)
	wantExpired(t, r, 13, 2, 3, 1)
	if _, err := r.Revoke(engine.NewBatch(), 3); err != nil {
		t.Fatal(err)
	}
	wantExpired(t, r, 16, 2, 1)
}

// A clock that goes back does not bring a lease back whose end was proposed.
func TestReportedLeaseStaysExpired(t *testing.T) {
	r := newRegistry(t, 10)
	r.Promote(at(0), 0)
	wantExpired(t, r, 10, 1)
	if _, err := r.Renew(1, at(8)); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing it: %v", err)
	}
	if left, err := r.Remaining(1, at(8)); err != nil || left != 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	// A new primary knows nothing of that.
	r.Promote(at(8), 0)
	if _, err := r.Renew(1, at(9)); err != nil {
		t.Error(err)
	}
}

// TestManyLeases checks the heap against a plain map over a long random run.
func TestManyLeases(t *testing.T) {
	r := newRegistry(t)
	rng := rand.New(rand.NewSource(1))
	r.Promote(at(0), 0)
	deadline := map[lease.ID]time.Time{}
	for now := 0.0; now < 400; now += 0.5 {
		for range 50 {
			id, ttl := lease.ID(rng.Intn(5000)+1), int64(rng.Intn(60)+4)
			switch _, held := deadline[id]; {
			case !held:
				grant(t, r, id, ttl)
				if _, err := r.Remaining(id, at(now)); err != nil {
					t.Fatal(err)
				}
				deadline[id] = at(now).Add(time.Duration(ttl) * time.Second)
			case rng.Intn(3) == 0:
				if _, err := r.Revoke(engine.NewBatch(), id); err != nil {
					t.Fatal(err)
				}
				delete(deadline, id)
			default:
				if ttl, err := r.Renew(id, at(now)); err == nil {
					deadline[id] = at(now).Add(time.Duration(ttl) * time.Second)
				}
			}
		}
		got := r.Expired(at(now), 1<<20)
		var want []lease.ID
		for id, d := range deadline {
			if !at(now).Before(d) {
				want = append(want, id)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("at %v s: expired %v, want %v", now, got, want)
		}
		for _, id := range got {
			if _, err := r.Revoke(engine.NewBatch(), id); err != nil {
				t.Fatal(err)
			}
			delete(deadline, id)
		}
	}
	if r.Len() != len(deadline) {
		t.Errorf("%d leases, want %d", r.Len(), len(deadline))
	}
}

// The longest TTL is told as it is, and does not overflow into an early expiry.
func TestLongestTTL(t *testing.T) {
	r := newRegistry(t, lease.MaxTTLSeconds)
	r.Promote(at(0), time.Hour)
	if left, err := r.Remaining(1, at(0)); err != nil || left != lease.MaxTTLSeconds*time.Second+time.Hour {
		t.Errorf("%v left, %v", left, err)
	}
	wantExpired(t, r, 1e9)
}

func TestConcurrentUse(t *testing.T) {
	r := newRegistry(t, 5)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			r.Promote(at(float64(i)), 0)
			_, _ = r.Renew(1, at(float64(i)))
			r.Expired(at(float64(i)), 10)
			r.NextExpiry()
			r.Keys(1)
			r.List()
		}
	}()
	for i := range 2000 {
		id := lease.ID(i + 2)
		grant(t, r, id, 1)
		if err := r.Attach(id, []byte("k")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Revoke(engine.NewBatch(), id); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	if r.Len() != 1 {
		t.Errorf("%d leases", r.Len())
	}
}

func BenchmarkRenew(b *testing.B) {
	const leases = 100_000
	r := registryForBenchmark(b, leases)
	rng := rand.New(rand.NewSource(1))
	for i := 0; b.Loop(); i++ {
		if _, err := r.Renew(lease.ID(rng.Intn(leases)+1), start.Add(time.Duration(i))); err != nil {
			b.Fatal(err)
		}
	}
}

func registryForBenchmark(b *testing.B, leases int) *lease.Registry {
	b.Helper()
	e := openEngine(b, b.TempDir())
	r, err := lease.Open(e, 1)
	if err != nil {
		b.Fatal(err)
	}
	batch := engine.NewBatch()
	for i := range leases {
		if err := r.Grant(batch, lease.ID(i+1), 3600); err != nil {
			b.Fatal(err)
		}
	}
	r.Promote(start, 0)
	return r
}
