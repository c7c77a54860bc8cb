package resources

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	// nonRoot is the user and the group that members run as unless the spec says otherwise.
	nonRoot = int64(65532)
	// terminationGraceSeconds is enough to hand leadership over and to flush.
	terminationGraceSeconds = int64(30)
	// startSeconds is how long a member may replay its log before it is
	// taken for hung.
	startSeconds = 600
	// leaveSeconds is how long a member that is being deleted goes on serving, so
	// that no Service leads a new connection to one that has stopped to listen.
	leaveSeconds = 2

	settingsVolume = "members"
)

func (b Builder) podSpec() corev1.PodSpec {
	user := v1alpha1.PodSpecOverlay{}
	if t := b.cluster.Spec.PodTemplate; t != nil && t.Spec != nil {
		user = *t.Spec
	}
	no := false
	grace := terminationGraceSeconds
	if user.TerminationGracePeriodSeconds != nil {
		grace = *user.TerminationGracePeriodSeconds
	}
	return corev1.PodSpec{
		Containers:                    []corev1.Container{b.container()},
		Volumes:                       b.volumes(),
		TerminationGracePeriodSeconds: &grace,
		SecurityContext:               podSecurity(user.SecurityContext),
		AutomountServiceAccountToken:  &no,
		// A Service named etcd would otherwise fill ETCD_* variables, which the
		// server reads.
		EnableServiceLinks:        &no,
		NodeSelector:              user.NodeSelector,
		Tolerations:               user.Tolerations,
		Affinity:                  b.affinity(user.Affinity),
		TopologySpreadConstraints: b.spread(user.TopologySpreadConstraints),
		PriorityClassName:         user.PriorityClassName,
		ServiceAccountName:        user.ServiceAccountName,
		ImagePullSecrets:          user.ImagePullSecrets,
	}
}

func (b Builder) container() corev1.Container {
	patience := v1alpha1.ProbesOverlay{}
	if t := b.cluster.Spec.PodTemplate; t != nil && t.Probes != nil {
		patience = *t.Probes
	}
	c := corev1.Container{
		Name:            Container,
		Image:           b.image,
		ImagePullPolicy: b.cluster.Spec.ImagePullPolicy,
		Command:         []string{"/metastore", "--config-file=" + settingsDir + "/" + SettingsFile("$(POD_NAME)", b.modes)},
		Env:             b.environment(),
		Ports:           b.ports(),
		VolumeMounts:    b.mounts(),
		SecurityContext: containerSecurity(),
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Sleep: &corev1.SleepAction{Seconds: leaveSeconds},
		}},
		// livez looks at the member only: a member that has lost its quorum is
		// not ready, and a restart would not give it one.
		StartupProbe:   b.probe("/livez", 1, 5, startSeconds, patience.Startup),
		LivenessProbe:  b.probe("/livez", 10, 5, 6, patience.Liveness),
		ReadinessProbe: b.probe("/readyz", 2, 3, 3, patience.Readiness),
	}
	if r := b.cluster.Spec.Resources; r != nil {
		c.Resources = corev1.ResourceRequirements{Requests: r.Requests, Limits: r.Limits}
	}
	return c
}

func (b Builder) environment() []corev1.EnvVar {
	env := []corev1.EnvVar{{
		Name:      "POD_NAME",
		ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}},
	}}
	if limit := b.tuning.GoMemLimitBytes; limit > 0 {
		env = append(env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit, 10)})
	}
	return env
}

// settingsSource mounts every member's settings, so that the pod spec is the
// same for all and does not change with the membership.
func (b Builder) settingsSource() corev1.Volume {
	return corev1.Volume{Name: settingsVolume, VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: MembersName(b.cluster.Name)}},
	}}
}

func (b Builder) probe(path string, periodSeconds, timeoutSeconds, failures int32, user *v1alpha1.ProbeTiming) *corev1.Probe {
	if user != nil {
		set(&periodSeconds, user.PeriodSeconds)
		set(&timeoutSeconds, user.TimeoutSeconds)
		set(&failures, user.FailureThreshold)
	}
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromString(b.healthPort()), Scheme: corev1.URISchemeHTTP,
		}},
		PeriodSeconds: periodSeconds, TimeoutSeconds: timeoutSeconds, FailureThreshold: failures, SuccessThreshold: 1,
	}
}

func podSecurity(user *v1alpha1.PodSecurityOverlay) *corev1.PodSecurityContext {
	yes, runAsUser, runAsGroup, fsGroup := true, nonRoot, nonRoot, nonRoot
	// A change of owner that walks a large volume at each start would hold a
	// member back for minutes.
	change := corev1.FSGroupChangeOnRootMismatch
	out := &corev1.PodSecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &runAsUser, RunAsGroup: &runAsGroup, FSGroup: &fsGroup, FSGroupChangePolicy: &change,
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if user == nil {
		return out
	}
	replace(&out.RunAsUser, user.RunAsUser)
	replace(&out.RunAsGroup, user.RunAsGroup)
	replace(&out.FSGroup, user.FSGroup)
	replace(&out.FSGroupChangePolicy, user.FSGroupChangePolicy)
	out.SELinuxOptions = user.SELinuxOptions
	return out
}

func set(to *int32, with *int32) {
	if with != nil {
		*to = *with
	}
}

func replace[T any](to **T, with *T) {
	if with != nil {
		*to = with
	}
}

func containerSecurity() *corev1.SecurityContext {
	yes, no := true, false
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no,
		ReadOnlyRootFilesystem:   &yes,
		RunAsNonRoot:             &yes,
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// affinity prefers nodes without another member. It is soft, as spread is: a
// member on a shared node beats a member that is nowhere.
func (b Builder) affinity(user *corev1.Affinity) *corev1.Affinity {
	if user != nil {
		return user
	}
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight: 100,
			PodAffinityTerm: corev1.PodAffinityTerm{
				TopologyKey:   corev1.LabelHostname,
				LabelSelector: &metav1.LabelSelector{MatchLabels: SelectorLabels(b.cluster.Name)},
			},
		}},
	}}
}

func (b Builder) spread(user *[]corev1.TopologySpreadConstraint) []corev1.TopologySpreadConstraint {
	if user != nil {
		return *user
	}
	out := make([]corev1.TopologySpreadConstraint, 0, 2)
	for _, key := range []string{corev1.LabelHostname, corev1.LabelTopologyZone} {
		out = append(out, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: SelectorLabels(b.cluster.Name)},
		})
	}
	return out
}
