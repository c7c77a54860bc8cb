package resources

import (
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	membersTLSVolume = "members"
	membersTLSDir    = "/etc/metastore/members"

	// defaultBackupDeadlineSeconds and defaultBackupBackoffLimit are those of backups whose
	// spec names none.
	defaultBackupDeadlineSeconds = int64(3600)
	defaultBackupBackoffLimit    = int32(3)
	// A deletion is tried for this long, and again this often.
	deletionDeadlineSeconds = int64(600)
	deletionBackoffLimit    = int32(6)
)

// Members is how a Job reaches the members of a cluster as a client.
type Members struct {
	// Endpoints are the client URLs of all members.
	Endpoints []string
	// TLS says that they are asked with TLS; ClientCertificate, that there is one to show.
	TLS, ClientCertificate bool
	// Root says that they check users, and are asked as root.
	Root bool
	// ClusterID is the cluster's identity in hexadecimal; empty when it is not known.
	ClusterID string
}

// Parts are what a container needs to ask members of the named cluster.
func (m Members) Parts(cluster string) JobParts {
	parts := JobParts{Args: []string{"--endpoints=" + strings.Join(m.Endpoints, ",")}}
	if m.ClusterID != "" {
		parts.Args = append(parts.Args, "--cluster-id="+m.ClusterID)
	}
	if m.Root {
		parts.Args = append(parts.Args, "--user=root")
		parts.Env = append(parts.Env, secretEnv("METASTORE_PASSWORD", CredentialsName(cluster), corev1.BasicAuthPasswordKey, false))
	}
	if m.TLS {
		parts = parts.And(m.tls(cluster))
	}
	return parts
}

func (m Members) tls(cluster string) JobParts {
	mode := int32(0o440)
	sources := []corev1.VolumeProjection{projected(CertificatesName(cluster), EndClient.AuthorityKey())}
	args := []string{"--cacert=" + membersTLSDir + "/" + EndClient.AuthorityKey()}
	if m.ClientCertificate {
		sources = append(sources, projected(ClientSecretName(cluster), corev1.TLSCertKey, corev1.TLSPrivateKeyKey))
		args = append(args, "--cert="+membersTLSDir+"/"+corev1.TLSCertKey, "--key="+membersTLSDir+"/"+corev1.TLSPrivateKeyKey)
	}
	return JobParts{
		Args: args,
		Volumes: []corev1.Volume{{Name: membersTLSVolume, VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: sources, DefaultMode: &mode},
		}}},
		Mounts: []corev1.VolumeMount{{Name: membersTLSVolume, MountPath: membersTLSDir, ReadOnly: true}},
	}
}

func projected(secret string, keys ...string) corev1.VolumeProjection {
	p := &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}
	for _, key := range keys {
		p.Items = append(p.Items, corev1.KeyToPath{Key: key, Path: key})
	}
	return corev1.VolumeProjection{Secret: p}
}

// BackupArtifact is the artifact of a backup.
func BackupArtifact(b *v1alpha1.MetaStoreBackup) string {
	return Artifact(b.Spec.Destination, b.Namespace+"/"+b.Spec.ClusterRef.Name+"/"+b.Name)
}

// TakeJobName and DeleteJobName are the Jobs that make and delete a backup's artifact.
func TakeJobName(backup string) string   { return JobName(backup, "take") }
func DeleteJobName(backup string) string { return JobName(backup, "delete") }

// TakeJob makes a backup of a cluster, within the time that is left of its deadline.
func TakeJob(b *v1alpha1.MetaStoreBackup, cluster *v1alpha1.MetaStoreCluster, image string, m Members, deadlineSeconds int64) *batchv1.Job {
	s := b.Spec.BackupSettings
	test := s.Verify == v1alpha1.VerifyRestoreTest
	options := JobParts{Args: []string{"--compression=zstd", "--verify=checksum", "--scratch=" + scratchDir}}
	if s.Compression == v1alpha1.BackupCompressionNone {
		options.Args[0] = "--compression=none"
	}
	if test {
		options.Args[1] = "--verify=restore-test"
	}
	j := backupJob(b, cluster, image)
	j.Name, j.Command = TakeJobName(b.Name), []string{"backup", "take", BackupArtifact(b)}
	j.Parts = Destination(s.Destination, "--to", false).And(m.Parts(cluster.Name), options, Encryption(s.Encryption, true, test))
	j.Resources, j.DeadlineSeconds, j.BackoffLimit = s.Resources, deadlineSeconds, defaultBackupBackoffLimit
	if s.BackoffLimit != nil {
		j.BackoffLimit = *s.BackoffLimit
	}
	return j.Object()
}

// DeleteJob deletes a backup's artifact; cluster is nil when it does not exist any more.
func DeleteJob(b *v1alpha1.MetaStoreBackup, cluster *v1alpha1.MetaStoreCluster, image string) *batchv1.Job {
	j := backupJob(b, cluster, image)
	j.Name, j.Command = DeleteJobName(b.Name), []string{"backup", "delete", BackupArtifact(b)}
	j.Parts = Destination(b.Spec.Destination, "--from", false)
	j.Resources, j.DeadlineSeconds, j.BackoffLimit = b.Spec.Resources, deletionDeadlineSeconds, deletionBackoffLimit
	return j.Object()
}

func backupJob(b *v1alpha1.MetaStoreBackup, cluster *v1alpha1.MetaStoreCluster, image string) Job {
	yes := true
	j := Job{
		Namespace: b.Namespace, Cluster: b.Spec.ClusterRef.Name, Component: ComponentBackup, Image: image,
		Owner: metav1.OwnerReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindMetaStoreBackup,
			Name: b.Name, UID: b.UID, Controller: &yes, BlockOwnerDeletion: &yes,
		},
	}
	if cluster != nil {
		j.PullPolicy, j.Pod = cluster.Spec.ImagePullPolicy, cluster.Spec.PodTemplate
	}
	return j
}

// BackupDeadlineSeconds is how long a backup may take.
func BackupDeadlineSeconds(s *v1alpha1.BackupSettings) int64 {
	if s.ActiveDeadlineSeconds != nil {
		return *s.ActiveDeadlineSeconds
	}
	return defaultBackupDeadlineSeconds
}
