package rocksdb

import (
	"strings"
	"testing"
)

func TestDefaultOptionsAreValid(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesFieldValueAndRange(t *testing.T) {
	for _, c := range []struct {
		change func(o *Options)
		want   string // empty: valid
	}{
		{func(o *Options) { o.BlockCacheBytes = 1 }, "BlockCacheBytes is 1; allowed are 1048576 to"},
		{func(o *Options) { o.BlockCacheBytes = 1 << 20 }, ""},
		{func(o *Options) { o.WriteBufferBytes = 65535 }, "WriteBufferBytes is 65535; allowed are 65536 to"},
		{func(o *Options) { o.WriteBufferBytes = -5 }, "WriteBufferBytes is -5"},
		{func(o *Options) { o.MaxWriteBufferNumber = 1 }, "MaxWriteBufferNumber is 1; allowed are 2 to 64"},
		{func(o *Options) { o.MaxBackgroundJobs = 0 }, "MaxBackgroundJobs is 0; allowed are 1 to"},
		{func(o *Options) { o.BloomBitsPerKey = -1 }, "BloomBitsPerKey is -1; allowed are 0 to 32"},
		{func(o *Options) { o.BloomBitsPerKey = 0 }, ""},
		{func(o *Options) { o.Compression = "gzip" }, `Compression is "gzip"; allowed are none, snappy, lz4, zstd`},
		{func(o *Options) { o.Compression = "" }, `Compression is ""`},
		{func(o *Options) { o.Compression = ZSTD }, ""},
		{func(o *Options) { o.Level0FileNumCompactionTrigger = 0 }, "Level0FileNumCompactionTrigger is 0; allowed are 1 to"},
		{func(o *Options) { o.Level0SlowdownWritesTrigger = 3 }, "Level0SlowdownWritesTrigger is 3; allowed are 4 to"},
		{func(o *Options) { o.Level0StopWritesTrigger = 19 }, "Level0StopWritesTrigger is 19; allowed are 20 to"},
		{func(o *Options) { o.MaxOpenFiles = 0 }, "MaxOpenFiles is 0; allowed are -1 and 64 to"},
		{func(o *Options) { o.MaxOpenFiles = -1 }, ""},
		{func(o *Options) { o.BytesPerSync = -1 }, "BytesPerSync is -1; allowed are 0 to"},
		{func(o *Options) { o.BytesPerSync = 0 }, ""},
	} {
		o := DefaultOptions()
		c.change(&o)
		err := o.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), "rocksdb option "+c.want)) {
			t.Errorf("%+v: got %v, want %q", o, err, c.want)
		}
	}
}

func TestValidateNamesAllFields(t *testing.T) {
	o := DefaultOptions()
	o.MaxOpenFiles, o.MaxBackgroundJobs = 1, 0
	err := o.Validate()
	if err == nil || !strings.Contains(err.Error(), "MaxOpenFiles") || !strings.Contains(err.Error(), "MaxBackgroundJobs") {
		t.Errorf("got %v, want both fields", err)
	}
}

func TestOpenRefusesBadOptions(t *testing.T) {
	o := DefaultOptions()
	o.MaxOpenFiles = 1
	if _, err := (Opener{Options: o}).Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "MaxOpenFiles is 1") {
		t.Errorf("got %v, want an error about MaxOpenFiles", err)
	}
}
