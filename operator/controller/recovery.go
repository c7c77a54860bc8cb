package controller

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// annotationRecovery, on the claim of a survivor, is the recovery that has begun
// from it, as in status.recovery. It outlives a lost status.
const annotationRecovery = "metastore.io/recovery"

// recoveryFacts are what a lost quorum is judged by.
func (o *observation) recoveryFacts() {
	w := &o.world
	w.Confirmed = o.cluster.Annotations[v1alpha1.AnnotationRecoverQuorum] == o.cluster.Name
	w.Survivors = map[int]plan.Survivor{}
	for ordinal := range o.pods {
		s, ok := o.status(ordinal)
		recorded := w.Volumes[ordinal].Member
		if !ok || s.Learner || recorded != 0 && recorded != plan.MemberID(s.ID) {
			continue
		}
		w.Survivors[ordinal] = plan.Survivor{
			Member: plan.MemberID(s.ID), LogTerm: s.LogTerm, LogIndex: s.LogIndex, Committed: s.RaftIndex,
		}
	}
	if ordinal, r := o.begunRecovery(); r != nil {
		w.Recovery = &plan.Recovery{Ordinal: ordinal, Word: r.Word}
	}
	for _, e := range o.writtenEntries() {
		if e.Force != "" {
			w.Forcing = e.Force
		}
	}
}

// begunRecovery reads the mark back; nil when there is none.
func (o *observation) begunRecovery() (ordinal int, r *v1alpha1.RecoveryStatus) {
	for _, ordinal := range ordinals(o.claims) {
		text, ok := o.claims[ordinal].Annotations[annotationRecovery]
		if !ok {
			continue
		}
		r := &v1alpha1.RecoveryStatus{}
		if err := json.Unmarshal([]byte(text), r); err != nil || r.Word == "" {
			continue // nothing of ours
		}
		return ordinal, r
	}
	return 0, nil
}

// recoveryStatus is the recovery that goes on, or else the last one.
func (o *observation) recoveryStatus() *v1alpha1.RecoveryStatus {
	if _, r := o.begunRecovery(); r != nil {
		return r
	}
	return o.cluster.Status.Recovery.DeepCopy()
}

// survivorMark is the patch that marks a claim, with the evidence.
func (o *observation) survivorMark(s plan.Step) (map[string]any, error) {
	survivor := o.world.Survivors[s.Ordinal]
	r := v1alpha1.RecoveryStatus{
		Survivor: resources.PodName(o.cluster.Name, s.Ordinal), Word: survivor.RecoveryWord(),
		AllowedBy: "Spec", StartedAt: metav1.NewTime(o.now.Truncate(1e9)),
	}
	if o.world.Confirmed {
		r.AllowedBy = "Annotation"
	}
	for _, c := range plan.Candidates(o.world) {
		r.Candidates = append(r.Candidates, v1alpha1.RecoveryCandidate{
			Member: resources.PodName(o.cluster.Name, c.Ordinal), Answers: c.Answers, Finding: c.Finding,
			LogTerm: int64(c.LogTerm), LogIndex: int64(c.LogIndex), CommittedIndex: int64(c.Committed),
		})
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("mark the survivor: %w", err)
	}
	return annotate(annotationRecovery, string(text)), nil
}

// annotate is a merge patch of one annotation; a nil value takes it away.
func annotate(name string, value any) map[string]any {
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{name: value}}}
}

// dropConfirmation is the one thing that the operator writes to a cluster besides
// its status.
func (r *Reconciler) dropConfirmation(ctx context.Context, o *observation) error {
	body, err := json.Marshal(annotate(v1alpha1.AnnotationRecoverQuorum, nil))
	if err != nil {
		return err
	}
	err = r.Client.Patch(ctx, o.cluster.DeepCopy(), client.RawPatch("application/merge-patch+json", body), client.FieldOwner(resources.FieldManager))
	return client.IgnoreNotFound(err)
}
