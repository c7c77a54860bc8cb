package controller

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
)

// The operator dies after every single call that changes something, and the
// result is what an operator that lives would have made of it: the same changes
// of the membership, once each and in the same order.
var _ = DescribeTable("An operator that dies after each call", func(ctx SpecContext, from int32, change func(*fixture), changes []string, calls ...string) {
	f := newFixture(ctx)
	f.create(from)
	f.passUntilReady()
	before := len(f.fake.Changes())
	change(f)
	died := f.passUntilReady()
	Expect(f.fake.Changes()[before:]).To(Equal(changes))
	Expect(f.fake.CutOff()).To(BeEmpty(), "a member could not be reached by another")
	for _, call := range calls {
		Expect(died).To(ContainElement(HavePrefix(call)), "the table promises a crash there")
	}
},
	Entry("scaling out", int32(1), func(f *fixture) { f.scale(3) },
		[]string{"add x-1", "promote x-1", "add x-2", "promote x-2"},
		"add http://x-1", "patch x-members", "patch x", "patch data-x-1", "promote", "add http://x-2", "patch data-x-2", "status"),
	Entry("scaling out to seven", int32(5), func(f *fixture) { f.scale(7) },
		[]string{"add x-5", "promote x-5", "add x-6", "promote x-6"}, "add http://x-5", "promote", "status"),
	Entry("scaling in from seven", int32(7), func(f *fixture) { f.scale(5) },
		[]string{"remove x-6", "remove x-5"}, "remove", "delete data-x-6", "status"),
	Entry("scaling in", int32(3), func(f *fixture) { f.scale(1) },
		[]string{"remove x-2", "remove x-1"},
		"remove", "patch x-members", "patch x", "delete data-x-2", "delete data-x-1", "status"),
	Entry("replacing a member", int32(3), func(f *fixture) {
		f.lose("x-1")
	},
		[]string{"remove x-1", "add x-1", "promote x-1"},
		"remove", "patch x-members", "delete data-x-1", "add http://x-1", "delete x-1", "patch data-x-1", "promote"),
	Entry("rolling a change", int32(3), func(f *fixture) {
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: ptr.To(int64(7000))}
		})
	},
		[]string{"move x-1"},
		"patch x", "delete x-2", "delete x-1", "move", "delete x-0"),
	Entry("replacing a member of a silent node", int32(3), func(f *fixture) {
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Repair = &v1alpha1.RepairSpec{LostNode: v1alpha1.LostNodeReplace}
		})
		f.silence("x-1")
	},
		[]string{"remove x-1", "add x-1", "promote x-1"},
		"remove", "patch x-members", "delete data-x-1", "delete x-1", "add http://x-1", "patch data-x-1", "promote"),
	Entry("beginning anew from the last member, which the spec allows", int32(3), func(f *fixture) {
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Repair = &v1alpha1.RepairSpec{QuorumLoss: v1alpha1.QuorumLossRecover}
		})
		f.lose("x-0", "x-1")
	},
		[]string{"force x-2", "add x-0", "promote x-0", "add x-1", "promote x-1"},
		"patch data-x-2", "patch x", "patch x-members", "delete data-x-0", "delete data-x-1", "add http://x-0", "add http://x-1", "status"),
	Entry("beginning anew from the seed, which an annotation allows", int32(3), func(f *fixture) {
		f.lose("x-1", "x-2")
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Annotations = map[string]string{v1alpha1.AnnotationRecoverQuorum: f.name}
		})
	},
		[]string{"force x-0", "add x-1", "promote x-1", "add x-2", "promote x-2"},
		"patch data-x-0", "patch x", "patch x-members", "delete data-x-1", "delete data-x-2", "status"),
	Entry("turning TLS on", int32(3), func(f *fixture) { f.edit(withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned)) },
		[]string{"move x-1", "update x-0 https", "update x-1 https", "update x-2 https", "move x-0"},
		"patch x-ca", "patch x-tls", "patch x-client-tls", "patch x-members", "patch x", "delete x-2", "update https://x-0", "status"),
	Entry("and off", int32(1), func(f *fixture) {
		f.edit(withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		f.passUntilReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.TLS = nil })
	},
		[]string{"update x-0 https", "update x-0 http"},
		"patch x-members", "patch x", "delete x-0", "update http://x-0"),
	Entry("growing volumes", int32(3), func(f *fixture) {
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Storage.Size = resource.MustParse("2Gi") })
	},
		[]string{},
		"patch data-x-0", "patch data-x-1", "patch data-x-2", "patch x-members", "delete x", "patch x"),
	Entry("moving to another storage class", int32(3), func(f *fixture) {
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Storage.StorageClassName = ptr.To("fixed") })
	},
		[]string{"remove x-2", "add x-2", "promote x-2", "remove x-1", "add x-1", "promote x-1", "move x-1", "remove x-0", "add x-0", "promote x-0"},
		"delete x", "patch x", "remove", "delete data-x-2", "delete data-x-0", "promote"),
	Entry("freeing space of history", int32(3), func(f *fixture) { f.fake.Fill(510<<20, 100<<20) },
		[]string{"compact", "defragment x-0", "defragment x-1", "defragment x-2", "disarm NOSPACE"},
		"compact", "defragment", "disarm", "status"),
	Entry("growing for data that need more than the quota", int32(3), func(f *fixture) {
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Storage.AutoGrow = &v1alpha1.AutoGrowSpec{MaxSize: resource.MustParse("4Gi")}
		})
		f.fake.Fill(510<<20, 500<<20)
	},
		[]string{"compact", "defragment x-0", "defragment x-1", "defragment x-2", "move x-1", "disarm NOSPACE"},
		"compact", "patch data-x-0", "patch data-x-1", "patch data-x-2", "delete x", "delete x-2", "delete x-1", "move", "delete x-0", "disarm"),
	Entry("replacing the member whose data differ, which leads", int32(3), func(f *fixture) { f.fake.Raise(member.Corrupt, "x-0") },
		[]string{"move x-1", "remove x-0", "disarm CORRUPT", "add x-0", "promote x-0"},
		"move", "remove", "disarm", "delete data-x-0", "promote"),
)

// awaitUnready waits until the kubelet has told of a failure; the cluster would
// pass for settled before.
func awaitUnready(f *fixture, pod string) {
	Eventually(func() bool {
		p := f.pods()[pod]
		return podFacts(&p).ExitCode != 0
	}).WithTimeout(patience).Should(BeTrue())
}
