package controller

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/restore"
)

const (
	// annotationToken, on a claim, is the token that the data there are marked with:
	// it outlives the cluster object, whose UID a cluster begins with.
	annotationToken = "metastore.io/cluster-token"
	// seed is the ordinal whose claim a restore marks.
	seed = 0
)

// markAt reads the mark of a restore back from a claim; nil when there is none.
func markAt(claim *corev1.PersistentVolumeClaim) *restore.Mark {
	text, ok := "", false
	if claim != nil {
		text, ok = claim.Annotations[plan.AnnotationRestore]
	}
	m := &restore.Mark{}
	if !ok || json.Unmarshal([]byte(text), m) != nil || m.UID == "" {
		return nil // nothing of ours
	}
	return m
}

// marked is the patch that writes a mark to the version of a claim that was
// observed: two write to it in turns.
func marked(claim *corev1.PersistentVolumeClaim, m restore.Mark) (map[string]any, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("mark claim %s: %w", claim.Name, err)
	}
	patch := annotate(plan.AnnotationRestore, string(text))
	patch["metadata"].(map[string]any)["resourceVersion"] = claim.ResourceVersion
	return patch, nil
}

// restoreFacts are what is known of a restore, and of the token that it changes.
func (r *Reconciler) restoreFacts(ctx context.Context, o *observation) error {
	w := &o.world
	w.Revision = o.view.Revision()
	if b := o.cluster.Spec.Bootstrap; b != nil {
		w.Spec.BootstrapRestore = b.Restore
	}
	if m := markAt(o.claims[seed]); m != nil {
		w.Restore = &plan.Restore{Name: m.Restore, Phase: m.Phase, Above: m.Above}
		at, err := fetch(ctx, r.Client, o.cluster, m.Restore, &v1alpha1.MetaStoreRestore{})
		if err != nil {
			return err
		}
		w.Restore.Orphaned = at == nil || string(at.UID) != m.UID
	}
	w.Bootstrapped = o.bootstrapped()
	if w.Spec.BootstrapRestore != "" && !w.Bootstrapped && w.Restore == nil {
		at, err := fetch(ctx, r.Client, o.cluster, w.Spec.BootstrapRestore, &v1alpha1.MetaStoreRestore{})
		if err != nil {
			return err
		}
		if at != nil && meta.IsStatusConditionTrue(at.Status.Conditions, v1alpha1.ConditionFailed) {
			w.RestoreFailed = condition(at.Status.Conditions, v1alpha1.ConditionFailed).Message
		}
	}
	token := o.token()
	for ordinal, v := range w.Volumes {
		v.OtherToken = token != "" && o.claims[ordinal].Annotations[annotationToken] != token
		w.Volumes[ordinal] = v
	}
	return nil
}

// filled says that the seed's volume holds what was restored.
func filled(m *restore.Mark) bool {
	return m != nil && (m.Phase == plan.RestoreStarting || m.Phase == plan.RestoreServing)
}

// servesRestored says that it is the restored cluster that answers.
func (o *observation) servesRestored() bool {
	return filled(markAt(o.claims[seed])) && o.world.ListKnown
}

// token is what the members' data are marked with: that of the restored data once
// they are there, else the lowest ordinal's, else what the settings say. Empty for
// volumes of a time when it was not recorded, whose cluster object is gone.
func (o *observation) token() string {
	if m := markAt(o.claims[seed]); filled(m) {
		return m.Token
	}
	for _, ordinal := range ordinals(o.claims) {
		if t := o.claims[ordinal].Annotations[annotationToken]; t != "" && o.claims[ordinal].DeletionTimestamp == nil {
			return t
		}
	}
	switch {
	case o.settings != nil:
		return writtenToken(o.settings)
	case o.world.Bootstrapped:
		return ""
	}
	return string(o.cluster.UID)
}

// writtenToken reads the token back from the settings.
func writtenToken(settings *corev1.ConfigMap) string {
	for _, text := range settings.Data {
		var file struct {
			Token string `json:"initial-cluster-token"`
		}
		if yaml.Unmarshal([]byte(text), &file) == nil {
			return file.Token // all have the same
		}
	}
	return ""
}

// answerMark tells a restore how far the cluster has come.
func (r *Reconciler) answerMark(ctx context.Context, o *observation, s plan.Step) error {
	claim := o.claims[seed]
	m := markAt(claim)
	if m == nil {
		return errMoved
	}
	m.PhaseAt = o.now
	m.Phase = plan.RestoreStopped
	if s.Action == plan.MarkServing {
		m.Phase = plan.RestoreServing
	}
	patch, err := marked(claim, *m)
	if err != nil {
		return err
	}
	return r.patchClaim(ctx, claim, patch)
}
