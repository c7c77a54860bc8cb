package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
)

const (
	bucketName   = "backups"
	bucketUser   = "e2e"
	bucketSecret = "secret-key-of-the-specs"
	bucketRegion = "us-east-1"
)

// bucket is a bucket of a real S3 server that runs beside the specs, with TLS.
type bucket struct {
	address string
	ca      []byte
	client  *minio.Client
}

// startBucket runs the server until the spec ends, where pods reach it.
func startBucket(ctx context.Context) *bucket {
	GinkgoHelper()
	env.needsNodes()
	host := env.addressForPods(ctx)
	b := &bucket{address: freeAddress(host)}
	authority, err := pki.NewAuthority("bucket", time.Hour, time.Now())
	Expect(err).NotTo(HaveOccurred())
	made, err := pki.Issue(authority, pki.Request{
		CommonName: bucketName, Names: []string{host}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, time.Hour, time.Now())
	Expect(err).NotTo(HaveOccurred())
	b.ca = made.CA
	dir := GinkgoT().TempDir()
	cert, key, objects, sidecar := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "objects"), filepath.Join(dir, "sidecar")
	Expect(os.WriteFile(cert, made.Cert, 0o600)).To(Succeed())
	Expect(os.WriteFile(key, made.Key, 0o600)).To(Succeed())
	Expect(os.Mkdir(objects, 0o700)).To(Succeed())
	Expect(os.Mkdir(sidecar, 0o700)).To(Succeed())
	server := exec.Command(mustGetenv("S3_SERVER"), "--access", bucketUser, "--secret", bucketSecret, "--region", bucketRegion,
		"--port", b.address, "--quiet", "--cert", cert, "--key", key, "posix", "--sidecar", sidecar, objects)
	server.Stdout, server.Stderr = GinkgoWriter, GinkgoWriter
	Expect(server.Start()).To(Succeed())
	DeferCleanup(func() {
		Expect(server.Process.Kill()).To(Succeed())
		_ = server.Wait() // which says that it was killed
	})
	b.connect(ctx)
	return b
}

func (b *bucket) connect(ctx context.Context) {
	GinkgoHelper()
	pool := x509.NewCertPool()
	Expect(pool.AppendCertsFromPEM(b.ca)).To(BeTrue())
	var err error
	b.client, err = minio.New(b.address, &minio.Options{
		Creds: credentials.NewStaticV4(bucketUser, bucketSecret, ""), Secure: true, Region: bucketRegion, MaxRetries: 1,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	})
	Expect(err).NotTo(HaveOccurred())
	Eventually(func(ctx context.Context) error {
		return b.client.MakeBucket(ctx, bucketName, minio.MakeBucketOptions{})
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
}

// addressForPods is the address at which nodes, and so pods, see this process.
func (e *environment) addressForPods(ctx context.Context) string {
	GinkgoHelper()
	var nodes corev1.NodeList
	Expect(e.client.List(ctx, &nodes)).To(Succeed())
	Expect(nodes.Items).NotTo(BeEmpty())
	for _, a := range nodes.Items[0].Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		route, err := net.Dial("udp", net.JoinHostPort(a.Address, "9")) // which sends nothing
		Expect(err).NotTo(HaveOccurred())
		defer route.Close()
		return route.LocalAddr().(*net.UDPAddr).IP.String()
	}
	Fail("node " + nodes.Items[0].Name + " has no address")
	return ""
}

// names are the objects of the bucket.
func (b *bucket) names(ctx context.Context) []string {
	GinkgoHelper()
	var out []string
	for o := range b.client.ListObjects(ctx, bucketName, minio.ListObjectsOptions{Recursive: true}) {
		Expect(o.Err).NotTo(HaveOccurred())
		out = append(out, o.Key)
	}
	return out
}

// head is how an object begins, as it is stored.
func (b *bucket) head(ctx context.Context, name string) []byte {
	GinkgoHelper()
	o, err := b.client.GetObject(ctx, bucketName, name, minio.GetObjectOptions{})
	Expect(err).NotTo(HaveOccurred())
	defer o.Close()
	head := make([]byte, 64)
	_, err = io.ReadFull(o, head)
	Expect(err).NotTo(HaveOccurred())
	return head
}

// destination is the bucket for backups, with credentials of a Secret.
func (b *bucket) destination(secret string) v1alpha1.BackupDestination {
	return v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStoreDestination{
		Endpoint: "https://" + b.address, Bucket: bucketName, Prefix: "metastore", Region: bucketRegion,
		CredentialsSecretRef: v1alpha1.SecretRef{Name: secret}, CASecretRef: &v1alpha1.SecretRef{Name: "bucket-ca"},
	}}
}

// writeSecrets writes what backups in the bucket need: its authority, credentials
// that are right and some that are not, and a pair of keys that encrypt.
func (b *bucket) writeSecrets(ctx context.Context, namespace string) {
	GinkgoHelper()
	key, err := age.GenerateX25519Identity()
	Expect(err).NotTo(HaveOccurred())
	for name, data := range map[string]map[string]string{
		"bucket-ca": {v1alpha1.StoreKeyCA: string(b.ca)},
		"right":     {v1alpha1.StoreKeyAccessKeyID: bucketUser, v1alpha1.StoreKeySecretAccessKey: bucketSecret},
		"wrong":     {v1alpha1.StoreKeyAccessKeyID: bucketUser, v1alpha1.StoreKeySecretAccessKey: "another-key"},
		"keys":      {v1alpha1.EncryptionKeyRecipients: key.Recipient().String(), v1alpha1.EncryptionKeyIdentity: key.String()},
	} {
		Expect(env.client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, StringData: data})).To(Succeed())
	}
}

// expectBucket backs a cluster up into a bucket, encrypted, begins another one
// from there, and deletes the backup with what it stored. Credentials that are
// wrong are told as such.
func (c *cluster) expectBucket(ctx context.Context) {
	GinkgoHelper()
	b := startBucket(ctx)
	b.writeSecrets(ctx, c.key.Namespace)
	want, _ := keysOf(ctx, c.serviceClient(ctx), "")

	By("backing up, with credentials that are right and some that are not")
	c.backup(ctx, "in-a-bucket", func(s *v1alpha1.MetaStoreBackupSpec) {
		s.Destination, s.DeletionPolicy = b.destination("right"), v1alpha1.ArtifactDelete
		s.Encryption = &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "keys"}}
	})
	c.backup(ctx, "refused", func(s *v1alpha1.MetaStoreBackupSpec) {
		s.Destination, s.BackoffLimit = b.destination("wrong"), new(int32)
	})
	made := c.untilComplete(ctx, "in-a-bucket")
	Expect(made.Status.Manifest.Encryption).To(Equal("age"))
	Expect(made.Status.Manifest.Keys).To(BeEquivalentTo(len(want)))
	c.untilFailed(ctx, "refused", "AccessDenied")
	folder := "metastore/" + c.key.Namespace + "/" + c.key.Name + "/in-a-bucket/"
	Expect(b.names(ctx)).To(HaveLen(2))
	Expect(b.names(ctx)).To(HaveEach(HavePrefix(folder)))
	Expect(string(b.head(ctx, folder+"snapshot.db.zst.age"))).To(HavePrefix("age-encryption.org/v1"))

	By("beginning another cluster from it")
	other := createCluster(ctx, c.key.Namespace, "from-a-bucket", v1alpha1.EngineMemory, 1, func(object *v1alpha1.MetaStoreCluster) {
		object.Spec.Bootstrap = &v1alpha1.BootstrapSpec{Restore: "from-a-bucket"}
	})
	c.restore(ctx, "from-a-bucket", v1alpha1.MetaStoreRestoreSpec{
		Mode: v1alpha1.RestoreNewCluster, ClusterName: "from-a-bucket",
		Source: &v1alpha1.RestoreSource{BackupRef: &v1alpha1.BackupRef{Name: "in-a-bucket"}},
	})
	other.untilReady(ctx)
	c.untilRestored(ctx, "from-a-bucket", v1alpha1.ConditionComplete)
	got, _ := keysOf(ctx, other.serviceClient(ctx), "")
	Expect(got).To(Equal(want))

	By("deleting it")
	Expect(env.client.Delete(ctx, made)).To(Succeed())
	env.untilGone(ctx, made)
	Expect(b.names(ctx)).To(BeEmpty())
}
