package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/resources"
)

// hinder notes the first reason why no attempt can be made.
func (v *backupView) hinder(input bool, reason, format string, args ...any) {
	if v.world.Hindrance == nil {
		v.world.Hindrance = &backup.Hindrance{Reason: reason, Message: fmt.Sprintf(format, args...), Input: input}
	}
}

// observeInputs looks for all that an attempt needs: a pod that waits for a
// Secret or a claim says so to nobody but a person who looks at its events.
func (r *BackupReconciler) observeInputs(ctx context.Context, v *backupView) error {
	if v.cluster == nil {
		v.hinder(true, "ClusterMissing", "MetaStoreCluster %s does not exist; make it, or name another in spec.clusterRef", v.backup.Spec.ClusterRef.Name)
	}
	if err := r.observeClaim(ctx, v); err != nil {
		return err
	}
	if err := r.observeSecrets(ctx, v); err != nil {
		return err
	}
	if v.cluster == nil || v.world.Hindrance != nil {
		return nil
	}
	if c := meta.FindStatusCondition(v.cluster.Status.Conditions, v1alpha1.ConditionAvailable); c == nil || c.Status == metav1.ConditionFalse {
		why := "it has not served yet"
		if c != nil {
			why = c.Message
		}
		v.hinder(false, "ClusterNotAvailable", "cluster %s cannot be backed up now: %s", v.cluster.Name, why)
		return nil
	}
	return r.observeMembers(ctx, v)
}

func (r *BackupReconciler) observeClaim(ctx context.Context, v *backupView) error {
	d := v.backup.Spec.Destination.PVC
	if d == nil {
		return nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: v.backup.Namespace, Name: d.ClaimName}, claim)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("get claim %s: %w", d.ClaimName, err)
	case err == nil && claim.DeletionTimestamp != nil:
		v.hinder(true, "ClaimDeleting", "PersistentVolumeClaim %s is being deleted; name another in spec.destination.pvc", d.ClaimName)
	case err == nil && claim.Status.Phase == corev1.ClaimLost:
		v.hinder(true, "ClaimLost", "PersistentVolumeClaim %s has lost its volume; name another in spec.destination.pvc", d.ClaimName)
	case err == nil:
	case d.Create != nil && !v.world.Deleting:
		v.world.ClaimMissing = true
	default:
		v.world.ClaimGone = true
		v.hinder(true, "ClaimMissing", "PersistentVolumeClaim %s does not exist; make it, name another in spec.destination.pvc, or have it made by create", d.ClaimName)
	}
	return nil
}

// wantedSecret is a Secret that the spec names, and the keys that it is to have.
type wantedSecret struct {
	field, name string
	keys        []string
}

func wantedSecrets(b *v1alpha1.MetaStoreBackup) []wantedSecret {
	var out []wantedSecret
	if s := b.Spec.Destination.ObjectStore; s != nil {
		out = append(out, wantedSecret{"spec.destination.objectStore.credentialsSecretRef", s.CredentialsSecretRef.Name,
			[]string{v1alpha1.StoreKeyAccessKeyID, v1alpha1.StoreKeySecretAccessKey}})
		if s.CASecretRef != nil {
			out = append(out, wantedSecret{"spec.destination.objectStore.caSecretRef", s.CASecretRef.Name, []string{v1alpha1.StoreKeyCA}})
		}
	}
	if e := b.Spec.Encryption; e != nil {
		keys := []string{v1alpha1.EncryptionKeyRecipients}
		if b.Spec.Verify == v1alpha1.VerifyRestoreTest {
			keys = append(keys, v1alpha1.EncryptionKeyIdentity)
		}
		out = append(out, wantedSecret{"spec.encryption.secretRef", e.SecretRef.Name, keys})
	}
	return out
}

func (r *BackupReconciler) observeSecrets(ctx context.Context, v *backupView) error {
	for _, wanted := range wantedSecrets(v.backup) {
		s, err := r.secret(ctx, v.backup.Namespace, wanted.name)
		if err != nil {
			return err
		}
		if s == nil {
			v.hinder(true, "SecretMissing", "%s names Secret %s, which does not exist; make it, or name another", wanted.field, wanted.name)
			continue
		}
		for _, key := range wanted.keys {
			if len(s.Data[key]) == 0 {
				v.hinder(true, "SecretInvalid", "Secret %s of %s has no %s; add it under that key", wanted.name, wanted.field, key)
			}
		}
	}
	return nil
}

// secret reads from the API server: no cache holds what is in it. Nil when there
// is none.
func (r *BackupReconciler) secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, s)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("get Secret %s: %w", name, err)
	case err != nil:
		return nil, nil
	}
	return s, nil
}

// observeMembers finds how the Job is to ask the members: all of them in one way,
// as the operator does.
func (r *BackupReconciler) observeMembers(ctx context.Context, v *backupView) error {
	c := v.cluster
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list, client.InNamespace(c.Namespace), client.MatchingLabels(resources.SelectorLabels(c.Name))); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var members []int
	secure := true
	for i := range list.Items {
		p := &list.Items[i]
		ordinal, ok := resources.Ordinal(c.Name, p.Name)
		if !ok || isLearner(c, p.Name) {
			continue
		}
		members = append(members, ordinal)
		secure = secure && resources.Modes(p.Annotations).Client != v1alpha1.TLSDisabled
	}
	if len(members) == 0 {
		v.hinder(false, "ClusterNotAvailable", "cluster %s cannot be backed up now: it has no pods", c.Name)
		return nil
	}
	slices.Sort(members)
	m := &v.members
	m.TLS, m.ClusterID = secure, c.Status.ClusterID
	for _, ordinal := range members {
		m.Endpoints = append(m.Endpoints, resources.ClientURL(c, ordinal, secure))
	}
	return r.observeCredentials(ctx, v)
}

func isLearner(c *v1alpha1.MetaStoreCluster, pod string) bool {
	return slices.ContainsFunc(c.Status.Members, func(m v1alpha1.MemberStatus) bool { return m.Name == pod && m.Role == v1alpha1.RoleLearner })
}

// observeCredentials finds what the Job shows to members, which is what the
// operator shows.
func (r *BackupReconciler) observeCredentials(ctx context.Context, v *backupView) error {
	c, m := v.cluster, &v.members
	if m.TLS {
		ca, err := r.secret(ctx, c.Namespace, resources.CertificatesName(c.Name))
		if err != nil {
			return err
		}
		if ca == nil || len(ca.Data[resources.EndClient.AuthorityKey()]) == 0 {
			v.hinder(false, "CertificatesMissing", "Secret %s has no certificate authority for clients yet", resources.CertificatesName(c.Name))
		}
		shown, err := r.secret(ctx, c.Namespace, resources.ClientSecretName(c.Name))
		if err != nil {
			return err
		}
		m.ClientCertificate = shown != nil && len(shown.Data[corev1.TLSCertKey]) > 0
	}
	if m.Root = c.Status.Auth != nil && c.Status.Auth.Enabled; m.Root {
		password, err := r.secret(ctx, c.Namespace, resources.CredentialsName(c.Name))
		if err != nil {
			return err
		}
		if keyOf(password, passwordKey) == "" {
			v.hinder(false, "CredentialsMissing", "members of cluster %s check users, and the operator has no password of root", c.Name)
		}
	}
	return nil
}
