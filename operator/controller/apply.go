package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/operator/resources"
)

const (
	// annotationApplied, on every applied object, is the hash of what was applied:
	// it tells a wish that has changed from what the API server added.
	annotationApplied = "metastore.io/applied-hash"
	// annotationCluster and annotationMember, on a claim, say whose data it holds.
	annotationCluster = "metastore.io/cluster-id"
	annotationMember  = "metastore.io/member-id"
	// annotationPeerTLS, beside them, is "true" where the others reach it with TLS.
	annotationPeerTLS = "metastore.io/peer-tls"
)

// stamped adds the hash of an object to it. A StatefulSet's replicas are not
// part of it, they change with every step of a change of size; neither is its
// claim template, which is never applied to one that exists.
func stamped[T client.Object](o T) T {
	hashed := o.DeepCopyObject()
	if set, ok := hashed.(*appsv1.StatefulSet); ok {
		set.Spec.Replicas, set.Spec.VolumeClaimTemplates = nil, nil
	}
	data, err := json.Marshal(hashed)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", o, err)) // typed objects always marshal
	}
	sum := sha256.Sum256(data)
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationApplied] = hex.EncodeToString(sum[:8])
	o.SetAnnotations(annotations)
	return o
}

// differs says whether a stamped object has to be applied: nothing is there, the
// wish has changed since it was applied, or somebody changed one of its fields.
// The images of a pod template do not count for the last: where a webhook
// rewrites them they would differ for ever.
func differs(wanted, live client.Object) bool {
	if live == nil || reflect.ValueOf(live).IsNil() {
		return true
	}
	if live.GetAnnotations()[annotationApplied] != wanted.GetAnnotations()[annotationApplied] {
		return true
	}
	w, l := fieldsOf(wanted), fieldsOf(live)
	l["kind"], l["apiVersion"] = w["kind"], w["apiVersion"] // objects from a cache come without
	forget(w, l)
	return !covers(l, w)
}

// forget leaves out what is compared elsewhere or not at all: a StatefulSet's
// replicas, its claim template, and the images of its containers.
func forget(wanted, live map[string]any) {
	if wanted["kind"] != "StatefulSet" {
		return
	}
	for _, fields := range []map[string]any{wanted, live} {
		unstructured.RemoveNestedField(fields, "spec", "replicas")
		unstructured.RemoveNestedField(fields, "spec", "volumeClaimTemplates")
		containers, _, _ := unstructured.NestedSlice(fields, "spec", "template", "spec", "containers")
		for _, c := range containers {
			unstructured.RemoveNestedField(c.(map[string]any), "image")
		}
		_ = unstructured.SetNestedSlice(fields, containers, "spec", "template", "spec", "containers") // they came from there
	}
}

// covers says that every field of wanted has its value in live, too. What live
// has besides is the API server's or somebody else's.
func covers(live, wanted any) bool {
	switch w := wanted.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		for k, v := range w {
			if !ok || !covers(l[k], v) {
				return false
			}
		}
		return ok || len(w) == 0
	case []any:
		l, ok := live.([]any)
		if !ok || len(l) != len(w) {
			return len(w) == 0 && len(l) == 0
		}
		for i := range w {
			if !covers(l[i], w[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(live, wanted)
}

// apply hands an object to server-side apply. With a resource version the API
// server refuses it if the object has changed since it was observed.
func (r *Reconciler) apply(ctx context.Context, o client.Object, resourceVersion string) error {
	body, err := applyBody(o, resourceVersion)
	if err != nil {
		return fmt.Errorf("marshal %s: %w", o.GetName(), err)
	}
	// The answer goes into an object of its own: what was observed stays as it is.
	into := &unstructured.Unstructured{}
	into.SetGroupVersionKind(o.GetObjectKind().GroupVersionKind())
	into.SetNamespace(o.GetNamespace())
	into.SetName(o.GetName())
	err = r.Client.Patch(ctx, into, client.RawPatch(types.ApplyPatchType, body),
		client.FieldOwner(resources.FieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", o.GetObjectKind().GroupVersionKind().Kind, o.GetName(), err)
	}
	return nil
}

// applyBody is what server-side apply gets.
func applyBody(o client.Object, resourceVersion string) ([]byte, error) {
	fields := fieldsOf(o)
	if resourceVersion != "" {
		fields["metadata"].(map[string]any)["resourceVersion"] = resourceVersion
	}
	return json.Marshal(fields)
}

// fieldsOf are an object's fields without those that typed objects always write
// and that are not the operator's to own.
func fieldsOf(o client.Object) map[string]any {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		panic(fmt.Sprintf("convert %T: %v", o, err)) // typed objects always convert
	}
	unstructured.RemoveNestedField(fields, "status")
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(fields, "spec", "template", "metadata", "creationTimestamp")
	claims, _, _ := unstructured.NestedSlice(fields, "spec", "volumeClaimTemplates")
	for _, c := range claims {
		unstructured.RemoveNestedField(c.(map[string]any), "status")
		unstructured.RemoveNestedField(c.(map[string]any), "metadata", "creationTimestamp")
	}
	if len(claims) > 0 {
		_ = unstructured.SetNestedSlice(fields, claims, "spec", "volumeClaimTemplates") // they came from there
	}
	return fields
}
