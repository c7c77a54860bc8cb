package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// AlarmType is the kind of an alarm, as etcd names them.
//
// +kubebuilder:validation:Enum=NOSPACE;CORRUPT
type AlarmType string

const (
	// AlarmNoSpace: the data have reached the quota, and the cluster takes no more.
	AlarmNoSpace AlarmType = "NOSPACE"
	// AlarmCorrupt: a member has other data than the others; nobody reads or writes.
	AlarmCorrupt AlarmType = "CORRUPT"
)

// AlarmStatus is an alarm that the cluster has raised.
type AlarmStatus struct {
	Type AlarmType `json:"type"`
	// MemberID is whom it names, in hexadecimal; 0 for the cluster as a whole.
	MemberID string `json:"memberID"`
	// Member is the pod of that member; empty when it has none.
	//
	// +optional
	Member string `json:"member,omitempty"`
}

// AutoGrowSpec lets volumes grow by themselves.
type AutoGrowSpec struct {
	// MaxSize is up to where they grow, by half of their size at a time: when a
	// full volume has stopped a member, and when the data have reached a quota that
	// follows the volume's size and nothing could be given back.
	MaxSize resource.Quantity `json:"maxSize"`
}
