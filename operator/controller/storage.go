package controller

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// sized is the cluster as it would be if the spec named the size that its
// volumes have grown to by themselves: the spec is never written, so the claims
// and their template tell. A claim counts up to the limit of growth only, since
// somebody else may have patched it.
func (o *observation) sized() *v1alpha1.MetaStoreCluster {
	out := o.cluster.DeepCopy()
	storage := &out.Spec.Storage
	take := func(q *resource.Quantity) {
		if q.Cmp(storage.Size) > 0 {
			storage.Size = q.DeepCopy()
		}
	}
	if o.set != nil {
		for _, t := range o.set.Spec.VolumeClaimTemplates {
			if t.Name == resources.DataVolume {
				take(t.Spec.Resources.Requests.Storage())
			}
		}
	}
	if storage.AutoGrow == nil {
		return out
	}
	for _, claim := range o.claims {
		if q := claim.Spec.Resources.Requests.Storage(); q.Cmp(storage.AutoGrow.MaxSize) <= 0 {
			take(q)
		}
	}
	return out
}

// otherClass says that a claim, or a template, is of another class than the spec
// names; one that names none takes any.
func (o *observation) otherClass(class *string) bool {
	want := o.cluster.Spec.Storage.StorageClassName
	return want != nil && (class == nil || *class != *want)
}

// claimsDiffer says that the set would make other claims than it should.
func (o *observation) claimsDiffer() bool {
	for _, t := range o.set.Spec.VolumeClaimTemplates {
		if t.Name == resources.DataVolume {
			return t.Spec.Resources.Requests.Storage().Cmp(o.size.Spec.Storage.Size) < 0 || o.otherClass(t.Spec.StorageClassName)
		}
	}
	return false
}

// storageFacts are the alarms, and which pods have to start anew to take up a
// larger quota than the one that has stopped the cluster.
func (o *observation) storageFacts() {
	w := &o.world
	if grow := o.cluster.Spec.Storage.AutoGrow; grow != nil {
		w.Spec.AutoGrowBytes = grow.MaxSize.Value()
	}
	w.Spec.QuotaFollows = !resources.QuotaIsExplicit(&o.cluster.Spec)
	if !w.ListKnown {
		return
	}
	noSpace := false
	for _, a := range o.view.Alarms() {
		w.Alarms = append(w.Alarms, plan.Alarm{Type: v1alpha1.AlarmType(a.Type), Member: plan.MemberID(a.Member)})
		noSpace = noSpace || a.Type == member.NoSpace
	}
	if !noSpace || o.invalid != nil {
		return
	}
	for _, m := range w.Members {
		p, ok := w.Pods[m.Ordinal]
		v := w.Volumes[m.Ordinal]
		if !ok || m.QuotaBytes <= 0 || m.QuotaBytes >= o.tuning.QuotaBackendBytes || v.CapacityBytes < v.RequestBytes {
			continue
		}
		p.Restart = true
		w.Pods[m.Ordinal] = p
	}
}

// alarmStatuses are the alarms with the pods of those whom they name.
func (o *observation) alarmStatuses() []v1alpha1.AlarmStatus {
	if !o.world.ListKnown {
		return o.cluster.Status.DeepCopy().Alarms // nobody has taken them back
	}
	var out []v1alpha1.AlarmStatus
	for _, a := range o.world.Alarms {
		s := v1alpha1.AlarmStatus{Type: a.Type, MemberID: formatID(uint64(a.Member))}
		for _, m := range o.world.Members {
			if m.ID == a.Member && m.Ordinal >= 0 {
				s.Member = resources.PodName(o.cluster.Name, m.Ordinal)
			}
		}
		out = append(out, s)
	}
	return out
}

func (o *observation) storageHealthy() verdict {
	var wrong []string
	reason := ""
	for _, a := range o.world.Alarms {
		reason = string(a.Type)
		wrong = append(wrong, fmt.Sprintf("%s of member %x", a.Type, uint64(a.Member)))
	}
	for _, ordinal := range ordinals(o.world.Pods) {
		if p := o.world.Pods[ordinal]; p.ExitCode == plan.ExitVolumeFull && !p.Ready {
			reason = plan.ReasonVolumeFull
			wrong = append(wrong, fmt.Sprintf("the volume of member %d is full", ordinal))
		}
	}
	for _, ordinal := range ordinals(o.claims) {
		for _, c := range o.claims[ordinal].Status.Conditions {
			if c.Type == corev1.PersistentVolumeClaimControllerResizeError || c.Type == corev1.PersistentVolumeClaimNodeResizeError {
				reason = "VolumeResizeFailed"
				wrong = append(wrong, fmt.Sprintf("the volume of member %d does not grow: %s", ordinal, c.Message))
			}
		}
	}
	switch {
	case len(wrong) > 0:
		return no(reason, strings.Join(wrong, "; "))
	case !o.world.ListKnown:
		return verdict{"Unknown", "MembersUnknown", "the alarms are not known"}
	}
	return yes("NoAlarms", "no alarm stands and no volume is full")
}
