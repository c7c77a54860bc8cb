package resources

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	// backupDir is where a Job has the volume of a PVCDestination.
	backupDir    = "/backup"
	backupVolume = "backup"
	storeCADir   = "/etc/metastore/store"
	encryptDir   = "/etc/metastore/age"
	encryptName  = "age"
)

// JobParts are what a container of a Job needs for one purpose.
type JobParts struct {
	Args    []string
	Env     []corev1.EnvVar
	Volumes []corev1.Volume
	Mounts  []corev1.VolumeMount
}

// And adds other parts.
func (p JobParts) And(others ...JobParts) JobParts {
	for _, o := range others {
		p.Args, p.Env = append(p.Args, o.Args...), append(p.Env, o.Env...)
		p.Volumes, p.Mounts = append(p.Volumes, o.Volumes...), append(p.Mounts, o.Mounts...)
	}
	return p
}

// Destination is how a Job reaches a destination: --to or --from, as flag says.
func Destination(d v1alpha1.BackupDestination, flag string, readOnly bool) JobParts {
	if d.PVC != nil {
		return JobParts{
			Args: []string{flag + "=" + backupDir},
			Volumes: []corev1.Volume{{Name: backupVolume, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: d.PVC.ClaimName, ReadOnly: readOnly},
			}}},
			Mounts: []corev1.VolumeMount{{Name: backupVolume, MountPath: backupDir, ReadOnly: readOnly}},
		}
	}
	s := d.ObjectStore
	if s == nil {
		return JobParts{}
	}
	parts := JobParts{
		Args: []string{flag + "=" + bucketURL(s), "--s3-endpoint=" + s.Endpoint},
		Env: []corev1.EnvVar{
			secretEnv("AWS_ACCESS_KEY_ID", s.CredentialsSecretRef.Name, v1alpha1.StoreKeyAccessKeyID, false),
			secretEnv("AWS_SECRET_ACCESS_KEY", s.CredentialsSecretRef.Name, v1alpha1.StoreKeySecretAccessKey, false),
			secretEnv("AWS_SESSION_TOKEN", s.CredentialsSecretRef.Name, v1alpha1.StoreKeySessionToken, true),
		},
	}
	if s.Region != "" {
		parts.Args = append(parts.Args, "--s3-region="+s.Region)
	}
	if s.CASecretRef != nil {
		ca := secretParts("store-ca", s.CASecretRef.Name, storeCADir)
		ca.Args = []string{"--s3-ca-file=" + storeCADir + "/" + v1alpha1.StoreKeyCA}
		parts = parts.And(ca)
	}
	return parts
}

// Artifact is the name, below a destination as Destination hands it to a Job, of
// what is called name there.
func Artifact(d v1alpha1.BackupDestination, name string) string {
	if d.PVC != nil {
		return path.Join(d.PVC.SubPath, name)
	}
	return name
}

// Location says where an artifact is, for people.
func Location(d v1alpha1.BackupDestination, artifact string) string {
	switch {
	case d.PVC != nil:
		return "pvc://" + d.PVC.ClaimName + "/" + artifact
	case d.ObjectStore != nil:
		return bucketURL(d.ObjectStore) + "/" + artifact
	}
	return artifact
}

func bucketURL(s *v1alpha1.ObjectStoreDestination) string {
	return "s3://" + path.Join(s.Bucket, s.Prefix)
}

// Encryption is how a Job encrypts, and decrypts.
func Encryption(e *v1alpha1.BackupEncryption, encrypt, decrypt bool) JobParts {
	if e == nil || !encrypt && !decrypt {
		return JobParts{}
	}
	parts := secretParts(encryptName, e.SecretRef.Name, encryptDir)
	if encrypt {
		parts.Args = append(parts.Args, "--age-recipients-file="+encryptDir+"/"+v1alpha1.EncryptionKeyRecipients)
	}
	if decrypt {
		parts.Args = append(parts.Args, "--age-identity-file="+encryptDir+"/"+v1alpha1.EncryptionKeyIdentity)
	}
	return parts
}

// DestinationClaim is the claim that a destination asks to be made. Nobody owns
// it: backups outlive what they are of.
func DestinationClaim(namespace string, d *v1alpha1.PVCDestination) *corev1.PersistentVolumeClaim {
	mode := corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: d.ClaimName, Namespace: namespace, Labels: map[string]string{
			labelComponent: "backups", labelManagedBy: FieldManager, labelPartOf: "metastore",
		}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode:       &mode,
			StorageClassName: d.Create.StorageClassName,
			Resources: corev1.VolumeResourceRequirements{
				Requests: map[corev1.ResourceName]resource.Quantity{corev1.ResourceStorage: d.Create.Size},
			},
		},
	}
}

func secretEnv(name, secret, key string, optional bool) corev1.EnvVar {
	selector := &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key}
	if optional {
		selector.Optional = &optional
	}
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: selector}}
}

// secretParts mounts a whole Secret.
func secretParts(volume, secret, dir string) JobParts {
	mode := int32(0o440)
	return JobParts{
		Volumes: []corev1.Volume{{Name: volume, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: &mode},
		}}},
		Mounts: []corev1.VolumeMount{{Name: volume, MountPath: dir, ReadOnly: true}},
	}
}
