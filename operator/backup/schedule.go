package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ScheduleWorld is what a decision on a MetaStoreBackupSchedule depends on.
type ScheduleWorld struct {
	Name           string
	Now, CreatedAt time.Time
	Table          Timetable
	Suspended      bool
	// Replace deletes a backup that goes on when another is due; otherwise the other
	// waits.
	Replace bool
	// StartingDeadline is how late a backup may begin; 0 for however late.
	StartingDeadline time.Duration
	// Deadline is how long a backup of the template may take.
	Deadline time.Duration
	// LastScheduled is when the last backup was due, as reported.
	LastScheduled time.Time
	// NowWord asks for a backup at once; HandledWord is the last one that was acted on.
	NowWord, HandledWord string
	// Retention is nil where every complete backup is kept.
	Retention *Retention
	// Backups are those that the schedule has made and that are there.
	Backups []Made
}

// Made is a backup that a schedule has made.
type Made struct {
	Name      string
	CreatedAt time.Time
	// ScheduledAt is when it was due; zero for one that was asked for at once.
	ScheduledAt time.Time
	Outcome     Outcome
	// Reason is why it failed.
	Reason   string
	Deleting bool
}

// at is the time that a backup stands for.
func (m Made) at() time.Time {
	if m.ScheduledAt.IsZero() {
		return m.CreatedAt
	}
	return m.ScheduledAt
}

func (m Made) running() bool { return m.Outcome == "" && !m.Deleting }

// Retention says which complete backups are kept; see the API type.
type Retention struct {
	KeepLast, Daily, Weekly, Monthly, MinKeep int
}

// keepFailed is how many failed backups a schedule keeps.
const keepFailed = 3

// ScheduleAction is the kind of a schedule's step.
type ScheduleAction string

const (
	// MakeBackup makes the backup that is called Name.
	MakeBackup ScheduleAction = "MakeBackup"
	// RemoveBackup deletes it.
	RemoveBackup ScheduleAction = "RemoveBackup"
)

// ScheduleDecision is the outcome of NextOfSchedule.
type ScheduleDecision struct {
	// Action is empty when there is nothing to do before Wake.
	Action ScheduleAction
	// Name is the backup that it is about.
	Name string
	// Due is when a backup that is made was due; zero for one that was asked for.
	Due             time.Time
	Reason, Message string
	// LastScheduled and HandledWord are to be remembered once the step is taken.
	LastScheduled time.Time
	HandledWord   string
	// Wake is when to look again at the latest; zero for when something changes.
	Wake time.Time
}

// NextOfSchedule decides what to do about a schedule.
func NextOfSchedule(w ScheduleWorld) ScheduleDecision {
	d := ScheduleDecision{LastScheduled: w.lastScheduled(), HandledWord: w.HandledWord}
	if !w.Suspended {
		d.Wake = w.Table.Next(w.Now)
	}
	if w.NowWord != "" && w.NowWord != w.HandledWord {
		name := fmt.Sprintf("%s-now-%s", w.Name, hashed(w.NowWord))
		if !w.has(name) {
			return w.start(d, name, time.Time{}, "BackupNow", "a backup is asked for at once")
		}
		d.HandledWord = w.NowWord
	}
	if due := w.due(); !due.IsZero() {
		if name := w.nameAt(due); !w.has(name) {
			return w.start(d, name, due, "Scheduled", fmt.Sprintf("a backup is due since %s", due.Format(time.RFC3339)))
		}
		d.LastScheduled = due
	}
	if m, why := w.superfluous(); m != nil {
		d.Action, d.Name, d.Reason, d.Message = RemoveBackup, m.Name, "Retention", why
	}
	return d
}

// lastScheduled is when the newest backup was due, from what was reported and
// from the backups themselves. What lies in the future is of a clock that went
// wrong, and would stop the schedule until then.
func (w *ScheduleWorld) lastScheduled() time.Time {
	var last time.Time
	note := func(t time.Time) {
		if t.After(last) && !t.After(w.Now) {
			last = t
		}
	}
	note(w.LastScheduled)
	for _, m := range w.Backups {
		note(m.ScheduledAt)
	}
	return last
}

// due is the last time that a backup was due and has none yet; zero when there is
// none. However many were missed, it is one.
func (w *ScheduleWorld) due() time.Time {
	if w.Suspended {
		return time.Time{}
	}
	after := w.CreatedAt
	if last := w.lastScheduled(); last.After(after) {
		after = last
	}
	if w.StartingDeadline > 0 && w.Now.Add(-w.StartingDeadline).After(after) {
		after = w.Now.Add(-w.StartingDeadline)
	}
	return w.Table.Latest(after, w.Now)
}

// nameAt is the name of the backup that is due at a time: the same however often
// it is tried to be made.
func (w *ScheduleWorld) nameAt(due time.Time) string {
	return w.Name + "-" + due.UTC().Format("200601021504")
}

func hashed(word string) string {
	sum := sha256.Sum256([]byte(word))
	return hex.EncodeToString(sum[:4])
}

func (w *ScheduleWorld) has(name string) bool {
	return slices.ContainsFunc(w.Backups, func(m Made) bool { return m.Name == name })
}

// start makes a backup, after those that go on.
func (w *ScheduleWorld) start(d ScheduleDecision, name string, due time.Time, reason, why string) ScheduleDecision {
	for _, m := range w.Backups {
		switch {
		case !m.running():
		case w.Replace:
			d.Action, d.Name, d.Reason, d.Message = RemoveBackup, m.Name, "Replaced", fmt.Sprintf("%s, and backup %s, which goes on, makes room", why, m.Name)
			return d
		default:
			d.Reason, d.Message = "Forbidden", fmt.Sprintf("%s, and waits for the end of backup %s", why, m.Name)
			return d
		}
	}
	d.Action, d.Name, d.Due, d.Reason, d.Message = MakeBackup, name, due, reason, why
	if due.IsZero() {
		d.HandledWord = w.NowWord
	} else {
		d.LastScheduled = due
	}
	return d
}

// superfluous is the oldest backup that is not kept; nil when all are.
func (w *ScheduleWorld) superfluous() (*Made, string) {
	complete, broken := w.newestFirst(Complete), w.newestFirst(Failed)
	if len(broken) > keepFailed {
		return &broken[len(broken)-1], fmt.Sprintf("of failed backups the last %d are kept", keepFailed)
	}
	if w.Retention == nil {
		return nil, ""
	}
	kept := w.kept(complete)
	for _, m := range slices.Backward(complete) {
		if !kept[m.Name] {
			return &m, "no rule of the retention keeps it"
		}
	}
	return nil, ""
}

func (w *ScheduleWorld) newestFirst(o Outcome) []Made {
	var out []Made
	for _, m := range w.Backups {
		if m.Outcome == o && !m.Deleting {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b Made) int {
		if c := b.at().Compare(a.at()); c != 0 {
			return c
		}
		return strings.Compare(b.Name, a.Name)
	})
	return out
}

// kept are the names of the complete backups, newest first, that a rule keeps.
// Invariant: the newest is among them.
func (w *ScheduleWorld) kept(complete []Made) map[string]bool {
	r, kept := w.Retention, map[string]bool{}
	for _, m := range complete[:min(len(complete), max(1, r.KeepLast, r.MinKeep))] {
		kept[m.Name] = true
	}
	for _, rule := range []struct {
		count  int
		period func(time.Time) string
	}{{r.Daily, w.Table.day}, {r.Weekly, w.Table.week}, {r.Monthly, w.Table.month}} {
		seen := map[string]bool{}
		for _, m := range complete {
			period := rule.period(m.at())
			if !seen[period] && len(seen) < rule.count {
				seen[period] = true
				kept[m.Name] = true
			}
		}
	}
	return kept
}

// Currency says whether the newest complete backup is as new as the schedule
// promises; the one that is due may be under way for as long as it may take.
type Currency struct {
	// Judged is false where nothing is promised: suspended, or not due yet.
	Judged, Current bool
	Reason, Message string
}

// CurrencyOf judges a schedule.
func CurrencyOf(w ScheduleWorld) Currency {
	if w.Suspended {
		return Currency{Reason: "Suspended", Message: fmt.Sprintf("schedule %s is suspended", w.Name)}
	}
	complete := w.newestFirst(Complete)
	due := w.Table.Latest(w.CreatedAt, w.Now)
	if !due.IsZero() && w.Now.Before(due.Add(w.Deadline)) && (len(complete) == 0 || complete[0].at().Before(due)) {
		due = w.Table.Latest(w.CreatedAt, due.Add(-time.Second)) // the present one has time left
	}
	switch {
	case len(complete) > 0 && !complete[0].at().Before(due):
		return Currency{Judged: true, Current: true, Reason: "Current", Message: fmt.Sprintf("backup %s of schedule %s is complete", complete[0].Name, w.Name)}
	case due.IsZero():
		return Currency{Reason: "NotDueYet", Message: fmt.Sprintf("no backup of schedule %s was due yet", w.Name)}
	}
	c := Currency{Judged: true, Reason: "BackupMissing", Message: fmt.Sprintf("schedule %s has no complete backup since the one that was due at %s", w.Name, due.UTC().Format(time.RFC3339))}
	if broken := w.newestFirst(Failed); len(broken) > 0 && !broken[0].at().Before(due) {
		c.Reason = "BackupFailed"
		c.Message += fmt.Sprintf("; backup %s failed: %s", broken[0].Name, broken[0].Reason)
	}
	return c
}
