package restore

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

// TestTranscripts runs every case of testdata: comments say what it shows, the
// lines below next are the world in the notation of parse, and after ---- stands
// the decision. With -rewrite the present decisions are written there.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, file string) {
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			w, err := parse(d.Input)
			if err != nil || d.Cmd != "next" {
				d.Fatalf(t, "%s: %v in\n%s", d.Cmd, err, d.Input)
			}
			return render(w, Next(w)) + "\n"
		})
	})
}

func render(w World, d Decision) string {
	what := string(d.Action)
	switch {
	case d.Outcome != Open:
		what = "ends " + string(d.Outcome)
	case d.Overdue(w.Now):
		what = "wait, overdue"
	case d.Action == Nothing && !d.Deadline.IsZero():
		what = "wait " + d.Deadline.Sub(w.Now).String()
	case d.Action == Nothing && d.Reason != "":
		what = "wait"
	case d.Action == Nothing:
		return "nothing"
	}
	if d.Task != "" {
		what += " " + string(d.Task)
	}
	if d.Phase != "" {
		what += " phase=" + string(d.Phase)
	}
	if d.Undo != nil {
		what += " undo=" + d.Undo.Reason
	}
	step := string(d.Step)
	if step == "" {
		step = "-"
	}
	return fmt.Sprintf("%s: %s\n%s: %s", step, what, d.Reason, d.Message)
}

var epoch = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// parse reads the notation of the transcripts; the name is r, the finalizer is on.
//
//	mode InPlace [bump=10] [backup] | deleting | free | finished | at STEP since=10s
//	cluster [begins-with=r] [begun] [paused] [hibernated] [deleting] [available] [revision=9]
//	        [confirmed] [recovering] [recovered] [locked]
//	backup complete|failed|running | missing REASON | other NAME | claim [ending]
//	mark phase=Stopped [since=10s] [above=9] [undo=REASON]
//	job verify|fill|undo|finish running|hindered|ending|failed=REASON|revision=10
func parse(text string) (World, error) {
	w := World{Now: epoch, Limits: DefaultLimits(), Name: "r", Held: true, Jobs: map[Task]Job{}}
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		values := map[string]string{}
		for _, word := range words[1:] {
			k, v, _ := strings.Cut(word, "=")
			values[k] = v
		}
		if err := into(&w, words, values); err != nil {
			return w, fmt.Errorf("%q: %w", line, err)
		}
	}
	return w, nil
}

func into(w *World, words []string, values map[string]string) error {
	has := func(k string) bool { _, ok := values[k]; return ok }
	switch words[0] {
	case "mode":
		w.Mode, w.Bump, w.BackupFirst = v1alpha1.RestoreMode(words[1]), number(values["bump"]), has("backup")
	case "deleting":
		w.Deleting = true
	case "free":
		w.Held = false
	case "finished":
		w.Finished = true
	case "at":
		w.Step, w.StepStartedAt = v1alpha1.RestoreStepName(words[1]), ago(values["since"])
	case "cluster":
		w.Cluster = &Cluster{
			BootstrapRestore: values["begins-with"], Begun: has("begun"), Paused: has("paused"), Hibernated: has("hibernated"),
			Deleting: has("deleting"), Available: has("available"), Message: "how it is", Revision: number(values["revision"]),
			Confirmed: has("confirmed"), Recovering: has("recovering"), Recovered: has("recovered"), Locked: has("locked"),
		}
	case "backup":
		w.Backup = &Backup{Complete: has("complete")}
		if has("failed") {
			w.Backup.Failure = &Failure{"Unreachable", "why"}
		}
	case "missing":
		w.Missing = &Failure{words[1], "what to bring"}
	case "other":
		w.OtherMark = words[1]
	case "claim":
		w.Claim, w.ClaimEnding = true, has("ending")
	case "mark":
		w.Claim = true
		w.Mark = &Mark{Restore: "r", Phase: plan.RestorePhase(values["phase"]), PhaseAt: ago(values["since"]), Above: number(values["above"])}
		if has("undo") {
			w.Mark.Undo = &Failure{values["undo"], "why"}
		}
	case "job":
		j := Job{Done: !has("running") && !has("ending"), Revision: number(values["revision"]), Terminating: has("ending")}
		if has("hindered") {
			j.Done, j.Waiting, j.Trouble = false, true, "why its pod does not run"
		}
		j.Outdated = has("outdated")
		if has("failed") {
			j.Failure = &Failure{values["failed"], "why"}
		}
		w.Jobs[Task(words[1])] = j
	default:
		return fmt.Errorf("no such line")
	}
	return nil
}

func number(s string) int64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func ago(s string) time.Time {
	if s == "" {
		return epoch
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return epoch.Add(-d)
}
