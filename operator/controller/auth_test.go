package controller

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

func (c countedMembers) EnableAuth(ctx context.Context, e []string, password string) error {
	return c.n.count("enable", "auth", c.n.members.EnableAuth(ctx, e, password))
}

func (c countedMembers) DisableAuth(ctx context.Context, e []string) error {
	return c.n.count("disable", "auth", c.n.members.DisableAuth(ctx, e))
}

func (c countedMembers) ChangePassword(ctx context.Context, e []string, password string) error {
	return c.n.count("change", "password", c.n.members.ChangePassword(ctx, e, password))
}

func withAuth(c *v1alpha1.MetaStoreCluster) {
	c.Spec.Auth = &v1alpha1.AuthSpec{RootCredentialsSecretRef: v1alpha1.SecretRef{Name: "root"}}
}

// writePassword writes the Secret that withAuth names.
func (f *fixture) writePassword(password string) {
	GinkgoHelper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "root"}}
	if password != "" {
		s.Data = map[string][]byte{"password": []byte(password)}
	}
	err := kube.Create(f.ctx, s)
	if err != nil {
		Expect(client.IgnoreAlreadyExists(err)).To(Succeed())
		err = kube.Update(f.ctx, s)
	}
	Expect(err).NotTo(HaveOccurred())
}

// expectUsers waits until members check users with this password and the cluster
// is Ready; an empty one stands for no users.
func (f *fixture) expectUsers(password string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		enabled, now := f.fake.Users()
		g.Expect(enabled).To(Equal(password != ""))
		g.Expect(f.settled(f.cluster())).To(BeEmpty())
		if password == "" {
			g.Expect(f.condition(v1alpha1.ConditionAuthReady)).To(BeEmpty())
			return
		}
		g.Expect(now).To(Equal(password))
		g.Expect(f.condition(v1alpha1.ConditionAuthReady)).To(HavePrefix("True UsersChecked"))
	}).WithTimeout(patience).Should(Succeed(), func() string {
		return f.condition("Ready") + "\n" + f.condition("AuthReady")
	})
}

var _ = Describe("Users", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) { f = newFixture(ctx) })
	stalled := func() string { return f.condition(v1alpha1.ConditionStalled) }

	It("are checked from the start, get another password, and are left alone again", func(ctx SpecContext) {
		f.ctx = ctx
		stop := f.startOperator()
		f.create(3, withAuth)
		Eventually(stalled).WithTimeout(patience).Should(
			Equal("True CredentialsMissing: spec.auth.rootCredentialsSecretRef names Secret root, which does not exist; make it, or name another"))
		Expect(f.pods()).To(BeEmpty(), "a cluster that is to check users was begun open")
		f.writePassword("")
		Eventually(stalled).WithTimeout(patience).Should(ContainSubstring("has no password; add one under the key password"))
		f.writePassword("first")
		f.awaitReady()
		f.expectUsers("first")
		f.writePassword("second")
		f.expectUsers("second")
		Expect(f.secret("x-auth").Data).To(Equal(map[string][]byte{"password": []byte("second")}))

		By("a Secret that is gone: the operator goes on with the password that it kept")
		Expect(kube.Delete(ctx, f.secret("root"))).To(Succeed())
		Eventually(stalled).WithTimeout(patience).Should(ContainSubstring("does not exist"))
		Expect(f.condition(v1alpha1.ConditionAvailable)).To(HavePrefix("True"))
		f.scale(1)
		Eventually(func() int { return len(f.pods()) }).WithTimeout(patience).Should(Equal(1))
		f.writePassword("third")
		f.expectUsers("third")
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Auth = nil })
		f.expectUsers("")
		Expect(f.secret("x-auth").Data).To(BeEmpty())
		stop()
		f.expectNothingWritten()
	})

	It("of somebody else's are left as they are, and their password lets the operator in", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		f.fake.SetUsers(true, "theirs")
		Eventually(stalled).WithTimeout(patience).Should(HavePrefix("True CredentialsRefused: members check users, and the operator has no password of root"))
		Expect(f.condition(v1alpha1.ConditionAvailable)).To(HavePrefix("Unknown"))
		f.writePassword("wrong")
		f.edit(withAuth)
		Eventually(stalled).WithTimeout(patience).Should(HavePrefix("True CredentialsRefused: members do not accept the password of Secret root"))
		Expect(f.condition(v1alpha1.ConditionAuthReady)).To(HavePrefix("False CredentialsRefused"))
		f.writePassword("theirs")
		f.expectUsers("theirs")
		Expect(f.fake.Changes()).NotTo(ContainElement("change password"))
	})
})

var _ = DescribeTable("An operator that dies after each call about users", func(ctx SpecContext, change func(*fixture), changes []string, calls ...string) {
	f := newFixture(ctx)
	f.writePassword("first")
	f.create(1)
	f.passUntilReady()
	before := len(f.fake.Changes())
	f.edit(withAuth)
	died := f.passUntilReady()
	change(f)
	died = append(died, f.passUntilReady()...)
	Expect(f.fake.Changes()[before:]).To(Equal(changes))
	for _, call := range calls {
		Expect(died).To(ContainElement(HavePrefix(call)), "the table promises a crash there")
	}
},
	Entry("turning them on and changing the password", func(f *fixture) { f.writePassword("second") },
		[]string{"enable auth", "change password"}, "patch x-auth", "enable", "change", "status"),
	Entry("turning them off", func(f *fixture) {
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Auth = nil })
	}, []string{"enable auth", "disable auth"}, "disable"),
)
