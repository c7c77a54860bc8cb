package controller

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lose empties the volumes of pods and ends their processes, all at once, and
// waits until the kubelet has told of it.
func (f *fixture) lose(pods ...string) {
	GinkgoHelper()
	claims := f.claims()
	for _, pod := range pods {
		f.fake.Wipe(string(claims["data-"+pod].UID))
	}
	for _, pod := range pods {
		f.fake.Stop(pod)
	}
	for _, pod := range pods {
		awaitUnready(f, pod)
	}
}

// silence makes a pod one of a node that is not heard of: its process is gone,
// and nobody tells of its end when it is deleted.
func (f *fixture) silence(pod string) {
	GinkgoHelper()
	p := f.pods()[pod]
	nodes.hold(&p, true)
	f.fake.Stop(pod)
	nodeReady(f.ctx, corev1.ConditionUnknown)
	DeferCleanup(func(ctx SpecContext) { nodeReady(ctx, corev1.ConditionTrue) })
	f.unready(p)
}

// nodeReady tells of the one node what its controller would, a while ago.
func nodeReady(ctx context.Context, status corev1.ConditionStatus) {
	GinkgoHelper()
	n := &corev1.Node{}
	Expect(kube.Get(ctx, client.ObjectKey{Name: nodeName}, n)).To(Succeed())
	n.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(time.Now().Add(-time.Minute)),
	}}
	Expect(kube.Status().Update(ctx, n)).To(Succeed())
}

// bind binds the claim of a pod to a local volume of a node.
func (f *fixture) bind(pod, node string) {
	GinkgoHelper()
	f.bindClaim("data-"+pod, node)
}

func (f *fixture) bindClaim(name, node string) {
	GinkgoHelper()
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: f.namespace + "-" + name},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/disk"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	}
	Expect(kube.Create(f.ctx, pv)).To(Succeed())
	claim := &corev1.PersistentVolumeClaim{}
	Expect(kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, claim)).To(Succeed())
	base := claim.DeepCopy()
	claim.Spec.VolumeName = pv.Name
	Expect(kube.Patch(f.ctx, claim, client.MergeFrom(base))).To(Succeed())
}

// unready tells of a pod what the kubelet or the node's controller would.
func (f *fixture) unready(pod corev1.Pod) {
	GinkgoHelper()
	base := pod.DeepCopy()
	c := podCondition(&pod, corev1.PodReady)
	c.Status, c.LastTransitionTime = corev1.ConditionFalse, metav1.Now()
	Expect(kube.Status().Patch(f.ctx, &pod, client.MergeFrom(base))).To(Succeed())
}
