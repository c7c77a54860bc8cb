package backup

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

// Timetable is a line of cron in a time zone.
type Timetable struct {
	schedule cron.Schedule
	zone     *time.Location
}

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// ParseTimetable reads a line of cron and the name of a time zone; UTC when
// empty. A line whose time never comes is an error, too.
func ParseTimetable(line, zone string) (Timetable, error) {
	if zone == "" {
		zone = "UTC"
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return Timetable{}, fmt.Errorf("spec.timeZone is %s, which is not in the IANA database; allowed is a name such as UTC or Europe/Berlin", zone)
	}
	schedule, err := parser.Parse(line)
	if err != nil {
		return Timetable{}, fmt.Errorf("spec.schedule is %s, which is no line of cron: %w; allowed is such as 30 2 * * * for half past two each day", line, err)
	}
	t := Timetable{schedule: schedule, zone: location}
	if t.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Timetable{}, fmt.Errorf("spec.schedule is %s, a time that never comes", line)
	}
	return t, nil
}

// Next is the first time after another; zero when there is none.
func (t Timetable) Next(after time.Time) time.Time { return t.schedule.Next(after.In(t.zone)) }

// Latest is the last time in (after, until]; zero when there is none. It looks
// back from until in growing steps: a line of every minute must not be walked
// through a year.
func (t Timetable) Latest(after, until time.Time) time.Time {
	for back := time.Hour; ; back *= 4 {
		from := until.Add(-back)
		last := !from.After(after)
		if last {
			from = after
		}
		if found := t.walk(from, until); !found.IsZero() || last {
			return found
		}
	}
}

func (t Timetable) walk(after, until time.Time) time.Time {
	var found time.Time
	for at := t.Next(after); !at.IsZero() && !at.After(until); at = t.Next(at) {
		found = at
	}
	return found
}

// The names of the day, the week and the month of a time in the time zone.
func (t Timetable) day(at time.Time) string { return at.In(t.zone).Format(time.DateOnly) }
func (t Timetable) week(at time.Time) string {
	year, week := at.In(t.zone).ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, week)
}
func (t Timetable) month(at time.Time) string { return at.In(t.zone).Format("2006-01") }
