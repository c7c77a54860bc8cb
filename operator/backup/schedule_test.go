package backup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// clock is a schedule under a clock that the test moves.
type clock struct {
	t *testing.T
	w ScheduleWorld
	// takes is how long a backup takes; made backups end at ends.
	takes time.Duration
	ends  map[string]time.Time
	fails bool
	made  []string
}

func newClock(t *testing.T, line, zone, start string) *clock {
	t.Helper()
	table, err := ParseTimetable(line, zone)
	if err != nil {
		t.Fatal(err)
	}
	now := at(t, start)
	return &clock{t: t, ends: map[string]time.Time{}, w: ScheduleWorld{Name: "s", Now: now, CreatedAt: now, Table: table, Deadline: time.Hour}}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	out, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// settle takes steps until there is nothing to do; the decision that is left.
func (c *clock) settle() ScheduleDecision {
	for range 1000 {
		for i := range c.w.Backups {
			if m := &c.w.Backups[i]; m.Outcome == "" && !c.w.Now.Before(c.ends[m.Name]) {
				m.Outcome = Complete
				if c.fails {
					m.Outcome, m.Reason = Failed, "DestinationFull"
				}
			}
		}
		d := NextOfSchedule(c.w)
		c.w.LastScheduled, c.w.HandledWord = d.LastScheduled, d.HandledWord
		switch d.Action {
		case MakeBackup:
			c.made = append(c.made, strings.TrimPrefix(d.Name, "s-"))
			c.ends[d.Name] = c.w.Now.Add(c.takes)
			c.w.Backups = append(c.w.Backups, Made{Name: d.Name, CreatedAt: c.w.Now, ScheduledAt: d.Due})
		case RemoveBackup:
			c.made = append(c.made, "-"+strings.TrimPrefix(d.Name, "s-"))
			c.w.Backups = slices.DeleteFunc(c.w.Backups, func(m Made) bool { return m.Name == d.Name })
		default:
			return d
		}
	}
	c.t.Fatal("there is always something to do")
	return ScheduleDecision{}
}

// until moves the clock on, as the schedule asks to be woken and as backups end.
func (c *clock) until(end string) {
	c.t.Helper()
	last := at(c.t, end)
	for {
		next := c.settle().Wake
		for _, m := range c.w.Backups {
			if e := c.ends[m.Name]; m.Outcome == "" && (next.IsZero() || e.Before(next)) {
				next = e
			}
		}
		if next.IsZero() || next.After(last) {
			c.w.Now = last
			c.settle()
			return
		}
		c.w.Now = next
	}
}

func (c *clock) expect(want ...string) {
	c.t.Helper()
	if !slices.Equal(c.made, want) {
		c.t.Errorf("by %s made %q, want %q", c.w.Now.Format(time.RFC3339), c.made, want)
	}
	c.made = nil
}

func TestScheduleByTheClock(t *testing.T) {
	c := newClock(t, "30 2 * * *", "", "2026-02-27T10:00:00Z")
	c.until("2026-03-02T02:29:59Z")
	c.expect("202602280230", "202603010230")
	c.until("2026-03-02T02:30:00Z")
	c.expect("202603020230")
}

func TestScheduleAtMonthEnds(t *testing.T) {
	c := newClock(t, "0 0 31 * *", "", "2026-01-01T00:00:00Z")
	c.until("2026-06-30T00:00:00Z")
	c.expect("202601310000", "202603310000", "202605310000")
	c = newClock(t, "0 12 29 2 *", "", "2026-01-01T00:00:00Z")
	c.until("2029-01-01T00:00:00Z")
	c.expect("202802291200")
}

// TestScheduleAcrossClockChanges pins what the API promises: a time that does not
// exist on a day is left out, one that exists twice counts twice.
func TestScheduleAcrossClockChanges(t *testing.T) {
	c := newClock(t, "30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z")
	c.until("2026-03-30T12:00:00Z")
	c.expect("202603280130", "202603300030") // on the 29th clocks go from 2 to 3
	c = newClock(t, "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z")
	c.until("2026-10-26T12:00:00Z")
	c.expect("202610250030", "202610250130", "202610260130") // on the 25th from 3 to 2
	c = newClock(t, "0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z")
	c.until("2026-03-29T03:00:00Z")
	c.expect("202603290000", "202603290100", "202603290200", "202603290300") // every hour, whatever it is called
}

func TestScheduleCatchesUpOnce(t *testing.T) {
	c := newClock(t, "* * * * *", "", "2026-01-01T00:00:00Z")
	c.until("2026-01-01T00:02:00Z")
	c.expect("202601010001", "202601010002")
	c.w.Now = at(t, "2027-01-01T00:00:30Z") // the operator was away for a year
	c.settle()
	c.expect("202701010000")
}

func TestScheduleStartingDeadline(t *testing.T) {
	c := newClock(t, "0 3 * * *", "", "2026-01-01T00:00:00Z")
	c.w.StartingDeadline = 10 * time.Minute
	c.w.Now = at(t, "2026-01-02T03:10:01Z")
	c.settle()
	c.expect()
	c.w.Now = at(t, "2026-01-03T03:09:59Z")
	c.settle()
	c.expect("202601030300")
}

func TestScheduleWhenTheClockJumps(t *testing.T) {
	c := newClock(t, "0 * * * *", "", "2026-01-01T00:30:00Z")
	c.until("2026-01-01T03:00:00Z")
	c.expect("202601010100", "202601010200", "202601010300")
	c.w.Now = at(t, "2026-01-01T01:10:00Z") // back: what was made is not made again
	c.until("2026-01-01T03:30:00Z")
	c.expect()
	c.w.Now = at(t, "2036-01-01T00:00:00Z") // ten years on, and back again
	c.settle()
	c.expect("203601010000")
	c.w.Now = at(t, "2026-01-01T03:40:00Z")
	c.until("2026-01-01T05:00:00Z")
	c.expect("202601010400", "202601010500")
}

func TestScheduleSuspended(t *testing.T) {
	c := newClock(t, "0 * * * *", "", "2026-01-01T00:30:00Z")
	c.w.Suspended = true
	c.until("2026-01-01T09:10:00Z")
	c.expect()
	c.w.NowWord = "please"
	c.settle()
	c.expect("now-" + hashed("please"))
	c.w.Suspended = false
	c.settle()
	c.expect("202601010900")
}

func TestScheduleBackupNow(t *testing.T) {
	c := newClock(t, "0 3 * * *", "", "2026-01-01T00:00:00Z")
	for _, word := range []string{"a", "a", "b"} {
		c.w.NowWord = word
		c.settle()
	}
	c.expect("now-"+hashed("a"), "now-"+hashed("b"))
	c.w.HandledWord = "" // the status is lost
	c.settle()
	c.expect()
	if c.w.HandledWord != "b" {
		t.Errorf("remembers %q", c.w.HandledWord)
	}
}

func TestScheduleConcurrency(t *testing.T) {
	c := newClock(t, "*/10 * * * *", "", "2026-01-01T00:05:00Z")
	c.takes = 25 * time.Minute
	c.until("2026-01-01T01:00:00Z")
	c.expect("202601010010", "202601010030", "202601010100") // the second begins at :35, the third at once
	c = newClock(t, "*/10 * * * *", "", "2026-01-01T00:05:00Z")
	c.w.Replace, c.takes = true, 25*time.Minute
	c.until("2026-01-01T00:30:00Z")
	c.expect("202601010010", "-202601010010", "202601010020", "-202601010020", "202601010030")
}

func TestScheduleSurvivesALostStatus(t *testing.T) {
	c := newClock(t, "0 * * * *", "", "2026-01-01T00:30:00Z")
	c.until("2026-01-01T02:10:00Z")
	c.expect("202601010100", "202601010200")
	c.w.LastScheduled = time.Time{}
	c.settle()
	c.expect()
}

// names of the complete backups that are left.
func (c *clock) left() []string {
	var out []string
	for _, m := range c.w.newestFirst(Complete) {
		out = append(out, strings.TrimPrefix(m.Name, "s-"))
	}
	slices.Reverse(out)
	return out
}

func TestRetention(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    Retention
		want []string
	}{
		{"the last", Retention{KeepLast: 2}, []string{"202603312000", "202604010800"}},
		{"one of each day", Retention{Daily: 3}, []string{"202603302000", "202603312000", "202604010800"}},
		{"one of each week", Retention{Weekly: 2}, []string{"202603292000", "202604010800"}},
		{"one of each month", Retention{Monthly: 4}, []string{"202601312000", "202602282000", "202603312000", "202604010800"}},
		{"several rules", Retention{KeepLast: 1, Daily: 2, Monthly: 2}, []string{"202603312000", "202604010800"}},
		{"at least so many", Retention{Daily: 1, MinKeep: 3}, []string{"202603310800", "202603312000", "202604010800"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClock(t, "0 8,20 * * *", "", "2026-01-20T00:00:00Z")
			c.w.Retention = &tc.r
			c.until("2026-04-01T12:00:00Z")
			if got := c.left(); !slices.Equal(got, tc.want) {
				t.Errorf("left are %q, want %q", got, tc.want)
			}
		})
	}
}

// TestRetentionDaysAreLocal: half past ten in the evening in UTC is the next day in Tokyo.
func TestRetentionDaysAreLocal(t *testing.T) {
	c := newClock(t, "30 7,23 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z")
	c.w.Retention = &Retention{Daily: 2}
	c.until("2026-01-03T22:30:00Z") // 7:30 of the 4th
	if got := c.left(); !slices.Equal(got, []string{"202601031430", "202601032230"}) {
		t.Errorf("left are %q", got)
	}
}

func TestFailedBackupsAreBounded(t *testing.T) {
	c := newClock(t, "0 * * * *", "", "2026-01-01T00:30:00Z")
	c.w.Retention = &Retention{KeepLast: 1}
	c.until("2026-01-01T01:30:00Z")
	c.fails = true
	c.until("2026-01-01T23:30:00Z")
	if got := c.left(); !slices.Equal(got, []string{"202601010100"}) {
		t.Errorf("the last good backup is gone: left are %q", got)
	}
	if n := len(c.w.newestFirst(Failed)); n != keepFailed {
		t.Errorf("%d failed backups are left, want %d", n, keepFailed)
	}
}

// TestLastGoodBackupStays tries schedules under random retentions, failures and
// clocks that jump; from the first complete backup on there always is one.
func TestLastGoodBackupStays(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		c := newClock(t, fmt.Sprintf("%d */%d * * *", random.IntN(60), 1+random.IntN(12)), "America/New_York", "2026-10-01T00:00:00Z")
		c.w.Retention = &Retention{
			KeepLast: random.IntN(3), Daily: random.IntN(3), Weekly: random.IntN(2), Monthly: random.IntN(2), MinKeep: random.IntN(3),
		}
		c.w.Replace, c.takes = random.IntN(2) == 0, time.Duration(random.IntN(300))*time.Minute
		good := false
		for range 60 {
			c.fails = random.IntN(3) == 0
			c.w.Now = c.w.Now.Add(time.Duration(random.IntN(72*60)-12*60) * time.Minute)
			c.settle()
			left := len(c.left())
			if good && left == 0 {
				t.Fatalf("retention %+v has left nothing", *c.w.Retention)
			}
			good = good || left > 0
		}
	}
}

func TestBadTimetables(t *testing.T) {
	for _, tc := range []struct{ line, zone, says string }{
		{"61 * * * *", "", "spec.schedule is 61 * * * *, which is no line of cron"},
		{"0 0 * * MOON", "", "spec.schedule is 0 0 * * MOON"},
		{"* * * *", "", "spec.schedule is * * * *"},
		{"0 0 30 2 *", "", "spec.schedule is 0 0 30 2 *, a time that never comes"},
		{"@daily", "Europe/Atlantis", "spec.timeZone is Europe/Atlantis, which is not in the IANA database"},
	} {
		if _, err := ParseTimetable(tc.line, tc.zone); err == nil || !strings.HasPrefix(err.Error(), tc.says) {
			t.Errorf("%q in %q: got %v, want %q", tc.line, tc.zone, err, tc.says)
		}
	}
}

func TestCurrency(t *testing.T) {
	c := newClock(t, "0 3 * * *", "", "2026-01-01T00:00:00Z")
	expect := func(now, reason string, judged, current bool) {
		t.Helper()
		c.w.Now = at(t, now)
		if got := CurrencyOf(c.w); got.Reason != reason || got.Judged != judged || got.Current != current {
			t.Errorf("at %s: %+v, want %s judged %t current %t", now, got, reason, judged, current)
		}
	}
	expect("2026-01-01T02:00:00Z", "NotDueYet", false, false)
	expect("2026-01-01T03:30:00Z", "NotDueYet", false, false) // it may be under way
	expect("2026-01-01T04:00:00Z", "BackupMissing", true, false)
	c.until("2026-01-01T05:00:00Z")
	expect("2026-01-01T05:00:00Z", "Current", true, true)
	expect("2026-01-02T03:59:59Z", "Current", true, true)
	expect("2026-01-02T04:00:00Z", "BackupMissing", true, false)
	c.fails = true
	c.until("2026-01-02T05:00:00Z")
	expect("2026-01-02T05:00:00Z", "BackupFailed", true, false)
	if m := CurrencyOf(c.w).Message; !strings.HasSuffix(m, "backup s-202601020300 failed: DestinationFull") {
		t.Errorf("says %q", m)
	}
	c.w.Suspended = true
	expect("2026-01-02T05:00:00Z", "Suspended", false, false)
}
