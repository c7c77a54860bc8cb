package controller

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

// verdict is one condition as this observation gives it.
type verdict struct {
	status          metav1.ConditionStatus
	reason, message string
}

func yes(reason, message string) verdict { return verdict{metav1.ConditionTrue, reason, message} }
func no(reason, message string) verdict  { return verdict{metav1.ConditionFalse, reason, message} }

// conditions are all conditions from one observation. Reconciling and Stalled
// follow kstatus: they are absent when they do not hold.
func (o *observation) conditions(d plan.Decision, actErr error) []metav1.Condition {
	all := append([]metav1.Condition(nil), o.cluster.Status.Conditions...)
	set := func(t string, v verdict) {
		meta.SetStatusCondition(&all, metav1.Condition{
			Type: t, Status: v.status, Reason: v.reason, Message: v.message,
			ObservedGeneration: o.cluster.Generation, LastTransitionTime: metav1.NewTime(o.now.Truncate(1e9)),
		})
	}
	available, members, upToDate := o.available(), o.allMembersReady(), o.upToDate()
	reason, message, stalled := o.stalledBy(d, actErr)
	set(v1alpha1.ConditionAvailable, available)
	set(v1alpha1.ConditionAllMembersReady, members)
	set(v1alpha1.ConditionUpToDate, upToDate)
	set(v1alpha1.ConditionConfigValid, o.configValid())
	if v, ok := o.tlsReady(); ok {
		set(v1alpha1.ConditionTLSReady, v)
	} else {
		meta.RemoveStatusCondition(&all, v1alpha1.ConditionTLSReady)
	}
	set(v1alpha1.ConditionStorageHealthy, o.storageHealthy())
	if v, ok := o.authReady(); ok {
		set(v1alpha1.ConditionAuthReady, v)
	} else {
		meta.RemoveStatusCondition(&all, v1alpha1.ConditionAuthReady)
	}
	if v, ok := o.backupCurrent(); ok {
		set(v1alpha1.ConditionBackupCurrent, v)
	} else {
		meta.RemoveStatusCondition(&all, v1alpha1.ConditionBackupCurrent)
	}
	set(v1alpha1.ConditionReady, o.ready(d, actErr, available, members, upToDate))
	if stalled {
		set(v1alpha1.ConditionStalled, yes(reason, message))
	} else {
		meta.RemoveStatusCondition(&all, v1alpha1.ConditionStalled)
	}
	switch {
	case stalled: // kstatus takes an object that is both for in progress
		meta.RemoveStatusCondition(&all, v1alpha1.ConditionReconciling)
	case actErr != nil:
		set(v1alpha1.ConditionReconciling, yes("ActionFailed", fmt.Sprintf("%s, but: %v", d.Message, actErr)))
	case d.Operation != "":
		set(v1alpha1.ConditionReconciling, yes(d.Reason, d.Message))
	default:
		meta.RemoveStatusCondition(&all, v1alpha1.ConditionReconciling)
	}
	return all
}

// ready is True when the cluster serves and nothing is left to do; otherwise it
// tells the most important reason.
func (o *observation) ready(d plan.Decision, actErr error, available, members, upToDate verdict) verdict {
	switch {
	case actErr != nil:
		return no("ActionFailed", fmt.Sprintf("%s, but: %v", d.Message, actErr))
	case available.status == metav1.ConditionUnknown:
		return available
	case d.Operation != "" || d.Reason == plan.ReasonDeleting:
		return no(d.Reason, d.Message)
	case len(d.Blocked) > 0:
		return no(d.Blocked[0].Reason, d.Blocked[0].Message)
	case d.Reason == plan.ReasonHibernated:
		return no(d.Reason, d.Message)
	}
	for _, v := range []verdict{available, members, upToDate} {
		if v.status != metav1.ConditionTrue {
			return v
		}
	}
	if d.Reason == plan.ReasonPaused {
		return yes(d.Reason, d.Message)
	}
	return yes("AllMembersReady", members.message)
}

// available says whether a quorum serves, and Unknown when the operator cannot
// know: pods are ready, but nobody answers it.
func (o *observation) available() verdict {
	switch {
	case o.world.ListKnown:
		return yes("QuorumServes", "a majority of the voters answers")
	case o.world.Spec.Hibernated && len(o.world.Pods) == 0:
		return no(plan.ReasonHibernated, "the cluster sleeps")
	case !o.world.Bootstrapped:
		return no("NotBootstrapped", "the first member has not served yet")
	}
	ready := 0
	for _, p := range o.world.Pods {
		if p.Ready {
			ready++
		}
	}
	if ready > 0 && ready > len(o.world.Pods)/2 {
		return verdict{metav1.ConditionUnknown, plan.ReasonUnreachable, fmt.Sprintf("%d pods are ready, but no quorum answers the operator", ready)}
	}
	return no(plan.ReasonQuorumLost, fmt.Sprintf("no majority of the members answers; %d pods are ready", ready))
}

func (o *observation) allMembersReady() verdict {
	ready := 0
	for _, m := range o.world.Members {
		if !m.Learner && m.Answers && o.world.Pods[m.Ordinal].Ready {
			ready++
		}
	}
	message := fmt.Sprintf("%d of %d members are ready voters", ready, o.world.Spec.Replicas)
	switch {
	case !o.world.ListKnown:
		return verdict{metav1.ConditionUnknown, "MembersUnknown", "the membership is not known"}
	case ready == o.world.Spec.Replicas && len(o.world.Members) == ready:
		return yes("AllMembersReady", message)
	case ready == o.world.Spec.Replicas:
		return no("MoreMembers", fmt.Sprintf("%s, and there are %d members", message, len(o.world.Members)))
	}
	return no("MembersMissing", message)
}

func (o *observation) upToDate() verdict {
	set := o.world.Set
	switch {
	case set == nil:
		return no("NoPods", "there is no StatefulSet yet")
	case set.Differs || !set.Observed:
		return no("SpecChanged", "the newest spec has not reached the StatefulSet")
	}
	stale := 0
	for _, p := range o.world.Pods {
		if p.Revision != set.Revision {
			stale++
		}
	}
	if stale > 0 {
		return no("PodsOutdated", fmt.Sprintf("%d of %d pods are of an older revision", stale, len(o.world.Pods)))
	}
	if _, difference := o.inEffect(); difference != "" {
		return no("SettingsDiffer", difference+"; delete its pod to have it start with what is wanted")
	}
	return yes("UpToDate", "every pod is of the newest revision")
}

func (o *observation) configValid() verdict {
	if o.invalid != nil {
		return no(plan.ReasonConfigInvalid, o.invalid.Error())
	}
	return yes("Valid", "the spec can be carried out")
}
