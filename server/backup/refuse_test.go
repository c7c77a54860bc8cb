package backup

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What a manifest or a key does not allow is refused, each for its own reason.
func TestRefusals(t *testing.T) {
	endpoint, _ := serve(t, 3)
	recipients, identity := newKey(t)
	_, otherKey := newKey(t)
	dest := t.TempDir()
	m := take(t, endpoint, "plain", dest, nil)
	take(t, endpoint, "secret", dest, func(o *TakeOptions) { o.Codec.RecipientsFile = recipients })
	newer := *m
	newer.Name, newer.Format = "newer", format+1
	b, err := newer.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dest, "newer"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dest, "newer", manifestFile), b)
	if err := os.Rename(filepath.Join(dest, "plain"), filepath.Join(dest, "moved")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, cluster, key string
		reason             Reason
	}{
		{"newer", "", "", NewerFormat},
		{"moved", "", "", Corrupt},
		{"none", "", "", NotFound},
		{"secret", "abc", identity, WrongCluster},
		{"secret", "xyz", identity, InvalidArgument},
		{"secret", "", otherKey, WrongKey},
		{"secret", "", "", WrongKey},
		{"../secret", "", "", InvalidArgument},
		{"secret", "", filepath.Join(dest, "no-such-file"), InvalidArgument},
		{"secret", "", recipients, InvalidArgument},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		o := restoreOptions(c.name, dest, dir)
		o.ClusterID, o.Codec.IdentityFile = c.cluster, c.key
		_, err := Restore(t.Context(), o)
		wantReason(t, "restore "+c.name, err, c.reason)
		if left := names(t, filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("the restore of %s leaves %v", c.name, left)
		}
	}
	o := takeOptions(t, endpoint, "secret", dest)
	got, err := Take(t.Context(), o)
	if wantReason(t, "take again", err, AlreadyExists); got == nil || got.Name != "secret" {
		t.Errorf("take again gives the manifest %+v", got)
	}
	if err := Delete(t.Context(), "secret", Location{URL: dest}); err != nil {
		t.Fatal(err)
	}
	if err := Delete(t.Context(), "secret", Location{URL: dest}); err != nil {
		t.Errorf("delete again: %v", err)
	}
	if left := names(t, dest); !slices.Equal(left, []string{"moved", "newer"}) {
		t.Errorf("the destination holds %v", left)
	}
}

// What take is told wrong is refused before any member is asked.
func TestTakeRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, []byte("x"))
	for _, c := range []struct {
		what   string
		change func(*TakeOptions)
		reason Reason
	}{
		{"name", func(o *TakeOptions) { o.Name = "a//b" }, InvalidArgument},
		{"reserved name", func(o *TakeOptions) { o.Name = "a/manifest.json" }, InvalidArgument},
		{"long name", func(o *TakeOptions) { o.Name = strings.Repeat("a", maxNameBytes+1) }, InvalidArgument},
		{"verify", func(o *TakeOptions) { o.Verify = "twice" }, InvalidArgument},
		{"compression", func(o *TakeOptions) { o.Codec.Compression = "rar" }, InvalidArgument},
		{"no endpoint", func(o *TakeOptions) { o.Members.Endpoints = nil }, InvalidArgument},
		{"endpoint", func(o *TakeOptions) { o.Members.Endpoints = []string{"127.0.0.1:2379"} }, InvalidArgument},
		{"cert alone", func(o *TakeOptions) { o.Members.TLS.CertFile = file }, InvalidArgument},
		{"CA", func(o *TakeOptions) { o.Members.TLS.TrustedCAFile = file + ".not" }, InvalidArgument},
		{"recipients", func(o *TakeOptions) { o.Codec.RecipientsFile = file }, InvalidArgument},
		{"no destination", func(o *TakeOptions) { o.To.URL = "" }, InvalidArgument},
		{"destination's scheme", func(o *TakeOptions) { o.To.URL = "ftp://host/x" }, InvalidArgument},
		{"destination is a file", func(o *TakeOptions) { o.To.URL = file }, InvalidArgument},
		{"S3 endpoint", func(o *TakeOptions) { o.To = Location{URL: "s3://b/p", S3: S3{Endpoint: "host:1"}} }, InvalidArgument},
		{"S3 CA", func(o *TakeOptions) { o.To = Location{URL: "s3://b/p", S3: S3{CAFile: file}} }, InvalidArgument},
		{"cluster ID", func(o *TakeOptions) { o.ClusterID = "id" }, InvalidArgument},
		{"missing folder", func(o *TakeOptions) { o.To.URL = file + ".not" }, DestinationMissing},
		{"no scratch", func(o *TakeOptions) { o.Scratch = file + ".not" }, Failed},
		{"no member", func(*TakeOptions) {}, Unreachable},
	} {
		o := takeOptions(t, "http://127.0.0.1:1", "b", t.TempDir())
		c.change(&o)
		_, err := Take(t.Context(), o)
		wantReason(t, c.what, err, c.reason)
	}
}

// A backup that is cancelled leaves nothing.
func TestCancelledLeavesNothing(t *testing.T) {
	endpoint, _ := serve(t, 3)
	dest := t.TempDir()
	o := takeOptions(t, endpoint, "b", dest)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Take(ctx, o); err == nil {
		t.Fatal("a cancelled backup succeeds")
	}
	if left := append(names(t, dest), names(t, o.Scratch)...); len(left) > 0 {
		t.Errorf("a cancelled backup leaves %v", left)
	}
}
