package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

// expectUsers has a running cluster check users, changes root's password, and
// shrinks the cluster meanwhile: the operator's own calls are made as root.
func (c *cluster) expectUsers(ctx context.Context) {
	GinkgoHelper()
	By("users are checked")
	c.writePassword(ctx, "first")
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
		object.Spec.Auth = &v1alpha1.AuthSpec{RootCredentialsSecretRef: v1alpha1.SecretRef{Name: "root"}}
	})
	c.untilAuth(ctx)
	c.expectRefused(ctx, c.insecureClient(ctx, 0))
	first := startWriter(c.rootClient("first"), "root/")
	first.expectProgress(ctx, 10)

	By("root gets another password")
	c.writePassword(ctx, "second")
	Eventually(func(ctx context.Context) error { return c.enters(ctx, "second") }).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
	Expect(c.enters(ctx, "first")).NotTo(Succeed())
	first.checkAll(ctx, c.rootClient("second"))
	c.untilAuth(ctx)

	By("the cluster shrinks")
	c.scale(ctx, 1)
	c.untilReady(ctx)
	Expect(c.enters(ctx, "second")).To(Succeed())

	By("users are left alone")
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Auth = nil })
	Eventually(func(ctx context.Context) error {
		_, err := c.insecureClient(ctx, 0).Get(ctx, "root/")
		return err
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
	c.untilReady(ctx)
}

// writePassword writes the Secret "root".
func (c *cluster) writePassword(ctx context.Context, password string) {
	GinkgoHelper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.key.Namespace, Name: "root"}, Type: corev1.SecretTypeBasicAuth,
		Data: map[string][]byte{corev1.BasicAuthUsernameKey: []byte("root"), corev1.BasicAuthPasswordKey: []byte(password)},
	}
	err := env.client.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		err = env.client.Update(ctx, secret)
	}
	Expect(err).NotTo(HaveOccurred())
}

// untilAuth waits until users are as the spec says.
func (c *cluster) untilAuth(ctx context.Context) {
	GinkgoHelper()
	Eventually(func(g Gomega, ctx context.Context) {
		object, err := c.get(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionAuthReady)).To(BeTrue(), "conditions %+v", object.Status.Conditions)
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
}

func (c *cluster) rootConfig(password string) clientv3.Config {
	config := c.clientConfig(0, nil)
	config.Username, config.Password = "root", password
	return config
}

func (c *cluster) rootClient(password string) *clientv3.Client {
	GinkgoHelper()
	return clientOf(c.rootConfig(password))
}

// enters tries a password.
func (c *cluster) enters(ctx context.Context, password string) error {
	config := c.rootConfig(password)
	config.DialTimeout = 5 * time.Second
	etcd, err := clientv3.New(config)
	if err != nil {
		return err
	}
	defer etcd.Close()
	callCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = etcd.Get(callCtx, "root/")
	return err
}
