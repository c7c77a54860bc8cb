package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// RocksDBProfile says who chooses RocksDB's settings.
//
// +kubebuilder:validation:Enum=Auto;Custom
type RocksDBProfile string

const (
	// RocksDBAuto derives every setting from the container's limits.
	RocksDBAuto RocksDBProfile = "Auto"
	// RocksDBCustom takes what is set here and derives the rest.
	RocksDBCustom RocksDBProfile = "Custom"
)

// RocksDBCompression is the compression of RocksDB's files.
//
// +kubebuilder:validation:Enum=None;Snappy;LZ4;ZSTD
type RocksDBCompression string

const (
	CompressionNone   RocksDBCompression = "None"
	CompressionSnappy RocksDBCompression = "Snappy"
	CompressionLZ4    RocksDBCompression = "LZ4"
	CompressionZSTD   RocksDBCompression = "ZSTD"
)

// The level-0 triggers that hold where the spec sets none. The rules on
// RocksDBSpec repeat them.
const (
	DefaultLevel0CompactionTrigger = 4
	DefaultLevel0SlowdownTrigger   = 20
	DefaultLevel0StopTrigger       = 36
)

// RocksDBSpec holds RocksDB's settings. Everything but profile needs profile
// Custom; what is left out is derived as with profile Auto. The values in use
// are in status.effectiveTuning.
//
// +kubebuilder:validation:XValidation:rule="(has(self.profile) && self.profile == 'Custom') || !(has(self.blockCacheSize) || has(self.writeBufferSize) || has(self.maxWriteBufferNumber) || has(self.maxBackgroundJobs) || has(self.bloomBitsPerKey) || has(self.compression) || has(self.maxOpenFiles) || has(self.level0FileNumCompactionTrigger) || has(self.level0SlowdownWritesTrigger) || has(self.level0StopWritesTrigger) || has(self.bytesPerSync))",messageExpression="'rocksdb.profile is %s but single settings are set; they are allowed only with profile Custom'.format([has(self.profile) ? self.profile : 'Auto'])"
// +kubebuilder:validation:XValidation:rule="(has(self.level0SlowdownWritesTrigger) ? self.level0SlowdownWritesTrigger : 20) > (has(self.level0FileNumCompactionTrigger) ? self.level0FileNumCompactionTrigger : 4)",messageExpression="'rocksdb.level0SlowdownWritesTrigger is %s; allowed is more than level0FileNumCompactionTrigger, which is %s'.format([has(self.level0SlowdownWritesTrigger) ? self.level0SlowdownWritesTrigger : 20, has(self.level0FileNumCompactionTrigger) ? self.level0FileNumCompactionTrigger : 4])"
// +kubebuilder:validation:XValidation:rule="(has(self.level0StopWritesTrigger) ? self.level0StopWritesTrigger : 36) > (has(self.level0SlowdownWritesTrigger) ? self.level0SlowdownWritesTrigger : 20)",messageExpression="'rocksdb.level0StopWritesTrigger is %s; allowed is more than level0SlowdownWritesTrigger, which is %s'.format([has(self.level0StopWritesTrigger) ? self.level0StopWritesTrigger : 36, has(self.level0SlowdownWritesTrigger) ? self.level0SlowdownWritesTrigger : 20])"
type RocksDBSpec struct {
	// Profile Auto (also when left out) derives every setting from the
	// container's limits; Custom takes what is set here.
	//
	// +optional
	Profile RocksDBProfile `json:"profile,omitempty"`

	// BlockCacheSize is the memory for uncompressed blocks, indexes and filters.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Mi')) >= 0",messageExpression="'rocksdb.blockCacheSize is %s; allowed is 1Mi or more'.format([self])"
	BlockCacheSize *resource.Quantity `json:"blockCacheSize,omitempty"`

	// WriteBufferSize is the size of one memtable.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('4Gi')) <= 0",messageExpression="'rocksdb.writeBufferSize is %s; allowed is 1Mi to 4Gi'.format([self])"
	WriteBufferSize *resource.Quantity `json:"writeBufferSize,omitempty"`

	// MaxWriteBufferNumber is how many memtables there may be, the one being written included.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 2 && self <= 16",messageExpression="'rocksdb.maxWriteBufferNumber is %s; allowed is 2 to 16'.format([self])"
	MaxWriteBufferNumber *int32 `json:"maxWriteBufferNumber,omitempty"`

	// MaxBackgroundJobs bounds the flushes and compactions that run at a time.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 2 && self <= 64",messageExpression="'rocksdb.maxBackgroundJobs is %s; allowed is 2 to 64'.format([self])"
	MaxBackgroundJobs *int32 `json:"maxBackgroundJobs,omitempty"`

	// BloomBitsPerKey sizes the bloom filters; 0 turns them off.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 32",messageExpression="'rocksdb.bloomBitsPerKey is %s; allowed is 0 to 32'.format([self])"
	BloomBitsPerKey *int32 `json:"bloomBitsPerKey,omitempty"`

	// +optional
	Compression RocksDBCompression `json:"compression,omitempty"`

	// MaxOpenFiles bounds RocksDB's open files; -1 is no bound.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == -1 || (self >= 64 && self <= 1000000)",messageExpression="'rocksdb.maxOpenFiles is %s; allowed is -1 or 64 to 1000000'.format([self])"
	MaxOpenFiles *int32 `json:"maxOpenFiles,omitempty"`

	// Level0FileNumCompactionTrigger is the number of level-0 files that starts a compaction; 4 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 1000",messageExpression="'rocksdb.level0FileNumCompactionTrigger is %s; allowed is 1 to 1000'.format([self])"
	Level0FileNumCompactionTrigger *int32 `json:"level0FileNumCompactionTrigger,omitempty"`

	// Level0SlowdownWritesTrigger is the number of level-0 files that slows writers down; 20 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 2 && self <= 1000",messageExpression="'rocksdb.level0SlowdownWritesTrigger is %s; allowed is 2 to 1000'.format([self])"
	Level0SlowdownWritesTrigger *int32 `json:"level0SlowdownWritesTrigger,omitempty"`

	// Level0StopWritesTrigger is the number of level-0 files that stops writers; 36 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 3 && self <= 1000",messageExpression="'rocksdb.level0StopWritesTrigger is %s; allowed is 3 to 1000'.format([self])"
	Level0StopWritesTrigger *int32 `json:"level0StopWritesTrigger,omitempty"`

	// BytesPerSync is how many bytes of a file are written before the kernel is asked to start writing them out; 0 leaves it to the kernel.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('0')) >= 0 && quantity(string(self)).compareTo(quantity('1Gi')) <= 0",messageExpression="'rocksdb.bytesPerSync is %s; allowed is 0 to 1Gi'.format([self])"
	BytesPerSync *resource.Quantity `json:"bytesPerSync,omitempty"`
}
