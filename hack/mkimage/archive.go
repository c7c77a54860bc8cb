package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// imageSpec says what the image holds and how it starts.
type imageSpec struct {
	Tag, User            string
	Entrypoint, Cmd, Env []string
	Links                []string // LINK=TARGET
	Files                []string // SOURCE:DESTINATION
}

var epoch = time.Unix(0, 0).UTC()

// writeArchive writes the image: its configuration, its layer and the manifest
// that names both. Configuration and layer are named by their SHA-256, as the
// image specification asks (github.com/moby/docker-image-spec).
func writeArchive(w io.Writer, spec imageSpec) error {
	layer, err := buildLayer(spec)
	if err != nil {
		return err
	}
	layerID := digest(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": epoch,
		"config": map[string]any{
			"Entrypoint": spec.Entrypoint, "Cmd": spec.Cmd, "User": spec.User,
			"Env": append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/"}, spec.Env...),
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerID}},
		"history": []any{map[string]any{"created": epoch, "created_by": "mkimage"}},
	})
	if err != nil {
		return err
	}
	configName, layerName := digest(config)+".json", layerID+"/layer.tar"
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{spec.Tag}, "Layers": []string{layerName},
	}})
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, part := range []struct {
		name string
		body []byte
	}{{configName, config}, {layerName, layer}, {"manifest.json", manifest}} {
		if err := addFile(archive, part.name, 0o644, part.body); err != nil {
			return err
		}
	}
	return archive.Close()
}

// buildLayer packs the files and links, each below folders of its own making.
func buildLayer(spec imageSpec) ([]byte, error) {
	var buf bytes.Buffer
	l := layerWriter{tar: tar.NewWriter(&buf), made: map[string]bool{}}
	if err := l.folder("tmp"); err != nil {
		return nil, err
	}
	for _, arg := range spec.Files {
		source, target, ok := strings.Cut(arg, ":")
		if !ok || source == "" || target == "" {
			return nil, fmt.Errorf("%q: want SOURCE:DESTINATION", arg)
		}
		if err := l.tree(source, target); err != nil {
			return nil, err
		}
	}
	for _, arg := range spec.Links {
		link, target, ok := strings.Cut(arg, "=")
		if !ok || link == "" || target == "" {
			return nil, fmt.Errorf("%q: want LINK=TARGET", arg)
		}
		if err := l.link(link, target); err != nil {
			return nil, err
		}
	}
	if err := l.tar.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// layerWriter adds to one layer; made holds the folders that are in it already.
type layerWriter struct {
	tar  *tar.Writer
	made map[string]bool
}

// tree adds a file, or every regular file below a folder.
func (l *layerWriter) tree(source, target string) error {
	return filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		info, err := os.Stat(p) // follows links: an image wants the file itself
		if err != nil {
			return err
		}
		body, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Join(target, filepath.ToSlash(rel)), "/")
		if err := l.folder(path.Dir(name)); err != nil {
			return err
		}
		return addFile(l.tar, name, int64(info.Mode().Perm()), body)
	})
}

func (l *layerWriter) link(name, target string) error {
	name = strings.TrimPrefix(name, "/")
	if err := l.folder(path.Dir(name)); err != nil {
		return err
	}
	return l.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: epoch})
}

// folder makes a folder and those above it, once each, outermost first.
func (l *layerWriter) folder(name string) error {
	if name == "." || name == "/" || l.made[name] {
		return nil
	}
	if err := l.folder(path.Dir(name)); err != nil {
		return err
	}
	l.made[name] = true
	mode := int64(0o755)
	if name == "tmp" {
		mode = 0o1777
	}
	return l.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: epoch})
}

func addFile(w *tar.Writer, name string, mode int64, body []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body)), ModTime: epoch}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
