package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// report writes the status that follows from the observation, the decision and
// how the step went; nothing is written when it says what is there already.
func (r *Reconciler) report(ctx context.Context, o *observation, d plan.Decision, actErr error) error {
	updated := o.cluster.DeepCopy()
	updated.Status = o.newStatus(d, actErr)
	updated.Status.DefaultImage = r.keptImage(o)
	r.tellCertificates(o, updated)
	o.tellState(&updated.Status)
	if equality.Semantic.DeepEqual(o.cluster.Status, updated.Status) {
		return nil
	}
	r.tellStalled(o, updated)
	err := r.Client.Status().Patch(ctx, updated, client.MergeFrom(o.cluster), client.FieldOwner(resources.FieldManager))
	return client.IgnoreNotFound(err)
}

// tellStalled sends a warning when a cluster begins to be stalled.
func (r *Reconciler) tellStalled(o *observation, updated *v1alpha1.MetaStoreCluster) {
	was := condition(o.cluster.Status.Conditions, v1alpha1.ConditionStalled)
	is := condition(updated.Status.Conditions, v1alpha1.ConditionStalled)
	if is != nil && (was == nil || was.Reason != is.Reason) {
		r.Events.Eventf(o.cluster, nil, corev1.EventTypeWarning, is.Reason, "Stalled", "%s", is.Message)
	}
}

func condition(all []metav1.Condition, t string) *metav1.Condition {
	for i := range all {
		if all[i].Type == t {
			return &all[i]
		}
	}
	return nil
}

func (o *observation) newStatus(d plan.Decision, actErr error) v1alpha1.MetaStoreClusterStatus {
	old := o.cluster.Status
	s := v1alpha1.MetaStoreClusterStatus{
		ObservedGeneration: old.ObservedGeneration,
		Replicas:           int32(len(o.pods)),
		Selector:           labels.SelectorFromSet(resources.SelectorLabels(o.cluster.Name)).String(),
		ClusterID:          old.ClusterID,
		Revision:           old.Revision,
		Version:            o.oldestVersion(old.Version),
		Image:              o.image(),
		Members:            o.memberStatuses(),
		Operation:          o.operationStatus(d),
		Recovery:           o.recoveryStatus(),
		TLS:                o.tlsStatus(),
		Auth:               o.authStatus(),
		Alarms:             o.alarmStatuses(),
		LastBackup:         o.lastBackup(),
	}
	if o.invalid == nil {
		s.EffectiveTuning = o.tuning.DeepCopy()
		s.EffectiveTuning.ConfirmedBy, _ = o.inEffect()
	}
	if o.world.ListKnown { // what a member tells that serves nobody was seen by nobody
		s.Revision = max(s.Revision, o.world.Revision)
	}
	if id := o.clusterID(); id != "" && (s.ClusterID == "" || o.servesRestored()) {
		s.ClusterID = id
	}
	for _, m := range s.Members {
		if m.Ready {
			s.ReadyReplicas++
		}
		if m.Role == v1alpha1.RoleLeader {
			s.Leader = m.Name
		}
	}
	if actErr == nil {
		s.ObservedGeneration = o.cluster.Generation
	}
	if passing(actErr) {
		actErr = nil // the next pass sees how it is
	}
	s.Conditions = o.conditions(d, actErr)
	return s
}

// clusterID is what the answering members say. A learner says it too, but only
// once it has joined, so any of them will do.
func (o *observation) clusterID() string {
	if !o.world.ListKnown {
		return ""
	}
	for _, endpoint := range o.endpoints() {
		if s, ok := o.view.Status[endpoint]; ok && s.ClusterID != 0 {
			return formatID(s.ClusterID)
		}
	}
	return ""
}

// oldestVersion is the lowest version that a member runs; the last known one
// while nobody answers.
func (o *observation) oldestVersion(last string) string {
	if versions := o.versions(); len(versions) > 0 {
		return versions[0]
	}
	return last
}

// newestVersion is the highest version that a member runs; empty while nobody answers.
func (o *observation) newestVersion() string {
	if versions := o.versions(); len(versions) > 0 {
		return versions[len(versions)-1]
	}
	return ""
}

// versions are those that the answering members run, the lowest first.
func (o *observation) versions() []string {
	var out []string
	for _, s := range o.view.Status {
		if s.Version != "" {
			out = append(out, s.Version)
		}
	}
	slices.SortFunc(out, compareVersions)
	return out
}

// memberStatuses has a row for each member and each pod, by ordinal.
func (o *observation) memberStatuses() []v1alpha1.MemberStatus {
	rows := map[int]v1alpha1.MemberStatus{}
	for ordinal, p := range o.pods {
		rows[ordinal] = v1alpha1.MemberStatus{
			Name: p.Name, Pod: p.Name, Node: p.Spec.NodeName, Role: v1alpha1.RoleUnknown, Health: v1alpha1.HealthUnknown,
			Ready: o.world.Pods[ordinal].Ready, Revision: o.world.Pods[ordinal].Revision,
		}
	}
	for _, m := range o.world.Members {
		row := rows[m.Ordinal]
		row.ID, row.Role, row.Health = formatID(uint64(m.ID)), role(m), o.health(m)
		row.Name = resources.PodName(o.cluster.Name, m.Ordinal)
		if m.Ordinal < 0 {
			continue // reported as a condition: it has no pod to be named after
		}
		rows[m.Ordinal] = row
	}
	committed := o.committed()
	out := make([]v1alpha1.MemberStatus, 0, len(rows))
	for _, ordinal := range ordinals(rows) {
		row := rows[ordinal]
		if s, ok := o.status(ordinal); ok {
			row.Version, row.DBSizeBytes = s.Version, s.DBSizeBytes
			row.AppliedIndex = int64(s.AppliedIndex)
			row.Lag = int64(committed - min(committed, s.AppliedIndex))
		}
		out = append(out, row)
	}
	return out
}

func role(m plan.Member) v1alpha1.MemberRole {
	switch {
	case m.Learner:
		return v1alpha1.RoleLearner
	case !m.Answers:
		return v1alpha1.RoleUnknown
	case m.Leader:
		return v1alpha1.RoleLeader
	}
	return v1alpha1.RoleFollower
}

func (o *observation) health(m plan.Member) v1alpha1.Health {
	p, ok := o.world.Pods[m.Ordinal]
	switch {
	case m.Answers && p.Ready:
		return v1alpha1.HealthTrue
	case ok && p.Ready:
		return v1alpha1.HealthUnknown // the kubelet reaches it, the operator does not
	}
	return v1alpha1.HealthFalse
}

// operationStatus keeps the start of a step that goes on.
func (o *observation) operationStatus(d plan.Decision) *v1alpha1.OperationStatus {
	if d.Operation == "" {
		return nil
	}
	s := &v1alpha1.OperationStatus{Type: d.Operation, Step: d.Reason, Reason: d.Message}
	if d.Ordinal >= 0 {
		s.Member = resources.PodName(o.cluster.Name, d.Ordinal)
	}
	now := metav1.NewTime(o.now.Truncate(1e9))
	s.StartedAt = &now
	if old := o.cluster.Status.Operation; old != nil && old.Type == s.Type && old.Member == s.Member &&
		old.Step == s.Step && old.StartedAt != nil {
		s.StartedAt = old.StartedAt.DeepCopy()
	}
	if d.Waiting() {
		deadline := metav1.NewTime(d.Deadline.Truncate(1e9))
		s.Deadline = &deadline
	}
	return s
}

// stalledBy is what nothing but a person changes: a wait that has taken too
// long, a wish that cannot be fulfilled, a step that the API server refuses.
func (o *observation) stalledBy(d plan.Decision, actErr error) (reason, message string, ok bool) {
	var status apierrors.APIStatus
	switch {
	case actErr != nil && (apierrors.IsInvalid(actErr) || apierrors.IsForbidden(actErr)) && errors.As(actErr, &status):
		return "ActionRefused", fmt.Sprintf("%s, but the API server refuses it: %s", d.Message, status.Status().Message), true
	case len(d.Blocked) > 0 && d.Blocked[0].Hinders:
		return d.Blocked[0].Reason, d.Blocked[0].Message, true
	case d.Overdue(o.now):
		return d.Reason, d.Message, true
	case len(d.Blocked) > 0:
		return d.Blocked[0].Reason, d.Blocked[0].Message, true
	}
	return "", "", false
}
