package resources

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ClientService leads clients to the ready members.
func (b Builder) ClientService() *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: b.meta(ClientServiceName(b.cluster.Name)),
		Spec: corev1.ServiceSpec{
			Selector: SelectorLabels(b.cluster.Name),
			Ports:    []corev1.ServicePort{servicePort("client", ClientPort)},
		},
	}
}

// PeerService gives each member its name. It publishes members that are not
// ready: they need each other to become so.
func (b Builder) PeerService() *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: b.meta(PeerServiceName(b.cluster.Name)),
		Spec: corev1.ServiceSpec{
			ClusterIP:                corev1.ClusterIPNone,
			PublishNotReadyAddresses: true,
			Selector:                 SelectorLabels(b.cluster.Name),
			Ports:                    []corev1.ServicePort{servicePort("client", ClientPort), servicePort("peer", PeerPort)},
		},
	}
}

func servicePort(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, TargetPort: intstr.FromString(name), Protocol: corev1.ProtocolTCP}
}

// PodDisruptionBudget lets evictions take as many members as the present number
// of voters can lose and keep its quorum. While the cluster grows that is fewer
// than the spec's, and with two voters it is none for the moment.
//
// A single voter can lose none either, and yet its budget is 1: an eviction that
// nothing can ever allow blocks the drain of its node for good, and the member
// comes back elsewhere with its volume.
func (b Builder) PodDisruptionBudget(voters int) *policyv1.PodDisruptionBudget {
	most := intstr.FromInt32(int32(max(voters-1, 0) / 2))
	if voters <= 1 {
		most = intstr.FromInt32(1)
	}
	policy := policyv1.IfHealthyBudget
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: b.meta(BudgetName(b.cluster.Name)),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             &most,
			Selector:                   &metav1.LabelSelector{MatchLabels: SelectorLabels(b.cluster.Name)},
			UnhealthyPodEvictionPolicy: &policy,
		},
	}
}
