package controller

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// artifact imitates what the suite's restores read, and what comes of reading it.
type artifact struct {
	// refuse is the reason for which a verb fails, by verb.
	refuse map[string]string
	// hang names a verb that never ends.
	hang string
	// broken says that what is restored does not start.
	broken bool
	// password is that of root in the artifact, where it has users.
	password string
	// encryption is what the artifact says of itself.
	encryption string
}

// artifactRevision is the revision of every artifact of the suite.
const artifactRevision = 5

// reads has the Jobs of the fixture's restores read an artifact: what the server's
// command would do to a volume is done to the faked members.
func (f *fixture) reads(a artifact) {
	nodes.runs(f.namespace, func(args []string) (string, int32, bool) {
		verb := args[1]
		nodes.mu.Lock()
		f.ran = append(f.ran, args)
		nodes.mu.Unlock()
		if verb == a.hang {
			return "", 0, false
		}
		word := map[string]any{"ok": true}
		if reason := a.refuse[verb]; reason != "" {
			word = map[string]any{"ok": false, "reason": reason, "message": "the artifact says so"}
		} else {
			f.do(verb, args, a, word)
		}
		text, err := json.Marshal(word)
		if err != nil {
			return err.Error(), 1, true
		}
		if word["ok"] != true {
			return string(text), 1, true
		}
		return string(text), 0, true
	})
}

func (f *fixture) do(verb string, args []string, a artifact, word map[string]any) {
	claim, set := f.claims()["data-x-0"], flagsOf(args)
	volume := string(claim.UID)
	switch verb {
	case "verify":
		word["manifest"] = map[string]any{"format": 1, "createdAt": metav1.Now(), "clusterID": "c1", "revision": artifactRevision, "encryption": a.encryption}
	case "restore":
		bump, _ := strconv.ParseInt(set["bump-revision"], 10, 64) // absent is 0
		f.fake.Restore(volume, set["name"], set["initial-advertise-peer-urls"], set["initial-cluster-token"], uint64(artifactRevision+bump))
		if a.broken {
			f.fake.Wipe(volume)
		}
		f.fake.SetUsers(a.password != "", a.password)
		word["revision"] = artifactRevision + bump
	case "undo":
		f.fake.Undo(volume)
	case "finish":
		f.fake.Finish(volume)
	}
}

// asked are the arguments of the last Job with a verb.
func (f *fixture) asked(verb string) []string {
	nodes.mu.Lock()
	defer nodes.mu.Unlock()
	for _, args := range slices.Backward(f.ran) {
		if args[1] == verb {
			return args
		}
	}
	return nil
}

func flagsOf(args []string) map[string]string {
	out := map[string]string{}
	for _, a := range args {
		k, v, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		out[k] = v
	}
	return out
}

// jobs are the Jobs of the namespace, by name.
func (f *fixture) jobs() map[string]batchv1.Job {
	list := &batchv1.JobList{}
	Expect(kube.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	out := map[string]batchv1.Job{}
	for _, j := range list.Items {
		out[j.Name] = j
	}
	return out
}
