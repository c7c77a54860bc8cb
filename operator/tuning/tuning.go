// Package tuning derives a member's memory settings from its container's limits
// and refuses settings that cannot fit. It owns the arithmetic between the spec
// and the server's flags.
//
// It promises that Derive is pure, that every RocksDB setting comes out set,
// and that with a memory limit the caches, the memtables and the Go heap
// together stay below it. The controller reports the result in
// status.effectiveTuning and hands it to operator/resources; nobody else
// derives a size.
package tuning

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"metastore.io/metastore/api/v1alpha1"
)

const mib = int64(1) << 20

const (
	// assumedMemoryBytes is what RocksDB is tuned for where the spec names
	// neither a limit nor a request.
	assumedMemoryBytes = 1024 * mib
	// assumedCPUMillis is the same for processors.
	assumedCPUMillis = 2000

	// nativePercent of the memory limit are the most that RocksDB's cache and
	// memtables may take: the index of keys and the log's cache live in the Go heap.
	nativePercent = 60
	// reservePercent of the memory limit belong to no budget: stacks, RocksDB's
	// iterators, the allocator's slack.
	reservePercent = 15
	// dataPercent of the memory limit are the most that an engine in memory may
	// be allowed to hold; the rest is the collector's and the index's.
	dataPercent = 75

	defaultQuotaBytes = 2048 * mib
)

// Derive gives the settings that follow from the spec. An error names the
// field, its value and what is allowed; the settings that come with it are what
// was asked for, for the status only.
func Derive(spec *v1alpha1.MetaStoreClusterSpec) (v1alpha1.EffectiveTuning, error) {
	limit := memoryLimit(spec)
	out := v1alpha1.EffectiveTuning{QuotaBackendBytes: quota(spec, limit)}
	if spec.Engine == v1alpha1.EngineMemory {
		out.GoMemLimitBytes = wholeMiB(percent(limit, 100-reservePercent))
		return out, checkQuota(spec, limit)
	}
	out.RocksDB = rocksdb(spec)
	native := nativeBytes(out.RocksDB)
	if limit > 0 {
		out.GoMemLimitBytes = wholeMiB(max(percent(limit, 100-reservePercent)-native, percent(limit, 100-reservePercent-nativePercent)))
	}
	return out, checkBudget(out.RocksDB, limit)
}

// rocksdb derives every setting and lets profile Custom replace single ones.
func rocksdb(spec *v1alpha1.MetaStoreClusterSpec) *v1alpha1.EffectiveRocksDB {
	r := auto(spec)
	custom := spec.RocksDB
	if custom == nil || custom.Profile != v1alpha1.RocksDBCustom {
		return r
	}
	setBytes(&r.BlockCacheBytes, custom.BlockCacheSize)
	setBytes(&r.WriteBufferBytes, custom.WriteBufferSize)
	setBytes(&r.BytesPerSync, custom.BytesPerSync)
	setInt(&r.MaxWriteBufferNumber, custom.MaxWriteBufferNumber)
	setInt(&r.MaxBackgroundJobs, custom.MaxBackgroundJobs)
	setInt(&r.BloomBitsPerKey, custom.BloomBitsPerKey)
	setInt(&r.MaxOpenFiles, custom.MaxOpenFiles)
	setInt(&r.Level0FileNumCompactionTrigger, custom.Level0FileNumCompactionTrigger)
	setInt(&r.Level0SlowdownWritesTrigger, custom.Level0SlowdownWritesTrigger)
	setInt(&r.Level0StopWritesTrigger, custom.Level0StopWritesTrigger)
	if custom.Compression != "" {
		r.Compression = custom.Compression
	}
	return r
}

// auto gives a quarter of the memory to the block cache and an eighth to the
// memtables: the hot set of a metadata store is its index, which is Go's.
func auto(spec *v1alpha1.MetaStoreClusterSpec) *v1alpha1.EffectiveRocksDB {
	memory := quantity(spec, corev1.ResourceMemory, assumedMemoryBytes, (*resource.Quantity).Value)
	cpuMillis := quantity(spec, corev1.ResourceCPU, assumedCPUMillis, (*resource.Quantity).MilliValue)
	const buffers = 4
	return &v1alpha1.EffectiveRocksDB{
		BlockCacheBytes:                max(wholeMiB(memory/4), 8*mib),
		WriteBufferBytes:               min(max(wholeMiB(memory/8/buffers), 4*mib), 64*mib),
		MaxWriteBufferNumber:           buffers,
		MaxBackgroundJobs:              int32(min(max((cpuMillis+999)/1000, 2), 8)),
		BloomBitsPerKey:                10,
		Compression:                    v1alpha1.CompressionLZ4,
		MaxOpenFiles:                   1024,
		Level0FileNumCompactionTrigger: v1alpha1.DefaultLevel0CompactionTrigger,
		Level0SlowdownWritesTrigger:    v1alpha1.DefaultLevel0SlowdownTrigger,
		Level0StopWritesTrigger:        v1alpha1.DefaultLevel0StopTrigger,
		BytesPerSync:                   mib,
	}
}

// nativeBytes is the memory that RocksDB fills before it stops growing.
func nativeBytes(r *v1alpha1.EffectiveRocksDB) int64 {
	return r.BlockCacheBytes + r.WriteBufferBytes*int64(r.MaxWriteBufferNumber)
}

func checkBudget(r *v1alpha1.EffectiveRocksDB, limit int64) error {
	allowed := percent(limit, nativePercent)
	if limit == 0 || nativeBytes(r) <= allowed {
		return nil
	}
	return fmt.Errorf("rocksdb.blockCacheSize (%s) + rocksdb.writeBufferSize (%s) x rocksdb.maxWriteBufferNumber (%d) is %s; "+
		"allowed is at most %d%% of resources.limits.memory (%s), which is %s",
		sized(r.BlockCacheBytes), sized(r.WriteBufferBytes), r.MaxWriteBufferNumber, sized(nativeBytes(r)),
		nativePercent, sized(limit), sized(allowed))
}

// quota is the spec's, or the server's usual 2Gi where volume and memory are
// large enough for it: NOSPACE comes before a full disk and before the OOM killer.
// With a volume that grows by itself it is half of the volume.
func quota(spec *v1alpha1.MetaStoreClusterSpec, limit int64) int64 {
	if spec.Server != nil && spec.Server.QuotaBackendBytes != nil {
		return spec.Server.QuotaBackendBytes.Value()
	}
	q := wholeMiB(spec.Storage.Size.Value() / 2)
	if spec.Storage.AutoGrow == nil {
		q = min(q, defaultQuotaBytes)
	}
	if spec.Engine == v1alpha1.EngineMemory && limit > 0 {
		q = min(q, wholeMiB(limit/2))
	}
	return q
}

func checkQuota(spec *v1alpha1.MetaStoreClusterSpec, limit int64) error {
	q, allowed := quota(spec, limit), percent(limit, dataPercent)
	if limit == 0 || q <= allowed {
		return nil
	}
	return fmt.Errorf("server.quotaBackendBytes is %s and engine Memory keeps the data in memory; "+
		"allowed is at most %d%% of resources.limits.memory (%s), which is %s", sized(q), dataPercent, sized(limit), sized(allowed))
}

// memoryLimit is 0 where there is none.
func memoryLimit(spec *v1alpha1.MetaStoreClusterSpec) int64 {
	if spec.Resources == nil {
		return 0
	}
	return spec.Resources.Limits.Memory().Value()
}

// quantity reads the limit of the named resource, or else its request.
func quantity(spec *v1alpha1.MetaStoreClusterSpec, name corev1.ResourceName, otherwise int64, read func(*resource.Quantity) int64) int64 {
	if spec.Resources == nil {
		return otherwise
	}
	for _, list := range []corev1.ResourceList{spec.Resources.Limits, spec.Resources.Requests} {
		if q, ok := list[name]; ok && !q.IsZero() {
			return read(&q)
		}
	}
	return otherwise
}
