package plan

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"metastore.io/metastore/api/v1alpha1"
)

// TestTranscripts runs every case of testdata: comments say what it shows, the
// lines below next are the world in the notation of parseWorld, and after ----
// stands the decision. With -rewrite the present decisions are written there.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, file string) {
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			w, err := parseWorld(d.Input)
			if err != nil || d.Cmd != "next" {
				d.Fatalf(t, "%s: %v in\n%s", d.Cmd, err, d.Input)
			}
			got := render(w, Next(w))
			if again := render(w, Next(w)); again != got {
				d.Fatalf(t, "%s\n---- is not deterministic: %s, then %s", d.Input, got, again)
			}
			return got + "\n"
		})
	})
}

func render(w World, d Decision) string {
	what := d.Step.String()
	switch {
	case d.Overdue(w.Now):
		what = "wait, overdue"
	case d.Waiting():
		what = "wait " + d.Deadline.Sub(w.Now).String()
	case d.Step.Action == Nothing:
		what = "nothing"
	}
	op := string(d.Operation)
	if op == "" {
		op = "-"
	}
	out := fmt.Sprintf("%s: %s\n%s: %s", op, what, d.Reason, d.Message)
	for _, b := range d.Blocked {
		out += fmt.Sprintf("\nblocked %s: %s", b.Reason, b.Message)
	}
	return out
}

var epoch = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// parseWorld reads the notation of the transcripts:
//
//	spec replicas=3 size=10 [paused] [hibernated] [on-delete] [min-ready=30] [own-volumes] [backup]
//	set replicas=3 rev=a [differs] [claims-differ] [unobserved] [terminating]
//	alarm NOSPACE|CORRUPT of=a1
//	autogrow max=40 [quota-follows]
//	repair [manual] [grace=10s] [replace-lost] [recover]
//	confirmed | recovery ordinal=2 word=w | forcing w
//	tls client=Required peer=Required [client-certs] [peer-certs] | tls-trouble why
//	auth [wanted] [ready] [kept] [known] [enabled] [accepted] [current] | auth-trouble reason why
//	restore phase=Stopped [above=9] [orphaned] | begins-with NAME | failed why | revision 12
//	last-backup|update-backup name Running|Complete|Failed|Missing why | held
//	objects Service/x Service/y | settings-differ | deleting | new | blind | invalid why
//	waited TYPE ordinal=1 reason=PodMissing since=30s
//	2: pod=ready|starting|crash|pending ... vol=10 ... member=a2 ...
//
// A pod takes rev=, age=, for= (how long Ready has its value), exit=, waiting=,
// ending=, node=gone|down; a volume recorded=, vol-age=, fixed, vol-ending,
// vol-lost, other-token, vol-node=gone, vol-differs (from https), vol-class=other, vol-has= (its
// capacity), owned, unrecorded, unbound, no-class= (why); a pod restart, refused=
// (why); a member db=, quota=, compacted, leader, learner, lag=, silent, unstarted,
// leaderless, https. Set and pods take client= and peer= for their TLS modes.
// survivor=2/100/99 is what one without a quorum says: the term and the index that
// its log ends with, and the index that it knows as committed.
func parseWorld(text string) (World, error) {
	w := World{
		Now: epoch, Limits: DefaultLimits(), Bootstrapped: true, ListKnown: true,
		Spec: Spec{Replicas: 3, VolumeBytes: 10}, Pods: map[int]Pod{}, Volumes: map[int]Volume{},
		Survivors: map[int]Survivor{},
	}
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := parseFields(line)
		if err := f.into(&w); err != nil {
			return w, fmt.Errorf("%q: %w", line, err)
		}
	}
	if !w.ListKnown {
		w.Members = nil
	}
	return w, nil
}

type fields struct {
	head   string
	rest   []string
	values map[string]string
}

func parseFields(line string) fields {
	parts := strings.Fields(line)
	f := fields{head: parts[0], rest: parts[1:], values: map[string]string{}}
	for _, p := range f.rest {
		k, v, _ := strings.Cut(p, "=")
		f.values[k] = v
	}
	return f
}

func (f fields) has(k string) bool { _, ok := f.values[k]; return ok }

func (f fields) text(k, otherwise string) string {
	if f.has(k) {
		return f.values[k]
	}
	return otherwise
}

func (f fields) number(k string, otherwise int) int {
	n, err := strconv.Atoi(f.text(k, strconv.Itoa(otherwise)))
	if err != nil {
		panic(err)
	}
	return n
}

func (f fields) ago(k string, otherwise time.Duration) time.Time {
	d, err := time.ParseDuration(f.text(k, otherwise.String()))
	if err != nil {
		panic(err)
	}
	return epoch.Add(-d)
}

func (f fields) id(k string) MemberID {
	n, err := strconv.ParseUint(f.text(k, "0"), 16, 64)
	if err != nil {
		panic(err)
	}
	return MemberID(n)
}

func (f fields) into(w *World) error {
	switch f.head {
	case "spec":
		w.Spec.Replicas, w.Spec.VolumeBytes = f.number("replicas", 3), int64(f.number("size", 10))
		w.Spec.Paused, w.Spec.Hibernated, w.Spec.OnDelete = f.has("paused"), f.has("hibernated"), f.has("on-delete")
		w.Spec.MinReady, w.Spec.OwnVolumes = time.Duration(f.number("min-ready", 0))*time.Second, f.has("own-volumes")
		w.Spec.BackupThenDelete = f.has("backup")
	case "set":
		w.Set = &Set{
			Replicas: f.number("replicas", 3), Revision: f.text("rev", "a"), Differs: f.has("differs"),
			ClaimsDiffer: f.has("claims-differ"), Observed: !f.has("unobserved"), Terminating: f.has("terminating"),
			Modes: f.modes(),
		}
	case "objects":
		w.Objects = f.rest
	case "repair":
		w.Spec.Repair = Repair{
			Manual: f.has("manual"), ReplaceLost: f.has("replace-lost"), RecoverQuorum: f.has("recover"),
			Grace: epoch.Sub(f.ago("grace", 0)),
		}
	case "alarm":
		w.Alarms = append(w.Alarms, Alarm{Type: v1alpha1.AlarmType(f.rest[0]), Member: f.id("of")})
	case "autogrow":
		w.Spec.AutoGrowBytes, w.Spec.QuotaFollows = int64(f.number("max", 0)), f.has("quota-follows")
	case "confirmed":
		w.Confirmed = true
	case "recovery":
		w.Recovery = &Recovery{Ordinal: f.number("ordinal", 0), Word: f.text("word", "w")}
	case "restore":
		w.Restore = &Restore{Name: "r", Phase: RestorePhase(f.text("phase", "")), Above: int64(f.number("above", 0)), Orphaned: f.has("orphaned")}
	case "begins-with":
		w.Spec.BootstrapRestore = f.rest[0]
	case "failed":
		w.RestoreFailed = strings.Join(f.rest, " ")
	case "revision":
		n, err := strconv.Atoi(f.rest[0])
		w.Revision = int64(n)
		return err
	case "forcing":
		w.Forcing = f.rest[0]
	case "settings-differ":
		w.SettingsDiffer = true
	case "tls":
		w.TLS = TLS{Wanted: f.modes(), Client: f.has("client-certs"), Peer: f.has("peer-certs")}
	case "auth":
		w.Auth = Auth{
			Wanted: f.has("wanted"), Ready: f.has("ready"), Kept: f.has("kept"), Known: f.has("known"), Enabled: f.has("enabled"),
			Accepted: f.has("accepted"), Current: f.has("current"),
		}
	case "auth-trouble":
		w.Auth.Reason, w.Auth.Trouble = f.rest[0], strings.Join(f.rest[1:], " ")
	case "tls-trouble":
		w.TLS.Trouble = strings.Join(f.rest, " ")
	case "invalid":
		w.Invalid = strings.Join(f.rest, " ")
	case "last-backup":
		w.LastBackup = f.backup()
	case "update-backup":
		w.UpdateBackup = f.backup()
	case "held":
		w.Held = true
	case "deleting":
		w.Deleting = true
	case "new":
		w.Bootstrapped, w.ListKnown = false, false
	case "blind":
		w.ListKnown = false
	case "waited":
		w.Operation = Operation{
			Type: operation(f.rest[0]), Ordinal: f.number("ordinal", -1),
			Reason: f.text("reason", ""), StartedAt: f.ago("since", 0),
		}
	default:
		ordinal, err := strconv.Atoi(strings.TrimSuffix(f.head, ":"))
		if err != nil {
			return err
		}
		f.intoOrdinal(w, ordinal)
	}
	return nil
}

func (f fields) intoOrdinal(w *World, ordinal int) {
	if state, ok := f.values["pod"]; ok {
		w.Pods[ordinal] = Pod{
			Revision: f.text("rev", "a"), CreatedAt: f.ago("age", 10*time.Minute),
			Ready: state == "ready", ReadyChangedAt: f.ago("for", time.Minute),
			Running: state == "ready" || state == "starting", ExitCode: f.number("exit", 0), Waiting: f.text("waiting", ""),
			Terminating: f.has("ending"), TerminatingAt: f.ago("ending", 0),
			Restart: f.has("restart"), Refused: f.text("refused", ""), NodeGone: f.text("node", "") == "gone", NodeDown: f.text("node", "") == "down",
			Modes: f.modes(),
		}
	}
	if f.has("vol") {
		v := Volume{
			CreatedAt: f.ago("vol-age", 10*time.Minute), RequestBytes: int64(f.number("vol", 10)),
			Expandable: !f.has("fixed"), Terminating: f.has("vol-ending"), Lost: f.has("vol-lost"), Owned: f.has("owned"), Member: f.id("member"),
			NodeGone: f.text("vol-node", "") == "gone", OtherClass: f.text("vol-class", "") == "other",
			CapacityBytes: int64(f.number("vol-has", f.number("vol", 10))), PeerTLS: f.has("https") != f.has("vol-differs"),
			OtherToken: f.has("other-token"), Unbound: f.has("unbound") || f.has("no-class"), ClassMissing: f.text("no-class", ""),
		}
		if f.has("recorded") || f.has("unrecorded") {
			v.Member = f.id("recorded")
		}
		w.Volumes[ordinal] = v
	}
	if text, ok := f.values["survivor"]; ok {
		s := Survivor{Member: f.id("recorded")}
		if _, err := fmt.Sscanf(text, "%d/%d/%d", &s.LogTerm, &s.LogIndex, &s.Committed); err != nil {
			panic(err)
		}
		w.Survivors[ordinal] = s
	}
	if f.has("member") {
		w.Members = append(w.Members, Member{
			ID: f.id("member"), Ordinal: ordinal, Learner: f.has("learner"), Started: !f.has("unstarted"),
			Answers: !f.has("silent") && !f.has("unstarted"), Leader: f.has("leader"), Lag: uint64(f.number("lag", 0)),
			Leaderless: f.has("leaderless"), PeerTLS: f.has("https"),
			DBBytes: int64(f.number("db", 0)), QuotaBytes: int64(f.number("quota", 0)),
			Compacted: f.has("compacted"),
		})
	}
}

func (f fields) backup() *Backup {
	b := &Backup{Name: f.rest[0], State: BackupState(f.rest[1]), Why: strings.Join(f.rest[2:], " ")}
	if b.State == "Missing" {
		b.State = BackupMissing
	}
	return b
}

func (f fields) modes() v1alpha1.TLSModes {
	return v1alpha1.TLSModes{Client: v1alpha1.TLSMode(f.text("client", "")), Peer: v1alpha1.TLSMode(f.text("peer", ""))}
}

func operation(s string) (op v1alpha1.OperationType) { return v1alpha1.OperationType(s) }
