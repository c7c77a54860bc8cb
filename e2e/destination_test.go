package e2e

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"metastore.io/metastore/api/v1alpha1"
)

// smallVolume is a file system of a few kilobytes on one node, and a claim for it.
type smallVolume struct{ node, folder string }

// expectBadDestinations backs a cluster up onto a volume that is too small for it
// and onto one that takes nothing. What was there stays as it was. Once the failed
// backups are deleted nothing holds the claims.
func (c *cluster) expectBadDestinations(ctx context.Context) {
	GinkgoHelper()
	env.needsNodes()
	full, readOnly := env.smallVolume(ctx, c.key.Namespace, "full"), env.smallVolume(ctx, c.key.Namespace, "read-only")
	readOnly.sh(ctx, "mount -o remount,ro "+readOnly.folder)
	on := func(claim string, retries int32) func(*v1alpha1.MetaStoreBackupSpec) {
		return func(s *v1alpha1.MetaStoreBackupSpec) {
			s.Destination = v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: claim}}
			s.BackoffLimit, s.Compression = ptr.To(retries), v1alpha1.BackupCompressionNone
		}
	}
	c.backup(ctx, "full", on("full", 0))
	c.backup(ctx, "read-only", on("read-only", 3)) // which no second try mends
	c.untilFailed(ctx, "full", "DestinationFull")
	c.untilFailed(ctx, "read-only", "DestinationReadOnly")
	Eventually(c.jobPods).WithContext(ctx).WithArguments("read-only-take").WithTimeout(progressTimeout).Should(BeEmpty(), "it is tried again")
	for _, v := range []smallVolume{full, readOnly} {
		Expect(v.sh(ctx, "cd "+v.folder+"; find . -type f -exec cat {} +")).To(Equal("kept"), "what is on %s", v.folder)
	}

	By("deleting claims and backups")
	for _, name := range []string{"full", "read-only"} {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.key.Namespace, Name: name}}
		Expect(env.client.Delete(ctx, claim)).To(Succeed())
		b := &v1alpha1.MetaStoreBackup{ObjectMeta: metav1.ObjectMeta{Namespace: c.key.Namespace, Name: name}}
		Expect(env.client.Delete(ctx, b)).To(Succeed())
		env.untilGone(ctx, claim)
	}
}

// smallVolume makes a file system that holds the file "kept".
func (e *environment) smallVolume(ctx context.Context, namespace, name string) smallVolume {
	GinkgoHelper()
	v := smallVolume{node: e.someNode(ctx), folder: "/run/" + namespace + "-" + name}
	v.sh(ctx, fmt.Sprintf("mkdir %[1]s; mount -t tmpfs -o size=24k,mode=0777 tmpfs %[1]s; printf kept >%[1]s/kept", v.folder))
	DeferCleanup(func(ctx context.Context) { v.sh(ctx, fmt.Sprintf("umount %[1]s; rmdir %[1]s", v.folder)) })
	modes, size := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("24Ki")}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: namespace + "-" + name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: v.folder}},
			ClaimRef:               &corev1.ObjectReference{Namespace: namespace, Name: name},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{v.node}}},
			}}}},
		},
	}
	Expect(e.client.Create(ctx, volume)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(e.client.Delete(ctx, volume)).To(Succeed()) })
	Expect(e.client.Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: modes, StorageClassName: ptr.To(""), VolumeName: volume.Name, Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	})).To(Succeed())
	return v
}

// sh runs a shell command on the volume's node.
func (v smallVolume) sh(ctx context.Context, command string) string {
	GinkgoHelper()
	return env.onNode(ctx, v.node, command)
}
