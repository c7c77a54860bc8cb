package resources

import (
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	// ComponentRestore is the value of the component's label of a restore's Jobs.
	ComponentRestore = "restore"

	// restoreBackoffLimit is how often a Job of a restore is tried again.
	restoreBackoffLimit = int32(1)

	// seedOrdinal is the member whose volume a restore fills.
	seedOrdinal = 0
)

// Source is what a restore reads.
type Source struct {
	Destination v1alpha1.BackupDestination
	// Name is the artifact's, or the file's, below what Destination hands to a Job.
	Name string
	// EtcdSnapshot says that it is a bare file.
	EtcdSnapshot bool
	Encryption   *v1alpha1.BackupEncryption
	// ClusterID is the cluster that it has to be of, in hexadecimal; empty for any.
	ClusterID string
}

// Filling is what is made of a source.
type Filling struct {
	// Token is the new cluster's, and PeerTLS says whether its peer URL has TLS.
	Token   string
	PeerTLS bool
	// Bump is by how much the revision is ahead; 0 keeps revision and history.
	Bump int64
}

// RestoreJobs builds the Jobs of one restore.
type RestoreJobs struct {
	Builder
	Restore         *v1alpha1.MetaStoreRestore
	DeadlineSeconds int64
}

// RestoreWord marks what a restore did at a volume.
func RestoreWord(r *v1alpha1.MetaStoreRestore) string { return string(r.UID) }

// RestoreJobName is the name of a restore's Job for a purpose.
func RestoreJobName(restore, purpose string) string { return JobName(restore, purpose) }

// Verify reads the whole source.
func (b RestoreJobs) Verify(name string, s Source) *batchv1.Job {
	return b.job(name, []string{"verify", s.Name}, s.parts())
}

// Fill makes the seed's data dir from the source. What was there stays beside it.
func (b RestoreJobs) Fill(name string, s Source, f Filling) *batchv1.Job {
	seed := PodName(b.cluster.Name, seedOrdinal)
	peer := PeerURL(b.cluster, seedOrdinal, f.PeerTLS)
	args := []string{
		"--name=" + seed, "--initial-cluster=" + seed + "=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster-token=" + f.Token, "--storage-engine=" + strings.ToLower(string(b.cluster.Spec.Engine)),
	}
	if f.Bump > 0 {
		args = append(args, "--bump-revision="+strconv.FormatInt(f.Bump, 10), "--mark-compacted")
	}
	return b.job(name, []string{"restore", s.Name}, s.parts().And(b.seed(), JobParts{Args: args}))
}

// Undo puts back what Fill left beside.
func (b RestoreJobs) Undo(name string) *batchv1.Job { return b.job(name, []string{"undo"}, b.seed()) }

// Finish deletes what Fill left beside, while the seed runs: its volume may be
// reached from its node only.
func (b RestoreJobs) Finish(name string) *batchv1.Job {
	job := b.job(name, []string{"finish"}, b.seed())
	job.Spec.Template.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname,
			LabelSelector: &metav1.LabelSelector{MatchLabels: merged(SelectorLabels(b.cluster.Name), map[string]string{
				"statefulset.kubernetes.io/pod-name": PodName(b.cluster.Name, seedOrdinal),
			})},
		}},
	}}
	return job
}

// SeedClaim is the seed's claim as the StatefulSet would make it.
func (b Builder) SeedClaim(annotations map[string]string) *corev1.PersistentVolumeClaim {
	claim := b.claim()
	claim.Name, claim.Namespace = ClaimName(b.cluster.Name, seedOrdinal), b.cluster.Namespace
	claim.Annotations = annotations
	return &claim
}

func (s Source) parts() JobParts {
	parts := Destination(s.Destination, "--from", true).And(Encryption(s.Encryption, false, true))
	if s.EtcdSnapshot {
		parts.Args = append(parts.Args, "--etcd-snapshot")
	}
	if s.ClusterID != "" {
		parts.Args = append(parts.Args, "--cluster-id="+s.ClusterID)
	}
	return parts
}

// seed is the volume of the first member, and the word that repeats nothing.
func (b RestoreJobs) seed() JobParts {
	return JobParts{
		Args: []string{"--data-dir=" + dataDir, "--once=" + RestoreWord(b.Restore)},
		Volumes: []corev1.Volume{{Name: DataVolume, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: ClaimName(b.cluster.Name, seedOrdinal)},
		}}},
		Mounts: []corev1.VolumeMount{{Name: DataVolume, MountPath: volumeDir}},
	}
}

func (b RestoreJobs) job(name string, command []string, parts JobParts) *batchv1.Job {
	yes := true
	return Job{
		Name: name, Namespace: b.Restore.Namespace, Cluster: b.cluster.Name, Component: ComponentRestore,
		Image: b.image, PullPolicy: b.cluster.Spec.ImagePullPolicy, Pod: b.cluster.Spec.PodTemplate,
		Owner: metav1.OwnerReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindMetaStoreRestore,
			Name: b.Restore.Name, UID: b.Restore.UID, Controller: &yes, BlockOwnerDeletion: &yes,
		},
		Command: append([]string{"backup"}, command...), Parts: parts, Resources: b.cluster.Spec.Resources,
		BackoffLimit: restoreBackoffLimit, DeadlineSeconds: b.DeadlineSeconds,
	}.Object()
}
