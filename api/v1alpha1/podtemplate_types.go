package v1alpha1

import corev1 "k8s.io/api/core/v1"

// PodTemplateOverlay is what a user may lay over the pods that the operator
// makes. What keeps a member correct (its command, volumes, ports, what its probes
// ask) and safe (non-root, read-only root, no capabilities) is not in here.
type PodTemplateOverlay struct {
	// +optional
	Metadata *PodMetadata `json:"metadata,omitempty"`
	// +optional
	Spec *PodSpecOverlay `json:"spec,omitempty"`
	// +optional
	Probes *ProbesOverlay `json:"probes,omitempty"`
}

// ProbesOverlay is the patience of each probe.
type ProbesOverlay struct {
	// Startup fails a member that does not come up: every second, 600 times.
	//
	// +optional
	Startup *ProbeTiming `json:"startup,omitempty"`
	// Liveness fails a member that hangs: every 10 seconds, 6 times.
	//
	// +optional
	Liveness *ProbeTiming `json:"liveness,omitempty"`
	// Readiness takes a member without a quorum from the Service: every 2 seconds, 3 times.
	//
	// +optional
	Readiness *ProbeTiming `json:"readiness,omitempty"`
}

// ProbeTiming replaces what it names of a probe's timing.
type ProbeTiming struct {
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 300",messageExpression="'periodSeconds is %s; allowed is 1 to 300'.format([self])"
	PeriodSeconds *int32 `json:"periodSeconds,omitempty"`
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 300",messageExpression="'timeoutSeconds is %s; allowed is 1 to 300'.format([self])"
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`
	// FailureThreshold is how many failures in a row count.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 86400",messageExpression="'failureThreshold is %s; allowed is 1 to 86400'.format([self])"
	FailureThreshold *int32 `json:"failureThreshold,omitempty"`
}

// PodMetadata are labels and annotations added to each pod.
type PodMetadata struct {
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('metastore.io/'))",messageExpression="'podTemplate.metadata.labels has %s; labels of app.kubernetes.io/ and metastore.io/ belong to the operator'.format([self.filter(k, k.startsWith('app.kubernetes.io/') || k.startsWith('metastore.io/'))])"
	Labels map[string]string `json:"labels,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('metastore.io/'))",messageExpression="'podTemplate.metadata.annotations has %s; annotations of metastore.io/ belong to the operator'.format([self.filter(k, k.startsWith('metastore.io/'))])"
	Annotations map[string]string `json:"annotations,omitempty"`
}

// PodSpecOverlay are the fields of a pod that are the user's to choose.
type PodSpecOverlay struct {
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// +optional
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// Affinity replaces the operator's: members prefer nodes without another member.
	//
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// TopologySpreadConstraints replace the operator's: members are spread
	// over nodes and zones where possible. An empty list turns spreading off.
	//
	// +optional
	// +listType=atomic
	TopologySpreadConstraints *[]corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=253
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// +optional
	// +listType=atomic
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	// TerminationGracePeriodSeconds is the time to hand leadership over and to flush; 30 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 5 && self <= 3600",messageExpression="'podTemplate.spec.terminationGracePeriodSeconds is %s; allowed is 5 to 3600'.format([self])"
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`
	// +optional
	SecurityContext *PodSecurityOverlay `json:"securityContext,omitempty"`
}

// PodSecurityOverlay chooses identities; it cannot make a member run as root.
type PodSecurityOverlay struct {
	// RunAsUser is 65532 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 2147483647",messageExpression="'podTemplate.spec.securityContext.runAsUser is %s; allowed is 1 to 2147483647: members do not run as root'.format([self])"
	RunAsUser *int64 `json:"runAsUser,omitempty"`
	// RunAsGroup is 65532 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 2147483647",messageExpression="'podTemplate.spec.securityContext.runAsGroup is %s; allowed is 1 to 2147483647: members do not run as root'.format([self])"
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`
	// FSGroup owns the volume; 65532 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 2147483647",messageExpression="'podTemplate.spec.securityContext.fsGroup is %s; allowed is 1 to 2147483647'.format([self])"
	FSGroup *int64 `json:"fsGroup,omitempty"`
	// +optional
	// +kubebuilder:validation:Enum=OnRootMismatch;Always
	FSGroupChangePolicy *corev1.PodFSGroupChangePolicy `json:"fsGroupChangePolicy,omitempty"`
	// +optional
	SELinuxOptions *corev1.SELinuxOptions `json:"seLinuxOptions,omitempty"`
}
