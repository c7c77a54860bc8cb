package controller

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// nodeSilence is how long a node must not have been heard of to count as down.
const nodeSilence = 30 * time.Second

// noVolumeYet is how long a claim without a class may wait for a volume that
// somebody has made for it.
const noVolumeYet = 10 * time.Second

func ordinals[V any](m map[int]V) []int { return slices.Sorted(maps.Keys(m)) }

// podFacts reduces a pod to what the planner judges by.
func podFacts(p *corev1.Pod) plan.Pod {
	f := plan.Pod{
		Revision:       p.Labels["controller-revision-hash"],
		CreatedAt:      p.CreationTimestamp.Time,
		ReadyChangedAt: p.CreationTimestamp.Time,
		Running:        running(p),
		Waiting:        waiting(p),
		Terminating:    p.DeletionTimestamp != nil,
		Modes:          resources.Modes(p.Annotations),
	}
	if c := podCondition(p, corev1.PodReady); c != nil {
		f.Ready = c.Status == corev1.ConditionTrue
		f.ReadyChangedAt = c.LastTransitionTime.Time
	}
	if p.DeletionTimestamp != nil {
		// The timestamp is when the grace ends.
		f.TerminatingAt = p.DeletionTimestamp.Time
	}
	if s := serverStatus(p); s != nil && s.State.Running == nil {
		f.ExitCode = exitCode(s)
		f.Refused = refused(p, s)
	}
	return f
}

// refused is what a person has to change before the kubelet can start a server.
func refused(p *corev1.Pod, s *corev1.ContainerStatus) string {
	if s.State.Waiting == nil {
		return ""
	}
	switch s.State.Waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
		return fmt.Sprintf("pod %s cannot get its image %s; name one that exists in spec.version or spec.image, or give access to it (spec.podTemplate.spec.imagePullSecrets)",
			p.Name, p.Spec.Containers[0].Image)
	case "CreateContainerConfigError", "CreateContainerError":
		return fmt.Sprintf("the container of pod %s cannot be made: %s", p.Name, s.State.Waiting.Message)
	}
	return ""
}

func podCondition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func serverStatus(p *corev1.Pod) *corev1.ContainerStatus {
	for i := range p.Status.ContainerStatuses {
		if p.Status.ContainerStatuses[i].Name == resources.Container {
			return &p.Status.ContainerStatuses[i]
		}
	}
	return nil
}

func running(p *corev1.Pod) bool {
	s := serverStatus(p)
	return s != nil && s.State.Running != nil
}

func exitCode(s *corev1.ContainerStatus) int {
	switch {
	case s.State.Terminated != nil:
		return int(s.State.Terminated.ExitCode)
	case s.LastTerminationState.Terminated != nil:
		return int(s.LastTerminationState.Terminated.ExitCode)
	}
	return 0
}

// waiting is the kubelet's or the scheduler's word for why the server does not run.
func waiting(p *corev1.Pod) string {
	if s := serverStatus(p); s != nil {
		switch {
		case s.State.Waiting != nil:
			return s.State.Waiting.Reason
		case s.State.Terminated != nil:
			return s.State.Terminated.Reason
		}
		return ""
	}
	if c := podCondition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return c.Reason
	}
	return ""
}

// nodeFacts looks at the node of a pod that is not well. Where nodes may not be
// read (an operator of one namespace), nothing is known and nothing is forced.
func (r *Reconciler) nodeFacts(ctx context.Context, now time.Time, name string, f *plan.Pod) error {
	if name == "" || f.Ready && !f.Terminating {
		return nil
	}
	node := &corev1.Node{}
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, node)
	switch {
	case apierrors.IsNotFound(err):
		f.NodeGone = true
		return nil
	case apierrors.IsForbidden(err):
		return nil
	case err != nil:
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			f.NodeDown = now.Sub(c.LastTransitionTime.Time) >= nodeSilence
		}
	}
	return nil
}

// volumeFacts reduces a claim to what the planner judges by. Whether its class
// lets it grow is asked only when it is too small, or may have to grow.
func (r *Reconciler) volumeFacts(ctx context.Context, c *corev1.PersistentVolumeClaim, wantBytes int64, mayGrow bool) (plan.Volume, error) {
	f := plan.Volume{
		CreatedAt:    c.CreationTimestamp.Time,
		RequestBytes: c.Spec.Resources.Requests.Storage().Value(),
		Terminating:  c.DeletionTimestamp != nil,
		Lost:         c.Status.Phase == corev1.ClaimLost,
		Member:       plan.MemberID(parseID(c.Annotations[annotationMember])),
		PeerTLS:      c.Annotations[annotationPeerTLS] == "true",
	}
	f.CapacityBytes = c.Status.Capacity.Storage().Value()
	var err error
	switch {
	case c.Status.Phase != corev1.ClaimBound:
		// A claim cannot change before it is bound; its turn comes then.
		f.RequestBytes = max(f.RequestBytes, wantBytes)
		f.CapacityBytes = f.RequestBytes
		f.Unbound = c.Status.Phase == corev1.ClaimPending && c.Spec.VolumeName == ""
		if f.Unbound {
			f.ClassMissing, err = r.classMissing(ctx, c)
		}
	case f.RequestBytes < wantBytes || mayGrow:
		f.Expandable, err = r.expandable(ctx, c.Spec.StorageClassName)
	}
	return f, err
}

// classMissing says what to do when a claim names a class that does not exist, or
// none where there is no default one.
func (r *Reconciler) classMissing(ctx context.Context, c *corev1.PersistentVolumeClaim) (string, error) {
	class := c.Spec.StorageClassName
	switch {
	case class == nil && r.Now().Sub(c.CreationTimestamp.Time) > noVolumeYet:
		return "there is no volume for claim " + c.Name + ": no storage class is named and Kubernetes has no default one; name one in spec.storage.storageClassName, or make one the default", nil
	case class == nil || *class == "":
		return "", nil
	}
	err := r.Live.Get(ctx, client.ObjectKey{Name: *class}, &storagev1.StorageClass{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("the storage class %s does not exist; name another one in spec.storage.storageClassName, or create it", *class), nil
	case apierrors.IsForbidden(err): // an operator of one namespace
		return "", nil
	}
	return "", err
}

// expandable asks the class; where classes may not be read the API server
// decides when the claim is patched.
func (r *Reconciler) expandable(ctx context.Context, class *string) (bool, error) {
	if class == nil || *class == "" {
		return false, nil
	}
	sc := &storagev1.StorageClass{}
	err := r.Live.Get(ctx, client.ObjectKey{Name: *class}, sc)
	switch {
	case apierrors.IsForbidden(err):
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	}
	return sc.AllowVolumeExpansion != nil && *sc.AllowVolumeExpansion, nil
}

// memberFacts joins the membership list with what the members say. They are
// joined by peer URL, never by position or by name: a name is empty until the
// member has started.
func (o *observation) memberFacts() []plan.Member {
	leader := o.leader()
	committed := o.committed()
	out := make([]plan.Member, 0, len(o.view.Members))
	for _, m := range o.view.Members {
		f := plan.Member{ID: plan.MemberID(m.ID), Learner: m.Learner, Started: m.Name != ""}
		f.Ordinal, f.PeerTLS = o.ordinalOf(m)
		if s, ok := o.status(f.Ordinal); ok && s.ID == m.ID {
			f.Answers = true
			f.Leader = m.ID == leader
			f.Leaderless = s.Leader == 0
			f.Lag = committed - min(committed, s.AppliedIndex)
			f.DBBytes, f.QuotaBytes, f.Compacted = s.DBSizeBytes, s.QuotaBytes, s.Compacted
		}
		out = append(out, f)
	}
	return out
}

// ordinalOf is the ordinal whose peer URL a member has, or -1, and whether that
// URL has TLS.
func (o *observation) ordinalOf(m member.Member) (ordinal int, secure bool) {
	for _, raw := range m.PeerURLs {
		u, err := url.Parse(raw)
		if err != nil {
			continue
		}
		pod, _, _ := strings.Cut(u.Hostname(), ".")
		secure := u.Scheme == "https"
		if ordinal, ok := resources.Ordinal(o.cluster.Name, pod); ok && resources.PeerURL(o.cluster, ordinal, secure) == raw {
			return ordinal, secure
		}
	}
	return -1, false
}

// leader is the one that the answering member of the highest term follows; 0
// when that is nobody.
func (o *observation) leader() member.ID {
	var best member.Status
	for _, s := range o.view.Status {
		if s.RaftTerm > best.RaftTerm || s.RaftTerm == best.RaftTerm && s.Leader > best.Leader {
			best = s
		}
	}
	return best.Leader
}

// committed is the highest index that any member knows to be committed.
func (o *observation) committed() uint64 {
	var index uint64
	for _, s := range o.view.Status {
		index = max(index, s.RaftIndex)
	}
	return index
}

func formatID(id uint64) string { return strconv.FormatUint(id, 16) }

// parseID is the inverse of formatID; 0 for anything else.
func parseID(s string) uint64 {
	id, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0
	}
	return id
}
