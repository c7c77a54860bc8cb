package backup

import (
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/api/v1alpha1"
)

var epoch = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

const (
	goodResult  = `{"ok":true,"manifest":{"format":1,"createdAt":"2030-01-01T12:00:30.5Z","revision":7,"keys":3,"storedBytes":99,"raftIndex":18446744073709551615,"hash":4294967295}}`
	olderResult = `{"ok":false,"reason":"AlreadyExists","message":"there is a backup","manifest":{"format":1,"createdAt":"2030-01-01T11:59:59Z","revision":7}}`
	ownResult   = `{"ok":false,"reason":"AlreadyExists","message":"there is a backup","manifest":{"format":1,"createdAt":"2030-01-01T12:00:00Z","revision":7}}`
	otherThing  = `{"ok":false,"reason":"AlreadyExists","message":"there is something else"}`
)

// world is that of a backup which was asked for age ago.
func world(age time.Duration) World {
	return World{Now: epoch.Add(age), CreatedAt: epoch, Deadline: time.Hour, Limits: DefaultLimits()}
}

func job(change ...func(*Job)) *Job {
	j := &Job{}
	for _, fn := range change {
		fn(j)
	}
	return j
}

func said(message string) func(*Job) {
	r, err := ParseResult(message)
	if err != nil {
		panic(err)
	}
	return func(j *Job) { j.Result = r }
}

func refused(reason string) func(*Job) {
	return said(`{"ok":false,"reason":"` + reason + `","message":"it is so"}`)
}

func gaveUp(reason string) func(*Job) {
	return func(j *Job) { j.Failed, j.FailedReason = true, reason }
}

func complete(j *Job)    { j.Complete = true }
func terminating(j *Job) { j.Terminating = true }
func stuck(j *Job)       { j.TroubleReason, j.Trouble = "Unschedulable", "no node has room" }

// told is a decision as the cases below have it.
func told(w World, d Decision) string {
	out := []string{}
	for _, part := range []string{string(d.Action), string(d.Outcome), d.Reason} {
		if part != "" {
			out = append(out, part)
		}
	}
	if d.Warning {
		out = append(out, "!")
	}
	if !d.Wake.IsZero() {
		out = append(out, "wake "+d.Wake.Sub(w.Now).String())
	}
	return strings.Join(out, " ")
}

func TestNext(t *testing.T) {
	missing := &Hindrance{Reason: "SecretMissing", Message: "Secret a does not exist", Input: true}
	quorum := &Hindrance{Reason: "ClusterNotAvailable", Message: "no member answers"}
	ttl := 10 * time.Minute
	for _, tc := range []struct {
		name string
		age  time.Duration
		set  func(*World)
		want string
		says string
	}{
		{"begins", 0, nil, "CreateTake Started", ""},
		{"makes its claim", 0, func(w *World) { w.ClaimMissing = true }, "CreateClaim ClaimMissing", ""},
		{"is to own its artifact", 0, func(w *World) { w.DeleteArtifact = true }, "AddFinalizer ArtifactOwned", ""},
		{"owns its artifact", 0, func(w *World) { w.DeleteArtifact, w.Finalizer = true, true }, "CreateTake Started", ""},
		{"waits for what is missing", time.Minute, func(w *World) { w.Hindrance = missing }, "SecretMissing ! wake 4m0s", "Secret a does not exist"},
		{"but not for ever", 5 * time.Minute, func(w *World) { w.Hindrance = missing }, "Failed SecretMissing !", "Secret a does not exist; waited 5m0s for it"},
		{"nor beyond its deadline", time.Minute, func(w *World) { w.Hindrance, w.Deadline = missing, time.Minute }, "Failed SecretMissing !", ""},
		{"waits longer for what may pass", 6 * time.Minute, func(w *World) { w.Hindrance = quorum }, "ClusterNotAvailable wake 54m0s", ""},
		{"until its deadline", time.Hour, func(w *World) { w.Hindrance = quorum }, "Failed ClusterNotAvailable !", ""},
		{"is too late to begin", time.Hour, nil, "Failed DeadlineExceeded !", ""},

		{"runs", time.Minute, func(w *World) { w.Take = job() }, "Running wake 1h0m0s", ""},
		{"cannot run", time.Minute, func(w *World) { w.Take = job(stuck) }, "Unschedulable ! wake 1h0m0s", "no node has room"},
		{"is complete", time.Minute, func(w *World) { w.Take = job(said(goodResult)) }, "Complete Complete", "3 keys at revision 7, 99 bytes"},
		{"is complete by an attempt that nobody saw end", time.Minute, func(w *World) { w.Take = job(said(ownResult)) }, "Complete Complete", ""},
		{"has the name of another", time.Minute, func(w *World) { w.Take = job(said(olderResult)) }, "Failed AlreadyExists !", "there is a backup; give the backup another name"},
		{"has the name of something else", time.Minute, func(w *World) { w.Take = job(said(otherThing)) }, "Failed AlreadyExists !", ""},
		{"has lost its result", time.Minute, func(w *World) { w.Take = job(complete) }, "DropTake ResultLost", ""},
		{"waits for its lost Job to go", time.Minute, func(w *World) { w.Take = job(complete, terminating) }, "JobDeleted", ""},
		{"tries again", time.Minute, func(w *World) { w.Take = job(refused("DestinationFull")) }, "Retrying ! wake 1h0m0s", "DestinationFull: it is so; it is tried again"},
		{"has tried often enough", time.Minute, func(w *World) { w.Take = job(refused("DestinationFull"), gaveUp("BackoffLimitExceeded")) }, "Failed DestinationFull !", "it is so"},
		{"knows what no second try mends", time.Minute, func(w *World) { w.Take = job(refused("DestinationReadOnly")) }, "Failed DestinationReadOnly !", "it is so"},
		{"took too long", time.Hour, func(w *World) { w.Take = job(gaveUp("DeadlineExceeded"), stuck) }, "Failed DeadlineExceeded !", "are 1h0m0s; no node has room"},
		{"took too long, and nobody says so", 62 * time.Minute, func(w *World) { w.Take = job(refused("Unreachable")) }, "Failed DeadlineExceeded !", "are 1h0m0s; the last attempt: it is so"},
		{"has lost its pods", time.Minute, func(w *World) { w.Take = job(gaveUp("BackoffLimitExceeded")) }, "Failed JobFailed !", "the Job failed (BackoffLimitExceeded)"},
		{"failed where it could not run", time.Minute, func(w *World) { w.Take = job(gaveUp("BackoffLimitExceeded"), stuck) }, "Failed Unschedulable !", ""},

		{"clears up", time.Minute, func(w *World) { w.Outcome, w.Take = Complete, job(complete) }, "DropTake Complete", ""},
		{"keeps what a failed one logged", time.Minute, func(w *World) { w.Outcome, w.Take = Failed, job(gaveUp("x")) }, "", ""},
		{"stops what would try again", time.Minute, func(w *World) { w.Outcome, w.Take = Failed, job() }, "DropTake Failed", ""},
		{"stays", time.Hour, func(w *World) { w.Outcome = Complete }, "", ""},
		{"stays for its time", time.Minute, func(w *World) { w.Outcome, w.FinishedAt, w.TTL = Complete, epoch, &ttl }, "wake 9m0s", ""},
		{"goes after its time", 10 * time.Minute, func(w *World) { w.Outcome, w.FinishedAt, w.TTL = Failed, epoch, &ttl }, "DeleteBackup TTLExpired", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := world(tc.age)
			if tc.set != nil {
				tc.set(&w)
			}
			expect(t, w, tc.want, tc.says)
		})
	}
}

func TestNextOfDeletion(t *testing.T) {
	done := func(w *World) { w.Outcome = Complete }
	for _, tc := range []struct {
		name string
		age  time.Duration
		set  func(*World)
		want string
		says string
	}{
		{"without an artifact of its own", 0, func(w *World) { w.Finalizer = false }, "Deleting", ""},
		{"before anything was stored", 0, nil, "DropFinalizer NothingStored", ""},
		{"of a failed one leaves what another has stored", 0, func(w *World) { w.Outcome, w.Take = Failed, job(said(olderResult), gaveUp("x"), terminating) }, "DeletingArtifact wake 15m0s", ""},
		{"stops the Job", 0, func(w *World) { w.Take = job() }, "DropTake Deleting", ""},
		{"waits for it to stop", time.Minute, func(w *World) { w.Take = job(terminating) }, "DeletingArtifact wake 14m0s", "the Job is stopping"},
		{"but not for ever", 15 * time.Minute, func(w *World) { w.Take = job(terminating) }, "DropFinalizer JobStopping !", ""},
		{"just when it was complete", 0, func(w *World) { w.Take = job(said(goodResult)) }, "CreateDelete DeletingArtifact", ""},
		{"of a complete one", 0, done, "CreateDelete DeletingArtifact", ""},
		{"of a volume that is gone", 0, func(w *World) { done(w); w.ClaimGone = true }, "DropFinalizer ClaimGone", ""},
		{"goes on", time.Minute, func(w *World) { done(w); w.Delete = job() }, "DeletingArtifact wake 14m0s", ""},
		{"is tried again", time.Minute, func(w *World) { done(w); w.Delete = job(refused("Unreachable")) }, "DeletingArtifact wake 14m0s", "it is so"},
		{"cannot be tried", time.Minute, func(w *World) { done(w); w.Delete = job(stuck) }, "DeletingArtifact wake 14m0s", "no node has room"},
		{"is done", 0, func(w *World) { done(w); w.Delete = job(said(`{"ok":true}`)) }, "DropFinalizer ArtifactDeleted", ""},
		{"is done, and its result lost", 0, func(w *World) { done(w); w.Delete = job(complete) }, "DropFinalizer ArtifactDeleted", ""},
		{"was done by somebody else", 0, func(w *World) { done(w); w.Delete = job(refused(ReasonNotFound)) }, "DropFinalizer ArtifactDeleted", ""},
		{"gives up", time.Minute, func(w *World) { done(w); w.Delete = job(refused("Unreachable"), gaveUp("x")) }, "DropFinalizer ArtifactLeft !", "stays where it is: it is so"},
		{"gives up without a word", time.Minute, func(w *World) { done(w); w.Delete = job(gaveUp("x")) }, "DropFinalizer ArtifactLeft !", "the Job gave up: x"},
		{"takes too long", 15 * time.Minute, func(w *World) { done(w); w.Delete = job(stuck) }, "DropFinalizer ArtifactLeft !", "no node has room"},
		{"could never be tried", 15 * time.Minute, done, "DropFinalizer ArtifactLeft !", "it could not be tried"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := world(tc.age)
			w.Deleting, w.DeletingAt, w.Finalizer, w.DeleteArtifact = true, epoch, true, true
			if tc.set != nil {
				tc.set(&w)
			}
			expect(t, w, tc.want, tc.says)
		})
	}
}

func expect(t *testing.T, w World, want, says string) {
	t.Helper()
	d := Next(w)
	if got := told(w, d); got != want || !strings.Contains(d.Message, says) {
		t.Errorf("got %q (%s), want %q that says %q", got, d.Message, want, says)
	}
	if (d.Outcome == Complete) != (d.Manifest != nil) {
		t.Errorf("outcome %q with the manifest %v", d.Outcome, d.Manifest)
	}
}

// TestEveryBackupEnds runs the clock on worlds in which nothing ever happens.
func TestEveryBackupEnds(t *testing.T) {
	for name, set := range map[string]func(*World){
		"nothing runs":          func(w *World) { w.Take = job(stuck) },
		"nothing ends":          func(w *World) { w.Take = job() },
		"nothing is there":      func(w *World) { w.Hindrance = &Hindrance{Reason: "X", Input: true} },
		"nobody answers":        func(w *World) { w.Hindrance = &Hindrance{Reason: "X"} },
		"everything is refused": func(w *World) { w.Take = job(refused("Unreachable")) },
	} {
		w := world(0)
		set(&w)
		for range 10 {
			d := Next(w)
			if d.Outcome == Failed {
				w.Outcome = Failed
				break
			}
			if !d.Wake.After(w.Now) {
				t.Fatalf("%s: %+v is not woken", name, d)
			}
			w.Now = d.Wake
		}
		if w.Outcome != Failed {
			t.Errorf("%s: there is no end", name)
		}
	}
}

func TestParseResult(t *testing.T) {
	r, err := ParseResult(goodResult)
	if err != nil || r.Manifest == nil {
		t.Fatal(r, err)
	}
	want := v1alpha1.BackupManifest{
		Format: 1, Revision: 7, Keys: 3, StoredBytes: 99, RaftIndex: 1<<63 - 1, Hash: 1<<32 - 1, CreatedAt: r.Manifest.CreatedAt,
	}
	if *r.Manifest != want || r.Manifest.CreatedAt.Unix() != epoch.Unix()+30 {
		t.Errorf("got %+v", *r.Manifest)
	}
	r, err = ParseResult(`{"ok":false,"reason":"not a word!","message":"` + strings.Repeat("ä", maxMessage) + `"}`)
	if err != nil || r.Reason != "notaword" || len(r.Message) > maxMessage+8 || !strings.HasSuffix(r.Message, "ä ...") {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err = ParseResult(`{}`); err != nil || r.OK || r.Reason != "Failed" {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, text := range []string{"", "killed", `{"ok":`} {
		if _, err := ParseResult(text); err == nil {
			t.Errorf("%q is taken for a result", text)
		}
	}
}
