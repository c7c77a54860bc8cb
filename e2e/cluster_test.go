package e2e

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// cluster is one MetaStoreCluster under test.
type cluster struct {
	env *environment
	key client.ObjectKey
}

// createCluster applies what a user would write for a small cluster.
func createCluster(ctx context.Context, namespace, name string, engine v1alpha1.Engine, replicas int32, edits ...func(*v1alpha1.MetaStoreCluster)) *cluster {
	GinkgoHelper()
	object := &v1alpha1.MetaStoreCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MetaStoreClusterSpec{
			Replicas: replicas, Engine: engine, Image: env.serverImage, ImagePullPolicy: corev1.PullIfNotPresent,
			Storage: v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")},
			Resources: &v1alpha1.MemberResources{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
			},
		},
	}
	for _, edit := range edits {
		edit(object)
	}
	Expect(env.client.Create(ctx, object)).To(Succeed())
	return &cluster{env: env, key: client.ObjectKeyFromObject(object)}
}

func (c *cluster) get(ctx context.Context) (*v1alpha1.MetaStoreCluster, error) {
	object := &v1alpha1.MetaStoreCluster{}
	return object, c.env.client.Get(ctx, c.key, object)
}

// scale changes spec.replicas as `kubectl scale` does.
func (c *cluster) scale(ctx context.Context, replicas int32) {
	GinkgoHelper()
	_, err := c.env.kube(ctx, "", "-n", c.key.Namespace, "scale", "metastorecluster/"+c.key.Name, fmt.Sprintf("--replicas=%d", replicas))
	Expect(err).NotTo(HaveOccurred())
}

// untilReady waits until the operator has seen the newest spec, reports Ready,
// and its word agrees with the pods: as many as asked for, each ready.
func (c *cluster) untilReady(ctx context.Context) *v1alpha1.MetaStoreCluster {
	GinkgoHelper()
	var object *v1alpha1.MetaStoreCluster
	Eventually(func(g Gomega, ctx context.Context) {
		var err error
		object, err = c.get(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(object.Status.ObservedGeneration).To(Equal(object.Generation), "the operator has not seen the newest spec")
		g.Expect(meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue(),
			"conditions %+v, operation %+v", object.Status.Conditions, object.Status.Operation)
		g.Expect(object.Status.ReadyReplicas).To(Equal(object.Spec.Replicas))
		g.Expect(object.Status.Members).To(HaveLen(int(object.Spec.Replicas)))
		pods, err := c.pods(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(pods).To(HaveLen(int(object.Spec.Replicas)))
		for _, pod := range pods {
			g.Expect(podReady(pod)).To(BeTrue(), "pod %s is not ready", pod.Name)
		}
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
	return object
}

// pods returns the cluster's pods by ordinal.
func (c *cluster) pods(ctx context.Context) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := c.env.client.List(ctx, &list, client.InNamespace(c.key.Namespace)); err != nil {
		return nil, err
	}
	byName := map[string]corev1.Pod{}
	for _, pod := range list.Items {
		byName[pod.Name] = pod
	}
	var pods []corev1.Pod
	for ordinal := 0; len(byName) > 0; ordinal++ {
		pod, ok := byName[c.podName(ordinal)]
		if !ok {
			break
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

func (c *cluster) podName(ordinal int) string { return fmt.Sprintf("%s-%d", c.key.Name, ordinal) }

// pod returns the pod of one ordinal; it fails the spec when there is none.
func (c *cluster) pod(ctx context.Context, ordinal int) corev1.Pod {
	GinkgoHelper()
	var pod corev1.Pod
	Expect(c.env.client.Get(ctx, client.ObjectKey{Namespace: c.key.Namespace, Name: c.podName(ordinal)}, &pod)).To(Succeed())
	return pod
}

// replacePod deletes a pod and waits until another one, of the same name, is ready.
func (c *cluster) replacePod(ctx context.Context, ordinal int) {
	GinkgoHelper()
	old := c.pod(ctx, ordinal)
	Expect(c.env.client.Delete(ctx, &old)).To(Succeed())
	Eventually(func(g Gomega, ctx context.Context) {
		var pod corev1.Pod
		g.Expect(c.env.client.Get(ctx, client.ObjectKeyFromObject(&old), &pod)).To(Succeed())
		g.Expect(pod.UID).NotTo(Equal(old.UID), "the deleted pod is still there")
		g.Expect(podReady(pod)).To(BeTrue(), "the new pod is not ready")
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
}

func podReady(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil
		}
	}
	return false
}
