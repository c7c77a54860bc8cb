package tuning

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"metastore.io/metastore/api/v1alpha1"
)

func spec(engine v1alpha1.Engine, size, memory, cpu string) *v1alpha1.MetaStoreClusterSpec {
	s := &v1alpha1.MetaStoreClusterSpec{Engine: engine, Storage: v1alpha1.StorageSpec{Size: resource.MustParse(size)}}
	limits := corev1.ResourceList{}
	if memory != "" {
		limits[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	if cpu != "" {
		limits[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if len(limits) > 0 {
		s.Resources = &v1alpha1.MemberResources{Limits: limits}
	}
	return s
}

func bytesOf(s string) *resource.Quantity { q := resource.MustParse(s); return &q }

func ptr[T any](v T) *T { return &v }

func TestAutoFollowsTheLimits(t *testing.T) {
	for _, tc := range []struct {
		memory, cpu           string
		cache, buffer, goHeap string
		jobs                  int32
	}{
		{memory: "128Mi", cpu: "100m", cache: "32Mi", buffer: "4Mi", goHeap: "60Mi", jobs: 2},
		{memory: "512Mi", cpu: "2", cache: "128Mi", buffer: "16Mi", goHeap: "243Mi", jobs: 2},
		{memory: "2Gi", cpu: "3500m", cache: "512Mi", buffer: "64Mi", goHeap: "972Mi", jobs: 4},
		{memory: "16Gi", cpu: "32", cache: "4Gi", buffer: "64Mi", goHeap: "9574Mi", jobs: 8},
		{memory: "", cpu: "", cache: "256Mi", buffer: "32Mi", goHeap: "0", jobs: 2},
	} {
		t.Run(fmt.Sprintf("memory=%s,cpu=%s", tc.memory, tc.cpu), func(t *testing.T) {
			got, err := Derive(spec(v1alpha1.EngineRocksDB, "100Gi", tc.memory, tc.cpu))
			if err != nil {
				t.Fatal(err)
			}
			want := v1alpha1.EffectiveRocksDB{
				BlockCacheBytes: bytesOf(tc.cache).Value(), WriteBufferBytes: bytesOf(tc.buffer).Value(), MaxWriteBufferNumber: 4,
				MaxBackgroundJobs: tc.jobs, BloomBitsPerKey: 10, Compression: v1alpha1.CompressionLZ4, MaxOpenFiles: 1024,
				Level0FileNumCompactionTrigger: 4, Level0SlowdownWritesTrigger: 20, Level0StopWritesTrigger: 36, BytesPerSync: 1 << 20,
			}
			if *got.RocksDB != want {
				t.Errorf("RocksDB settings are\n%+v, want\n%+v", *got.RocksDB, want)
			}
			if want := bytesOf(tc.goHeap).Value(); got.GoMemLimitBytes != want {
				t.Errorf("GOMEMLIMIT is %d, want %d", got.GoMemLimitBytes, want)
			}
		})
	}
}

func TestEverythingFitsBelowTheLimit(t *testing.T) {
	for mebibytes := int64(128); mebibytes < 1<<20; mebibytes = mebibytes*3/2 + 1 {
		s := spec(v1alpha1.EngineRocksDB, "100Gi", fmt.Sprintf("%dMi", mebibytes), "")
		got, err := Derive(s)
		if err != nil {
			t.Fatalf("with %d MiB profile Auto is refused: %v", mebibytes, err)
		}
		if sum := nativeBytes(got.RocksDB) + got.GoMemLimitBytes; sum > percent(mebibytes*mib, 85) {
			t.Errorf("with %d MiB RocksDB and the Go heap together may take %d bytes", mebibytes, sum)
		}
	}
}

func TestRequestsStandInForLimits(t *testing.T) {
	s := spec(v1alpha1.EngineRocksDB, "100Gi", "", "")
	s.Resources = &v1alpha1.MemberResources{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi")}}
	got, err := Derive(s)
	if err != nil || got.RocksDB.BlockCacheBytes != 512*mib {
		t.Errorf("block cache is %d (%v), want 512Mi from the request", got.RocksDB.BlockCacheBytes, err)
	}
	if got.GoMemLimitBytes != 0 {
		t.Errorf("GOMEMLIMIT is %d; a request is no limit", got.GoMemLimitBytes)
	}
}

func TestCustomReplacesWhatItSets(t *testing.T) {
	s := spec(v1alpha1.EngineRocksDB, "100Gi", "1Gi", "2")
	base, err := Derive(s)
	if err != nil {
		t.Fatal(err)
	}
	s.RocksDB = &v1alpha1.RocksDBSpec{
		Profile: v1alpha1.RocksDBCustom, BlockCacheSize: bytesOf("100Mi"), WriteBufferSize: bytesOf("10Mi"),
		MaxWriteBufferNumber: ptr[int32](3), MaxBackgroundJobs: ptr[int32](5), BloomBitsPerKey: ptr[int32](0),
		Compression: v1alpha1.CompressionZSTD, MaxOpenFiles: ptr[int32](-1), Level0FileNumCompactionTrigger: ptr[int32](6),
		Level0SlowdownWritesTrigger: ptr[int32](30), Level0StopWritesTrigger: ptr[int32](40), BytesPerSync: bytesOf("0"),
	}
	want := v1alpha1.EffectiveRocksDB{
		BlockCacheBytes: 100 * mib, WriteBufferBytes: 10 * mib, MaxWriteBufferNumber: 3, MaxBackgroundJobs: 5,
		Compression: v1alpha1.CompressionZSTD, MaxOpenFiles: -1, Level0FileNumCompactionTrigger: 6,
		Level0SlowdownWritesTrigger: 30, Level0StopWritesTrigger: 40,
	}
	got, err := Derive(s)
	if err != nil || *got.RocksDB != want {
		t.Errorf("Custom gave %+v (%v), want %+v", *got.RocksDB, err, want)
	}
	s.RocksDB = &v1alpha1.RocksDBSpec{Profile: v1alpha1.RocksDBCustom}
	if got, err := Derive(s); err != nil || *got.RocksDB != *base.RocksDB {
		t.Errorf("Custom with nothing set gave %+v (%v), want what Auto gives", *got.RocksDB, err)
	}
	if s.RocksDB.BlockCacheSize != nil {
		t.Error("Derive wrote to the spec")
	}
}

func TestQuota(t *testing.T) {
	for _, tc := range []struct {
		name   string
		engine v1alpha1.Engine
		size   string
		memory string
		set    string
		want   string
	}{
		{"the server's own", v1alpha1.EngineRocksDB, "10Gi", "512Mi", "", "2Gi"},
		{"half of a small volume", v1alpha1.EngineRocksDB, "1Gi", "512Mi", "", "512Mi"},
		{"half of the memory", v1alpha1.EngineMemory, "10Gi", "512Mi", "", "256Mi"},
		{"no limit to halve", v1alpha1.EngineMemory, "10Gi", "", "", "2Gi"},
		{"the spec's", v1alpha1.EngineRocksDB, "10Gi", "512Mi", "9Gi", "9Gi"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := spec(tc.engine, tc.size, tc.memory, "")
			if tc.set != "" {
				s.Server = &v1alpha1.ServerSpec{QuotaBackendBytes: bytesOf(tc.set)}
			}
			got, err := Derive(s)
			if err != nil || got.QuotaBackendBytes != bytesOf(tc.want).Value() {
				t.Errorf("quota is %s (%v), want %s", sized(got.QuotaBackendBytes), err, tc.want)
			}
		})
	}
}

func TestMemoryEngineHasNoRocksDB(t *testing.T) {
	got, err := Derive(spec(v1alpha1.EngineMemory, "10Gi", "1000Mi", ""))
	if err != nil || got.RocksDB != nil || got.GoMemLimitBytes != 850*mib {
		t.Errorf("got %+v (%v), want no RocksDB settings and 850Mi of heap", got, err)
	}
}

func TestWhatCannotFitIsRefused(t *testing.T) {
	cache := spec(v1alpha1.EngineRocksDB, "10Gi", "1Gi", "")
	cache.RocksDB = &v1alpha1.RocksDBSpec{Profile: v1alpha1.RocksDBCustom, BlockCacheSize: bytesOf("512Mi"), WriteBufferSize: bytesOf("64Mi")}
	data := spec(v1alpha1.EngineMemory, "10Gi", "1000Mi", "")
	data.Server = &v1alpha1.ServerSpec{QuotaBackendBytes: bytesOf("751Mi")}
	for _, tc := range []struct {
		spec      *v1alpha1.MetaStoreClusterSpec
		fragments []string
	}{
		{cache, []string{"rocksdb.blockCacheSize (512Mi)", "rocksdb.writeBufferSize (64Mi)", "maxWriteBufferNumber (4)", "is 768Mi", "at most 60%", "limits.memory (1Gi)"}},
		{data, []string{"server.quotaBackendBytes is 751Mi", "engine Memory", "at most 75%", "(1000Mi), which is 750Mi"}},
	} {
		_, err := Derive(tc.spec)
		if err == nil {
			t.Errorf("accepted, want an error with %q", tc.fragments)
			continue
		}
		for _, f := range tc.fragments {
			if !strings.Contains(err.Error(), f) {
				t.Errorf("the error %q does not say %q", err, f)
			}
		}
		tc.spec.Resources = nil
		if _, err := Derive(tc.spec); err != nil {
			t.Errorf("refused without a limit to break: %v", err)
		}
	}
}
