package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	// ComponentMember and ComponentBackup are the values of the component's label.
	ComponentMember = "member"
	ComponentBackup = "backup"

	// resultFile is where a Job's command writes what came of it; it becomes the
	// termination message of its container.
	resultFile    = "/dev/termination-log"
	scratchDir    = "/scratch"
	scratchVolume = "scratch"
	// exitInvalid is the exit code of a command that was called wrongly: no second
	// try mends that.
	exitInvalid = int32(2)
	// jobNameLength keeps a Job's name, which its pods carry as a label, and theirs
	// within their limits.
	jobNameLength = 52
)

// Job is what the Jobs that run the server's image have in common. Its pods are
// like a member's: not as root, on a root file system that is read only.
type Job struct {
	Name, Namespace string
	// Cluster names the cluster that it is about, Component what it is for.
	Cluster, Component string
	Owner              metav1.OwnerReference
	Image              string
	PullPolicy         corev1.PullPolicy
	// Pod is what the user lays over the members' pods; nil for nothing.
	Pod *v1alpha1.PodTemplateOverlay
	// Command is what comes before the arguments of Parts, such as backup take NAME.
	Command         []string
	Parts           JobParts
	Resources       *v1alpha1.MemberResources
	BackoffLimit    int32
	DeadlineSeconds int64
}

// JobName is the name of the Job of an owner for a purpose.
func JobName(owner, purpose string) string {
	name := owner + "-" + purpose
	if len(name) <= jobNameLength {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:jobNameLength-9] + "-" + hex.EncodeToString(sum[:4])
}

// Object is the Job. A pod that was evicted does not count as a try; one that is
// not gone yet is not followed by another.
func (j Job) Object() *batchv1.Job {
	labels := Labels(j.Cluster)
	labels[labelComponent] = j.Component
	replacement := batchv1.Failed
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name: j.Name, Namespace: j.Namespace, Labels: labels, OwnerReferences: []metav1.OwnerReference{j.Owner},
		},
		Spec: batchv1.JobSpec{
			BackoffLimit:          &j.BackoffLimit,
			ActiveDeadlineSeconds: &j.DeadlineSeconds,
			PodReplacementPolicy:  &replacement,
			PodFailurePolicy:      failurePolicy(),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: merged(j.metadata().Labels, labels), Annotations: j.metadata().Annotations},
				Spec:       j.podSpec(),
			},
		},
	}
}

func failurePolicy() *batchv1.PodFailurePolicy {
	container := Container
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: &container, Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{exitInvalid},
		}},
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
		}},
	}}
}

func (j Job) metadata() v1alpha1.PodMetadata {
	if j.Pod == nil || j.Pod.Metadata == nil {
		return v1alpha1.PodMetadata{}
	}
	return *j.Pod.Metadata
}

func (j Job) podSpec() corev1.PodSpec {
	user := v1alpha1.PodSpecOverlay{}
	if j.Pod != nil && j.Pod.Spec != nil {
		user = *j.Pod.Spec
	}
	no, grace := false, terminationGraceSeconds
	scratch := corev1.Volume{Name: scratchVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	return corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		Containers:                    []corev1.Container{j.container()},
		Volumes:                       append([]corev1.Volume{scratch}, j.Parts.Volumes...),
		TerminationGracePeriodSeconds: &grace,
		SecurityContext:               podSecurity(user.SecurityContext),
		AutomountServiceAccountToken:  &no,
		EnableServiceLinks:            &no,
		NodeSelector:                  user.NodeSelector,
		Tolerations:                   user.Tolerations,
		PriorityClassName:             user.PriorityClassName,
		ServiceAccountName:            user.ServiceAccountName,
		ImagePullSecrets:              user.ImagePullSecrets,
	}
}

func (j Job) container() corev1.Container {
	args := append(append([]string(nil), j.Command...), j.Parts.Args...)
	c := corev1.Container{
		Name:                     Container,
		Image:                    j.Image,
		ImagePullPolicy:          j.PullPolicy,
		Command:                  []string{"/metastore"},
		Args:                     append(args, "--result-file="+resultFile),
		Env:                      append([]corev1.EnvVar{{Name: "TMPDIR", Value: scratchDir}}, j.Parts.Env...),
		VolumeMounts:             append([]corev1.VolumeMount{{Name: scratchVolume, MountPath: scratchDir}}, j.Parts.Mounts...),
		SecurityContext:          containerSecurity(),
		TerminationMessagePath:   resultFile,
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
	if r := j.Resources; r != nil {
		c.Resources = corev1.ResourceRequirements{Requests: r.Requests, Limits: r.Limits}
		if limit, ok := r.Limits[corev1.ResourceMemory]; ok {
			// A tenth stays for what is not Go's heap.
			c.Env = append(c.Env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit.Value()/10*9, 10)})
		}
	}
	return c
}
