package controller

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// errMoved says that what was to be changed is not what was observed any more.
var errMoved = errors.New("the world has moved on since it was observed")

func isMoved(err error) bool    { return errors.Is(err, errMoved) }
func isNotReady(err error) bool { return errors.Is(err, member.ErrNotReady) }

// act takes the decision's step, which is one call that changes something, and
// tells of it.
func (r *Reconciler) act(ctx context.Context, o *observation, d plan.Decision) error {
	if d.Step.Action == plan.Nothing {
		return nil
	}
	err := r.take(ctx, o, d.Step)
	o.countStep(d, err)
	if err != nil {
		if !passing(err) {
			r.Events.Eventf(o.cluster, nil, corev1.EventTypeWarning, "ActionFailed", string(d.Step.Action), "%s: %v", d.Message, err)
		}
		return fmt.Errorf("%s: %w", d.Step, err)
	}
	ctrl.LoggerFrom(ctx).Info("step taken", "step", d.Step.String(), "operation", d.Operation, "reason", d.Reason, "message", d.Message)
	r.Events.Eventf(o.cluster, nil, corev1.EventTypeNormal, d.Reason, string(d.Step.Action), "%s", d.Message)
	return nil
}

func (r *Reconciler) take(ctx context.Context, o *observation, s plan.Step) error {
	switch s.Action {
	case plan.ApplyObject:
		return r.apply(ctx, o.wanted[s.Object], "")
	case plan.WriteSettings:
		return r.apply(ctx, r.wantedSettings(o), "")
	case plan.ApplySet:
		return r.applySet(ctx, o, s.Replicas)
	case plan.DropSet:
		return deleteExactly(ctx, r.Client, o.set, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	case plan.DeletePod, plan.ForceDeletePod:
		return r.deletePod(ctx, o, s)
	case plan.MarkStopped, plan.MarkServing:
		return r.answerMark(ctx, o, s)
	case plan.HoldDeletion, plan.ReleaseDeletion:
		return r.holdDeletion(ctx, o, s.Action == plan.HoldDeletion)
	case plan.MakeBackup:
		return r.makeBackup(ctx, o, s.Object)
	case plan.DropConfirmation:
		return r.dropConfirmation(ctx, o)
	case plan.GrowVolume, plan.RecordMember, plan.DeleteVolume, plan.MarkSurvivor, plan.EndRecovery, plan.OwnVolume, plan.DisownVolume:
		return r.changeClaim(ctx, o, s)
	}
	return r.changeMembers(ctx, o, s)
}

func (r *Reconciler) deletePod(ctx context.Context, o *observation, s plan.Step) error {
	pod, ok := o.pods[s.Ordinal]
	switch {
	case !ok:
		return errMoved
	case s.Action == plan.ForceDeletePod:
		return deleteExactly(ctx, r.Client, pod, client.GracePeriodSeconds(0))
	}
	return deleteExactly(ctx, r.Client, pod)
}

// applySet applies the StatefulSet on top of the very version that was observed:
// replicas computed from an older one must not undo a newer.
func (r *Reconciler) applySet(ctx context.Context, o *observation, replicas int) error {
	version := ""
	if o.set != nil {
		version = o.set.ResourceVersion
	}
	return r.apply(ctx, r.setWithReplicas(o, replicas), version)
}

// deleteExactly deletes the very object that was observed, and takes it as done
// when it is gone already.
func deleteExactly(ctx context.Context, c client.Client, o client.Object, opts ...client.DeleteOption) error {
	uid := o.GetUID()
	opts = append(opts, client.Preconditions{UID: &uid})
	if err := c.Delete(ctx, o, opts...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s: %w", o.GetName(), err)
	}
	return nil
}

func (r *Reconciler) changeMembers(ctx context.Context, o *observation, s plan.Step) error {
	id := member.ID(s.Member)
	switch s.Action {
	case plan.AddLearner:
		_, err := o.access.AddLearner(ctx, o.voterEndpoints(), resources.PeerURL(o.cluster, s.Ordinal, s.PeerTLS))
		return err
	case plan.UpdatePeerURL:
		return o.access.UpdatePeerURL(ctx, o.voterEndpoints(), id, resources.PeerURL(o.cluster, s.Ordinal, s.PeerTLS))
	case plan.EnableAuth:
		return o.access.EnableAuth(ctx, o.voterEndpoints(), o.auth.wanted)
	case plan.ChangePassword:
		return o.access.ChangePassword(ctx, o.voterEndpoints(), o.auth.wanted)
	case plan.DisableAuth:
		return o.access.DisableAuth(ctx, o.voterEndpoints())
	case plan.Promote:
		return o.access.Promote(ctx, o.voterEndpoints(), id)
	case plan.Remove:
		return r.removeMember(ctx, o, s)
	case plan.Compact:
		return o.access.Compact(ctx, o.voterEndpoints(), o.view.Revision())
	case plan.Defragment:
		return o.access.Defragment(ctx, o.clientURL(s.Ordinal))
	case plan.Disarm:
		return o.access.Disarm(ctx, o.voterEndpoints(), member.Alarm{Type: string(s.Alarm.Type), Member: member.ID(s.Alarm.Member)})
	case plan.MoveLeader:
		for _, m := range o.world.Members {
			if m.Leader {
				return o.access.MoveLeader(ctx, o.clientURL(m.Ordinal), id)
			}
		}
		return errMoved
	}
	return fmt.Errorf("no such action: %q", s.Action)
}

// removeMember takes a member out. Where that gives up its data, the pod that
// said so is read once more from the API server: a cache may tell of a pod that
// has been replaced since.
func (r *Reconciler) removeMember(ctx context.Context, o *observation, s plan.Step) error {
	if p := o.pods[s.Ordinal]; s.DataGone && p != nil {
		live := &corev1.Pod{}
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(p), live)
		switch {
		case apierrors.IsNotFound(err):
			return errMoved
		case err != nil:
			return fmt.Errorf("look at pod %s again: %w", p.Name, err)
		case live.UID != p.UID || podFacts(live).ExitCode != podFacts(p).ExitCode || podFacts(live).Ready:
			return errMoved
		}
	}
	err := o.access.Remove(ctx, o.voterEndpoints(), member.ID(s.Member))
	if errors.Is(err, member.ErrNotFound) {
		return nil
	}
	return err
}

// voterEndpoints are the answering voters, which can change the membership.
func (o *observation) voterEndpoints() []string {
	var out []string
	for _, m := range o.world.Members {
		if m.Answers && !m.Learner {
			out = append(out, o.clientURL(m.Ordinal))
		}
	}
	return out
}
