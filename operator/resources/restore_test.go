package resources

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

func TestGoldenRestore(t *testing.T) {
	restore := &v1alpha1.MetaStoreRestore{ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "apps", UID: "5d0a7c1e-0000-4000-8000-000000000003"}}
	jobs := func(c *v1alpha1.MetaStoreCluster) RestoreJobs {
		return RestoreJobs{Builder: builder(t, c), Restore: restore, DeadlineSeconds: 600}
	}
	artifact := Source{
		Destination: toBucket(), Name: "apps/full/nightly", ClusterID: "c1",
		Encryption: &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "age"}},
	}
	file := Source{Destination: toVolume(), Name: "store/daily/snapshot.db", EtcdSnapshot: true}
	full, one := jobs(full()), jobs(one())
	golden(t, "restore.yaml",
		full.Verify("back-verify", artifact), full.Fill("back-fill", artifact, Filling{Token: "a-b", PeerTLS: true, Bump: 1000}),
		one.Verify("back-verify", file), one.Fill("back-fill", file, Filling{Token: "a-b"}),
		one.Undo("back-undo"), one.Finish("back-finish"),
		one.SeedClaim(map[string]string{"mark": "m"}))
}
