package controller

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	corev1 "k8s.io/api/core/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/tuning"
)

func TestSettingsDifference(t *testing.T) {
	spec := v1alpha1.MetaStoreClusterSpec{
		Engine:  v1alpha1.EngineRocksDB,
		Storage: v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")},
		Resources: &v1alpha1.MemberResources{Limits: corev1.ResourceList{
			corev1.ResourceMemory: resource.MustParse("1Gi"),
		}},
	}
	wanted, err := tuning.Derive(&spec)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(change func(*v1alpha1.EffectiveTuning)) string {
		told := wanted.DeepCopy()
		change(told)
		text, err := json.Marshal(told)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []struct {
		name, told, want string
	}{
		{"the same, as a server writes it", tell(func(e *v1alpha1.EffectiveTuning) { e.RocksDB.Compression = "lz4" }), ""},
		{"another quota is told elsewhere", tell(func(e *v1alpha1.EffectiveTuning) { e.QuotaBackendBytes++ }), ""},
		{"another cache", tell(func(e *v1alpha1.EffectiveTuning) { e.RocksDB.BlockCacheBytes = 7 }), "rocksdb.blockCacheBytes 7, wanted is 268435456"},
		{"another heap", tell(func(e *v1alpha1.EffectiveTuning) { e.GoMemLimitBytes = 7 }), "goMemLimitBytes 7, wanted is"},
		{"another engine", tell(func(e *v1alpha1.EffectiveTuning) { e.RocksDB = nil }), "rocksdb.blockCacheBytes , wanted is"},
		{"no JSON", "{", "cannot be read"},
	} {
		got := settingsDifference(wanted, c.told)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	wanted.GoMemLimitBytes = 0
	if got := settingsDifference(wanted, tell(func(e *v1alpha1.EffectiveTuning) { e.GoMemLimitBytes = 1 << 30 })); got != "" {
		t.Errorf("a heap limit of the server's own: %q", got)
	}
}
