package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/resources"
	"metastore.io/metastore/operator/restore"
)

// observeSource finds what is restored, and what of it is missing.
func (r *RestoreReconciler) observeSource(ctx context.Context, o *restoreObservation) error {
	s := &o.restore.Spec
	if s.Source == nil {
		return nil
	}
	o.source.Encryption = s.Encryption
	switch from := s.Source; {
	case from.BackupRef != nil:
		if err := r.sourceOfBackup(ctx, o, from.BackupRef.Name); err != nil || o.world.Missing != nil {
			return err
		}
	case from.Artifact != nil:
		o.source.Destination = from.Artifact.Destination
		o.source.Name = resources.Artifact(from.Artifact.Destination, from.Artifact.Name)
	case from.EtcdSnapshot != nil:
		o.source.Destination, o.source.EtcdSnapshot = from.EtcdSnapshot.Destination, true
		o.source.Name = resources.Artifact(from.EtcdSnapshot.Destination, from.EtcdSnapshot.File)
	}
	if s.Mode == v1alpha1.RestoreInPlace && !ptr.Deref(s.AllowForeignCluster, false) && !o.source.EtcdSnapshot && o.cluster != nil {
		o.source.ClusterID = o.cluster.Status.ClusterID
	}
	return r.missing(ctx, o)
}

func (r *RestoreReconciler) sourceOfBackup(ctx context.Context, o *restoreObservation, name string) error {
	b, err := fetch(ctx, r.Live, o.restore, name, &v1alpha1.MetaStoreBackup{})
	switch {
	case err != nil:
		return err
	case b == nil:
		o.world.Missing = &restore.Failure{Reason: "BackupMissing", Message: fmt.Sprintf("MetaStoreBackup %s does not exist", name)}
		return nil
	}
	if c := condition(b.Status.Conditions, v1alpha1.ConditionFailed); c != nil && c.Status == "True" {
		o.world.Missing = &restore.Failure{Reason: "BackupFailed", Message: fmt.Sprintf("MetaStoreBackup %s has failed, there is no artifact; make a restore of another one", name)}
		return nil
	}
	if !meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionComplete) {
		o.world.Missing = &restore.Failure{Reason: "BackupIncomplete", Message: fmt.Sprintf("MetaStoreBackup %s is not Complete yet", name)}
		return nil
	}
	o.source.Destination, o.source.Name = b.Spec.Destination, resources.BackupArtifact(b)
	if o.source.Encryption == nil {
		o.source.Encryption = b.Spec.Encryption
	}
	return nil
}

// missing looks for the claim and the Secrets that a Job would wait for without a
// word.
func (r *RestoreReconciler) missing(ctx context.Context, o *restoreObservation) error {
	if p := o.source.Destination.PVC; p != nil {
		claim, err := fetch(ctx, r.Live, o.restore, p.ClaimName, &corev1.PersistentVolumeClaim{})
		if err != nil {
			return err
		}
		if claim == nil {
			o.world.Missing = &restore.Failure{Reason: "ClaimMissing", Message: fmt.Sprintf("the PersistentVolumeClaim %s does not exist", p.ClaimName)}
			return nil
		}
		if err := r.apart(ctx, o, claim); err != nil || o.world.Missing != nil {
			return err
		}
	}
	var needs []secretKeys
	if s := o.source.Destination.ObjectStore; s != nil {
		needs = append(needs, secretKeys{s.CredentialsSecretRef.Name, []string{v1alpha1.StoreKeyAccessKeyID, v1alpha1.StoreKeySecretAccessKey}})
		if s.CASecretRef != nil {
			needs = append(needs, secretKeys{s.CASecretRef.Name, []string{v1alpha1.StoreKeyCA}})
		}
	}
	if e := o.source.Encryption; e != nil {
		needs = append(needs, secretKeys{e.SecretRef.Name, []string{v1alpha1.EncryptionKeyIdentity}})
	}
	for _, need := range needs {
		if err := r.missingKeys(ctx, o, need); err != nil || o.world.Missing != nil {
			return err
		}
	}
	return nil
}

type secretKeys struct {
	name string
	keys []string
}

func (r *RestoreReconciler) missingKeys(ctx context.Context, o *restoreObservation, need secretKeys) error {
	s, err := fetch(ctx, r.Live, o.restore, need.name, &corev1.Secret{})
	if err != nil {
		return err
	}
	for _, key := range need.keys {
		if keyOf(s, key) == "" {
			o.world.Missing = &restore.Failure{Reason: "SecretMissing", Message: fmt.Sprintf("Secret %s with the key %s does not exist", need.name, key)}
			return nil
		}
	}
	return nil
}
