package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// makeWorld reduces the observation to the planner's input.
func (r *Reconciler) makeWorld(ctx context.Context, o *observation) error {
	c := o.cluster
	o.world = plan.World{
		Now: o.now, Limits: r.Limits, Deleting: c.DeletionTimestamp != nil,
		TLS: o.planTLS(), Auth: o.planAuth(),
		Spec: specFacts(&o.size.Spec),
		Pods: map[int]plan.Pod{}, Volumes: map[int]plan.Volume{},
		ListKnown: o.view.ListErr == nil && len(o.view.Members) > 0,
		Operation: o.lastOperation(),
	}
	w := &o.world
	if o.invalid != nil {
		w.Invalid = o.invalid.Error()
	}
	if w.ListKnown {
		w.Members = o.memberFacts()
	}
	for ordinal, p := range o.pods {
		f := podFacts(p)
		if err := r.nodeFacts(ctx, o.now, p.Spec.NodeName, &f); err != nil {
			return fmt.Errorf("get node %s: %w", p.Spec.NodeName, err)
		}
		w.Pods[ordinal] = f
	}
	for ordinal, claim := range o.claims {
		f, err := r.volumeFacts(ctx, claim, w.Spec.VolumeBytes, c.Spec.Storage.AutoGrow != nil)
		if err != nil {
			return fmt.Errorf("get storage class of %s: %w", claim.Name, err)
		}
		f.OtherClass = o.otherClass(claim.Spec.StorageClassName)
		if !w.Pods[ordinal].Ready {
			if f.NodeGone, err = r.boundToLostNode(ctx, claim); err != nil {
				return err
			}
		}
		f.Owned = owned(claim, c)
		w.Volumes[ordinal] = f
	}
	if err := r.restoreFacts(ctx, o); err != nil {
		return err
	}
	o.backupFacts()
	o.recoveryFacts()
	o.storageFacts()
	return r.compare(ctx, o)
}

func repairSpec(s *v1alpha1.RepairSpec) plan.Repair {
	if s == nil {
		return plan.Repair{}
	}
	r := plan.Repair{
		Manual: s.Mode == v1alpha1.RepairManual, ReplaceLost: s.LostNode == v1alpha1.LostNodeReplace,
		RecoverQuorum: s.QuorumLoss == v1alpha1.QuorumLossRecover,
	}
	if s.GracePeriod != nil {
		r.Grace = s.GracePeriod.Duration
	}
	return r
}

// specFacts reduces the spec to what the planner judges by.
func specFacts(s *v1alpha1.MetaStoreClusterSpec) plan.Spec {
	f := plan.Spec{
		Replicas: int(s.Replicas), VolumeBytes: s.Storage.Size.Value(),
		Paused: s.Paused, Hibernated: s.Hibernated, OwnVolumes: s.DeletionPolicy == v1alpha1.DeletionDelete,
		Repair: repairSpec(s.Repair),
	}
	if u := s.Update; u != nil {
		f.OnDelete = u.Strategy == v1alpha1.UpdateOnDelete
		f.MinReady = time.Duration(ptr.Deref(u.MinReadySeconds, 0)) * time.Second
	}
	return f
}

// bootstrapped finds any trace of the cluster having served: a member that
// answers, an identity at a claim, settings that say "existing", or the status.
func (o *observation) bootstrapped() bool {
	if o.world.ListKnown || o.cluster.Status.ClusterID != "" || filled(markAt(o.claims[seed])) {
		return true
	}
	for _, v := range o.world.Volumes {
		if v.Member != 0 {
			return true
		}
	}
	if o.cluster.Spec.Bootstrap != nil {
		return false // its settings say "existing" from the first, before a restore that may fail
	}
	for _, e := range o.writtenEntries() {
		if !e.New {
			return true
		}
	}
	return false
}

// compare finds what differs from what it should be.
func (r *Reconciler) compare(ctx context.Context, o *observation) error {
	if o.set != nil {
		o.world.Set = &plan.Set{
			Replicas:     int(replicasOf(o.set)),
			Observed:     o.set.Status.ObservedGeneration >= o.set.Generation,
			Revision:     o.set.Status.UpdateRevision,
			Terminating:  o.set.DeletionTimestamp != nil,
			ClaimsDiffer: o.claimsDiffer(),
			Modes:        resources.Modes(o.set.Spec.Template.Annotations),
		}
	}
	o.modes = plan.NextModes(&o.world)
	if o.set != nil {
		o.world.Set.Differs = o.invalid == nil && differs(r.setWithReplicas(o, int(replicasOf(o.set))), o.set)
	}
	o.world.SettingsDiffer = o.invalid == nil && differs(r.wantedSettings(o), o.settings)
	return r.compareObjects(ctx, o)
}

func (r *Reconciler) compareObjects(ctx context.Context, o *observation) error {
	b := r.builder(o)
	peers, err := fetch(ctx, r.Client, o.cluster, resources.PeerServiceName(o.cluster.Name), &corev1.Service{})
	if err != nil {
		return err
	}
	o.want("Service/", stamped(b.PeerService()), peers)
	clients, err := fetch(ctx, r.Client, o.cluster, resources.ClientServiceName(o.cluster.Name), &corev1.Service{})
	if err != nil {
		return err
	}
	o.want("Service/", stamped(b.ClientService()), clients)
	budget, err := fetch(ctx, r.Client, o.cluster, resources.BudgetName(o.cluster.Name), &policyv1.PodDisruptionBudget{})
	if err != nil {
		return err
	}
	if budget == nil || o.world.ListKnown {
		o.want("PodDisruptionBudget/", stamped(b.PodDisruptionBudget(o.voters())), budget)
	}
	o.world.Objects = o.order
	return nil
}

// want notes an object that is missing or differs.
func (o *observation) want(kind string, wanted, live client.Object) {
	if differs(wanted, live) {
		o.wantObject(kind+wanted.GetName(), wanted)
	}
}

func (o *observation) wantObject(name string, wanted client.Object) {
	if o.wanted[name] == nil {
		o.order = append(o.order, name)
	}
	o.wanted[name] = wanted
}

// voters is the number of voters as far as it is known, and else the wanted one.
func (o *observation) voters() int {
	if !o.world.ListKnown {
		return o.world.Spec.Replicas
	}
	n := 0
	for _, m := range o.world.Members {
		if !m.Learner {
			n++
		}
	}
	return n
}

func (r *Reconciler) builder(o *observation) resources.Builder {
	return resources.For(o.size, r.defaultImage(o), o.tuning).WithModes(o.modes)
}

// wantedSettings are the start-up settings for the entries that the planner
// gives; while the membership is unknown the written ones are kept.
func (r *Reconciler) wantedSettings(o *observation) *corev1.ConfigMap {
	entries, ok := plan.Entries(o.world)
	if written := o.writtenEntries(); !ok && len(written) > 0 && o.world.Forcing == "" && writtenToken(o.settings) == o.token() {
		entries = written
	}
	members := make([]resources.MemberConfig, 0, len(entries))
	for _, e := range entries {
		members = append(members, resources.MemberConfig{Ordinal: e.Ordinal, New: e.New, Peers: e.Peers, Force: e.Force, Secure: e.Secure})
	}
	return stamped(r.builder(o).WithToken(o.token()).Members(members, o.modesInUse()...))
}

// modesInUse are the TLS modes of the pods and of the template that there are: a
// container that starts anew needs the settings that its pod was made for.
func (o *observation) modesInUse() []v1alpha1.TLSModes {
	var out []v1alpha1.TLSModes
	for _, ordinal := range ordinals(o.pods) {
		out = append(out, o.modesOf(ordinal))
	}
	if o.set != nil {
		out = append(out, resources.Modes(o.set.Spec.Template.Annotations))
	}
	return out
}

// writtenEntries reads back the entries of the settings that there are.
func (o *observation) writtenEntries() []plan.Entry {
	if o.settings == nil {
		return nil
	}
	var out []plan.Entry
	known := map[int]bool{} // a pod has a file for each of several modes
	for _, key := range slices.Sorted(maps.Keys(o.settings.Data)) {
		pod, _, _ := strings.Cut(key, ".")
		ordinal, ok := resources.Ordinal(o.cluster.Name, pod)
		var file struct {
			Cluster string `json:"initial-cluster"`
			State   string `json:"initial-cluster-state"`
			Force   string `json:"force-new-cluster-once"`
		}
		if !ok || known[ordinal] || yaml.Unmarshal([]byte(o.settings.Data[key]), &file) != nil {
			continue
		}
		known[ordinal] = true
		e := plan.Entry{Ordinal: ordinal, New: file.State == "new", Force: file.Force}
		for _, peer := range strings.Split(file.Cluster, ",") {
			name, url, _ := strings.Cut(peer, "=")
			p, ok := resources.Ordinal(o.cluster.Name, name)
			if !ok {
				continue
			}
			e.Peers = append(e.Peers, p)
			if strings.HasPrefix(url, "https:") {
				e.Secure = append(e.Secure, p)
			}
		}
		out = append(out, e)
	}
	return out
}

// setWithReplicas is the StatefulSet as it should be. The claim template of one
// that exists is kept: it cannot be changed in place.
func (r *Reconciler) setWithReplicas(o *observation, replicas int) *appsv1.StatefulSet {
	set := r.builder(o).StatefulSet(replicas)
	set.Annotations = o.markImage(set.Annotations, containerImage(&set.Spec.Template.Spec))
	set = stamped(set)
	if o.set != nil {
		set.Spec.VolumeClaimTemplates = o.set.Spec.DeepCopy().VolumeClaimTemplates
	}
	return set
}

func replicasOf(set *appsv1.StatefulSet) int32 {
	if set.Spec.Replicas == nil {
		return 1
	}
	return *set.Spec.Replicas
}

// lastOperation is the running operation as the status tells it; the planner
// takes the start of its clocks from there.
func (o *observation) lastOperation() plan.Operation {
	s := o.cluster.Status.Operation
	if s == nil {
		return plan.Operation{Ordinal: -1}
	}
	op := plan.Operation{Type: s.Type, Ordinal: -1, Reason: s.Step}
	if ordinal, ok := resources.Ordinal(o.cluster.Name, s.Member); ok {
		op.Ordinal = ordinal
	}
	if s.StartedAt != nil {
		op.StartedAt = s.StartedAt.Time
	}
	return op
}
