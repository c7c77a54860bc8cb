package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	if err := r.take(ctx, o, d.Step); err != nil {
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
		return r.delete(ctx, o.set, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	case plan.DeletePod, plan.ForceDeletePod:
		return r.deletePod(ctx, o, s)
	case plan.DropConfirmation:
		return r.dropConfirmation(ctx, o)
	case plan.GrowVolume, plan.RecordMember, plan.DeleteVolume, plan.MarkSurvivor, plan.EndRecovery:
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
		return r.delete(ctx, pod, client.GracePeriodSeconds(0))
	}
	return r.delete(ctx, pod)
}

func (r *Reconciler) changeClaim(ctx context.Context, o *observation, s plan.Step) error {
	claim, ok := o.claims[s.Ordinal]
	switch {
	case !ok:
		return errMoved
	case s.Action == plan.GrowVolume:
		return r.patchClaim(ctx, claim, growth(o))
	case s.Action == plan.RecordMember:
		return r.patchClaim(ctx, claim, identity(o, s))
	case s.Action == plan.EndRecovery:
		return r.patchClaim(ctx, claim, annotate(annotationRecovery, nil))
	case s.Action == plan.MarkSurvivor:
		mark, err := o.survivorMark(s)
		if err != nil {
			return err
		}
		return r.patchClaim(ctx, claim, mark)
	}
	return r.delete(ctx, claim)
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

// delete deletes the very object that was observed, and takes it as done when it
// is gone already.
func (r *Reconciler) delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	uid := o.GetUID()
	opts = append(opts, client.Preconditions{UID: &uid})
	if err := r.Client.Delete(ctx, o, opts...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s: %w", o.GetName(), err)
	}
	return nil
}

// growth is the patch that raises a claim's request to the spec's size.
func growth(o *observation) map[string]any {
	return map[string]any{"spec": map[string]any{"resources": map[string]any{"requests": map[string]any{
		string(corev1.ResourceStorage): o.cluster.Spec.Storage.Size.String(),
	}}}}
}

// identity is the patch that writes whose data a claim holds.
func identity(o *observation, s plan.Step) map[string]any {
	status, _ := o.status(s.Ordinal)
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{
		annotationCluster: formatID(status.ClusterID),
		annotationMember:  formatID(uint64(s.Member)),
	}}}
}

// patchClaim changes the claim that was observed, not one of the same name.
func (r *Reconciler) patchClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, patch map[string]any) error {
	metadata, _ := patch["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	metadata["uid"] = string(claim.UID)
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("patch claim %s: %w", claim.Name, err)
	}
	err = r.Client.Patch(ctx, claim.DeepCopy(), client.RawPatch(types.MergePatchType, body), client.FieldOwner(resources.FieldManager))
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("patch claim %s: %w", claim.Name, errMoved)
	case err != nil:
		return fmt.Errorf("patch claim %s: %w", claim.Name, err)
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
	case plan.Promote:
		return o.access.Promote(ctx, o.voterEndpoints(), id)
	case plan.Remove:
		return r.removeMember(ctx, o, s)
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
