package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func sample(t *testing.T) imageSpec {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "server")
	if err := os.WriteFile(binary, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	return imageSpec{
		Tag: "metastore/server:test", User: "65532:65532", Entrypoint: []string{"/bin/server"},
		Files: []string{binary + ":/bin/server"}, Links: []string{"/bin/alias=server"},
	}
}

// untar returns the entries in order and their contents by name.
func untar(t *testing.T, b []byte) ([]tar.Header, map[string][]byte) {
	t.Helper()
	var headers []tar.Header
	bodies := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return headers, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, *h)
		bodies[h.Name] = body
	}
}

func TestArchiveNamesItsPartsByTheirHashes(t *testing.T) {
	var out bytes.Buffer
	if err := writeArchive(&out, sample(t)); err != nil {
		t.Fatal(err)
	}
	_, parts := untar(t, out.Bytes())
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(parts["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	m := manifest[0]
	if !slices.Equal(m.RepoTags, []string{"metastore/server:test"}) || m.Config != digest(parts[m.Config])+".json" {
		t.Errorf("manifest %+v does not fit its parts", m)
	}
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(parts[m.Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := parts[m.Layers[0]]
	if want := []string{"sha256:" + digest(layer)}; !slices.Equal(config.Rootfs.DiffIDs, want) {
		t.Errorf("diff IDs %v, want %v", config.Rootfs.DiffIDs, want)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/bin/server"}) {
		t.Errorf("config %+v", config.Config)
	}

	headers, bodies := untar(t, layer)
	var names []string
	for _, h := range headers {
		names = append(names, h.Name)
	}
	if want := []string{"tmp/", "bin/", "bin/server", "bin/alias"}; !slices.Equal(names, want) {
		t.Errorf("layer holds %v, want %v", names, want)
	}
	if string(bodies["bin/server"]) != "binary" || headers[2].Mode != 0o755 || headers[3].Linkname != "server" {
		t.Errorf("layer's entries are wrong: %+v", headers)
	}
}

func TestSameFilesGiveTheSameBytes(t *testing.T) {
	spec := sample(t)
	var a, b bytes.Buffer
	if err := errors.Join(writeArchive(&a, spec), writeArchive(&b, spec)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two runs over the same files differ")
	}
}

func TestBadArgumentIsNamed(t *testing.T) {
	for _, c := range []struct {
		spec imageSpec
		want string
	}{
		{imageSpec{Files: []string{"justafile"}}, `"justafile": want SOURCE:DESTINATION`},
		{imageSpec{Links: []string{"alias"}}, `"alias": want LINK=TARGET`},
		{imageSpec{Files: []string{"/does/not/exist:/x"}}, "/does/not/exist"},
	} {
		err := writeArchive(io.Discard, c.spec)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want an error with %q", c.spec, err, c.want)
		}
	}
}
