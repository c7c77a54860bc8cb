package e2e

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// expectUndone restores a cluster in place where no restored member can start, and
// gives up before the operator does. The cluster has to be what it was.
func (c *cluster) expectUndone(ctx context.Context, node string, source *v1alpha1.RestoreSource) {
	GinkgoHelper()
	env.needsNodes()
	before, ids := c.untilReady(ctx), c.memberIDs(ctx)
	want, revision := keysOf(ctx, c.serviceClient(ctx), "")
	volume := env.folderOf(ctx, c.key.Namespace, "data-"+c.podName(0))
	files := env.onNode(ctx, node, "ls "+volume)

	allow := env.refuseMembers(ctx, c.key.Namespace)
	c.restore(ctx, "undone", v1alpha1.MetaStoreRestoreSpec{
		Mode: v1alpha1.RestoreInPlace, ClusterName: c.key.Name, ConfirmClusterName: c.key.Name, Source: source,
		AllowForeignCluster: ptr.To(true), RevisionBump: ptr.To(3 * restoreBump),
	})
	r := &v1alpha1.MetaStoreRestore{}
	Eventually(func(g Gomega, ctx context.Context) {
		g.Expect(env.client.Get(ctx, client.ObjectKey{Namespace: c.key.Namespace, Name: "undone"}, r)).To(Succeed())
		g.Expect(r.Status.Steps).To(ContainElement(HaveField("Name", v1alpha1.RestoreStepStart)), "%+v", r.Status)
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
	Expect(env.onNode(ctx, node, "ls "+volume)).NotTo(Equal(files), "nothing lies beside what was restored")
	Expect(env.client.Delete(ctx, r)).To(Succeed())
	env.untilGone(ctx, r)
	allow(ctx)

	after := c.untilReady(ctx)
	Expect(after.Status.ClusterID).To(Equal(before.Status.ClusterID))
	Expect(c.memberIDs(ctx)).To(Equal(ids))
	got, back := keysOf(ctx, c.serviceClient(ctx), "")
	Expect(got).To(Equal(want))
	Expect(back).To(Equal(revision))
	Expect(env.onNode(ctx, node, "ls "+volume)).To(Equal(files))
	c.expectSameData(ctx, len(ids))
}

// refuseMembers has the API server refuse new members' pods until allow.
func (e *environment) refuseMembers(ctx context.Context, namespace string) (allow func(context.Context)) {
	GinkgoHelper()
	const refusal = "no member starts here for now"
	policy := fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations:
  - expression: "!has(object.metadata.labels) || !('app.kubernetes.io/component' in object.metadata.labels) || object.metadata.labels['app.kubernetes.io/component'] != 'member'"
    message: %[2]s
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s, validationActions: [Deny]}
`, namespace, refusal)
	_, err := e.kube(ctx, policy, "apply", "-f", "-")
	Expect(err).NotTo(HaveOccurred())
	allow = func(ctx context.Context) {
		_, err := e.kube(ctx, policy, "delete", "--ignore-not-found", "-f", "-")
		Expect(err).NotTo(HaveOccurred())
	}
	DeferCleanup(allow)
	Eventually(func(ctx context.Context) error {
		return e.client.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "probe", Labels: map[string]string{"app.kubernetes.io/component": "member"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "probe", Image: e.serverImage}}},
		}, client.DryRunAll)
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(MatchError(ContainSubstring(refusal)))
	return allow
}

// expectForced takes the data of two members of three, and lets a MetaStoreRestore
// begin the cluster anew from the third.
func (c *cluster) expectForced(ctx context.Context) {
	GinkgoHelper()
	env.needsNodes()
	before := c.memberIDs(ctx)
	want, _ := keysOf(ctx, c.serviceClient(ctx), "")
	for _, ordinal := range []int{0, 2} {
		c.harm(ctx, ordinal, wipe)
		pod := c.pod(ctx, ordinal)
		Expect(env.client.Delete(ctx, &pod, client.GracePeriodSeconds(0))).To(Succeed())
	}
	Eventually(func(g Gomega, ctx context.Context) {
		object, err := c.get(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(meta.IsStatusConditionFalse(object.Status.Conditions, v1alpha1.ConditionAvailable)).To(BeTrue(), "%+v", object.Status.Conditions)
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
	c.restore(ctx, "anew", v1alpha1.MetaStoreRestoreSpec{
		Mode: v1alpha1.RestoreForceNewCluster, ClusterName: c.key.Name, ConfirmClusterName: c.key.Name,
	})
	c.untilRestored(ctx, "anew", v1alpha1.ConditionComplete)
	c.untilReplaced(ctx, before, 0, 2)
	object, err := c.get(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(object.Status.Recovery).To(HaveValue(HaveField("Survivor", c.podName(1))))
	got, _ := keysOf(ctx, c.serviceClient(ctx), "")
	Expect(got).To(Equal(want))
	c.expectSameData(ctx, len(before))
}

// expectUpdateBackup gives a cluster the same image under another name, and wants a
// backup that was complete before any pod had it.
func (c *cluster) expectUpdateBackup(ctx context.Context, destination v1alpha1.BackupDestination) {
	GinkgoHelper()
	env.needsNodes()
	image := env.serverImage + "-again"
	env.onNode(ctx, c.pod(ctx, 0).Spec.NodeName, fmt.Sprintf("ctr -n k8s.io images tag --force %s %s", env.serverImage, image))
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
		object.Spec.Image = image
		object.Spec.Update = &v1alpha1.UpdateSpec{PreUpdateBackup: &v1alpha1.BackupSettings{Destination: destination}}
	})
	c.untilReady(ctx)
	list := &v1alpha1.MetaStoreBackupList{}
	Expect(env.client.List(ctx, list, client.InNamespace(c.key.Namespace), client.HasLabels{v1alpha1.LabelPurpose})).To(Succeed())
	Expect(list.Items).To(HaveLen(1))
	b, pod := list.Items[0], c.pod(ctx, 0)
	Expect(b.Spec.ClusterRef.Name).To(Equal(c.key.Name))
	Expect(meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionComplete)).To(BeTrue(), "%+v", b.Status.Conditions)
	Expect(pod.Spec.Containers[0].Image).To(Equal(image))
	Expect(pod.CreationTimestamp.Time).NotTo(BeTemporally("<", b.Status.CompletedAt.Time), "the pod had the image before the backup was complete")
}
