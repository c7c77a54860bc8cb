package resources

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

func backupOf(cluster, name string, settings v1alpha1.BackupSettings) *v1alpha1.MetaStoreBackup {
	return &v1alpha1.MetaStoreBackup{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "apps", UID: "5d0a7c1e-0000-4000-8000-000000000002"},
		Spec:       v1alpha1.MetaStoreBackupSpec{ClusterRef: v1alpha1.ClusterRef{Name: cluster}, BackupSettings: settings},
	}
}

func toVolume() v1alpha1.BackupDestination {
	return v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{
		ClaimName: "backups", SubPath: "store/daily", Create: &v1alpha1.CreatedClaim{Size: resource.MustParse("5Gi"), StorageClassName: ptr("slow")},
	}}
}

func toBucket() v1alpha1.BackupDestination {
	return v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStoreDestination{
		Endpoint: "https://s3.example.org:9000", Bucket: "backups", Prefix: "store", Region: "eu-1",
		CredentialsSecretRef: v1alpha1.SecretRef{Name: "store"}, CASecretRef: &v1alpha1.SecretRef{Name: "store-ca"},
	}}
}

func TestGoldenBackup(t *testing.T) {
	const image = "registry.test/metastore:1"
	plain := backupOf("one", "plain", v1alpha1.BackupSettings{Destination: v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: "backups"}}})
	encrypted := backupOf("full", "encrypted", v1alpha1.BackupSettings{
		Destination: toVolume(), Compression: v1alpha1.BackupCompressionNone, Verify: v1alpha1.VerifyRestoreTest,
		Encryption:   &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "age"}},
		BackoffLimit: ptr[int32](0), Resources: &v1alpha1.MemberResources{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("500Mi")}},
	})
	remote := backupOf("secure", "remote", v1alpha1.BackupSettings{
		Destination: toBucket(), Encryption: &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "age"}},
	})
	golden(t, "backup.yaml",
		TakeJob(plain, one(), image, Members{Endpoints: []string{"http://one-0.one-peers.apps.svc:2379"}}, 3600),
		TakeJob(encrypted, full(), image, Members{Endpoints: []string{"https://a:2379", "https://b:2379"}, TLS: true, Root: true, ClusterID: "c1"}, 600),
		TakeJob(remote, secure(), image, Members{Endpoints: []string{"https://a:2379"}, TLS: true, ClientCertificate: true}, 60),
		DeleteJob(encrypted, full(), image), DeleteJob(remote, nil, image),
		DestinationClaim("apps", encrypted.Spec.Destination.PVC))
}

func TestLocations(t *testing.T) {
	for _, tc := range []struct {
		d                  v1alpha1.BackupDestination
		artifact, location string
	}{
		{toVolume(), "store/daily/apps/one/b", "pvc://backups/store/daily/apps/one/b"},
		{toBucket(), "apps/one/b", "s3://backups/store/apps/one/b"},
		{v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: "c"}}, "apps/one/b", "pvc://c/apps/one/b"},
	} {
		artifact := BackupArtifact(backupOf("one", "b", v1alpha1.BackupSettings{Destination: tc.d}))
		if location := Location(tc.d, artifact); artifact != tc.artifact || location != tc.location {
			t.Errorf("got %s at %s, want %s at %s", artifact, location, tc.artifact, tc.location)
		}
	}
}

func TestJobNamesFitAndDiffer(t *testing.T) {
	long := strings.Repeat("a", 100)
	seen := map[string]bool{}
	for _, owner := range []string{"b", long, long[:99] + "b"} {
		for _, name := range []string{TakeJobName(owner), DeleteJobName(owner)} {
			if len(name) > jobNameLength || seen[name] {
				t.Errorf("the Job of %s is called %s, which is too long or another's", owner, name)
			}
			seen[name] = true
		}
	}
}

func TestBackupDeadline(t *testing.T) {
	if got := BackupDeadlineSeconds(&v1alpha1.BackupSettings{}); got != 3600 {
		t.Errorf("left out, the deadline is %d", got)
	}
	if got := BackupDeadlineSeconds(&v1alpha1.BackupSettings{ActiveDeadlineSeconds: ptr[int64](7)}); got != 7 {
		t.Errorf("of 7 s the deadline is %d", got)
	}
}
