package node

import (
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
)

// fuzzDataDir is a data dir with this marker file.
func fuzzDataDir(t *testing.T, content []byte) *dataDir {
	t.Helper()
	d := &dataDir{fs: memdisk.New(1), dir: "/data"}
	if err := d.fs.MkdirAll(d.dir); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFile(d.fs, d.dir, markerFile, content); err != nil {
		t.Fatal(err)
	}
	return d
}

func withSum(text []byte) []byte {
	return fmt.Appendf(nil, "%s\n%08x\n", text, crc32.Checksum(text, castagnoli))
}

// FuzzMarker reads any marker, with its checksum made right where sum says so.
// One that is refused gets an exit code, and one that is taken is written and
// read again as the same.
func FuzzMarker(f *testing.F) {
	good := []byte(`{"format":1,"engine":"memory","cluster_id":"c1","member_id":"a1","initial_cluster_token":"t","starts":3,"ready":true}`)
	f.Add(withSum(good), false)
	f.Add(good, true)
	f.Add([]byte(`{"format":2}`), true)
	f.Add([]byte(`{"format":-1,"starts":18446744073709551615,"cluster_id":"zz"}`), true)
	f.Add([]byte(`null`), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, content []byte, sum bool) {
		if sum && !strings.Contains(string(content), "\n") {
			content = withSum(content)
		}
		d := fuzzDataDir(t, content)
		if err := d.readMarker(); err != nil {
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != ExitCorrupt && exit.Code != ExitNewer {
				t.Fatalf("%q: %v", content, err)
			}
			return
		}
		want := *d.marker
		if err := d.writeMarker(want); err != nil {
			t.Fatal(err)
		}
		if err := d.readMarker(); err != nil || !reflect.DeepEqual(*d.marker, want) {
			t.Fatalf("%+v was written and %+v read: %v", want, d.marker, err)
		}
		_, _, _ = d.marker.ids() // or it says why not
	})
}

// FuzzMarkerDamage changes up to four bytes of a marker file: it is never taken
// for another's.
func FuzzMarkerDamage(f *testing.F) {
	d := &dataDir{fs: memdisk.New(1), dir: "/data"}
	want := marker{Format: markerFormat, Engine: EngineMemory, ClusterID: "c1", MemberID: "a1", Token: "t", Starts: 3, Ready: true}
	err := errors.Join(d.fs.MkdirAll(d.dir), d.writeMarker(want))
	if err != nil {
		f.Fatal(err)
	}
	good, err := disk.ReadFile(d.fs, "/data/"+markerFile, maxMarkerBytes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), uint32(1))
	f.Add(uint32(12), uint32(0x03000000))
	f.Add(uint32(len(good)-1), uint32(1))
	f.Fuzz(func(t *testing.T, offset, xor uint32) {
		bad := []byte(string(good))
		at := int(offset) % len(bad)
		for i := range min(4, len(bad)-at) {
			bad[at+i] ^= byte(xor >> (8 * i))
		}
		d := fuzzDataDir(t, bad)
		if err := d.readMarker(); err == nil && *d.marker != want {
			t.Fatalf("offset %d, bits %x: %+v was taken", offset, xor, d.marker)
		}
	})
}

// FuzzInitialCluster: what is taken as --initial-cluster names this member and
// nobody without a URL.
func FuzzInitialCluster(f *testing.F) {
	f.Add("a=http://localhost:2380", "a", "http://localhost:2380")
	f.Add("a=http://h:1,b=http://i:1,a=https://h:2", "a", "https://h:2,http://h:1")
	f.Add("=,==", "", "")
	f.Add("a=unix://x", "a", "unix://x")
	f.Fuzz(func(t *testing.T, list, name, advertise string) {
		c := DefaultConfig()
		urls, err := ParseURLs("initial-advertise-peer-urls", advertise)
		if err != nil {
			return
		}
		c.Name, c.InitialCluster, c.AdvertisePeerURLs, c.StorageEngine = name, list, urls, EngineMemory
		if c.Validate() != nil {
			return
		}
		members, err := c.initialMembers()
		if err != nil {
			return
		}
		if len(members[name]) != len(urls) {
			t.Fatalf("%q: this member, %q, has %q of %q", list, name, members[name], advertise)
		}
		for name, urls := range members {
			if name == "" || len(urls) == 0 {
				t.Fatalf("%q gives %q = %q", list, name, urls)
			}
		}
	})
}
