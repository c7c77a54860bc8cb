// Command sbom writes what programs are made of, as a CycloneDX bill of
// materials: the Go modules that are linked into them, which the programs
// themselves tell, and the Debian packages whose libraries are.
//
// The same programs give the same bytes: it has no serial number, and its time
// is SOURCE_DATE_EPOCH.
package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	out := flag.String("o", "", "the file to write")
	version := flag.String("version", "", "the version of the programs")
	packages := flag.String("debian", "", "Debian packages whose libraries are linked, with commas between")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: sbom -o FILE -version V [-debian PACKAGE,...] PROGRAM...")
		os.Exit(2)
	}
	if err := run(*out, *version, *packages, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(out, version, packages string, programs []string) error {
	components, err := modules(programs)
	if err != nil {
		return err
	}
	if packages != "" {
		more, err := debian(strings.Split(packages, ","))
		if err != nil {
			return err
		}
		components = append(components, more...)
	}
	epoch, err := strconv.ParseInt(cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), "0"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	var names []cdx.Component
	for _, p := range programs {
		names = append(names, cdx.Component{Type: cdx.ComponentTypeApplication, Name: filepath.Base(p), Version: version})
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: time.Unix(epoch, 0).UTC().Format(time.RFC3339),
		Component: &cdx.Component{BOMRef: "metastore", Type: cdx.ComponentTypeApplication, Name: "metastore", Version: version, Components: &names},
	}
	bom.Components = &components
	var text bytes.Buffer
	if err := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return os.WriteFile(out, text.Bytes(), 0o644)
}

// modules are those in any of the programs, once each, and the Go that built them.
func modules(programs []string) ([]cdx.Component, error) {
	found := map[string]cdx.Component{}
	add := func(kind, path, version string) {
		ref := fmt.Sprintf("pkg:%s/%s@%s", kind, path, version)
		found[ref] = cdx.Component{BOMRef: ref, PackageURL: ref, Type: cdx.ComponentTypeLibrary, Name: path, Version: version}
	}
	for _, p := range programs {
		info, err := buildinfo.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", p, err)
		}
		add("golang", "stdlib", strings.TrimPrefix(info.GoVersion, "go"))
		for _, m := range info.Deps {
			m = replacement(m)
			add("golang", m.Path, m.Version)
		}
	}
	return sorted(found), nil
}

func replacement(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

// debian asks dpkg for the packages' versions.
func debian(packages []string) ([]cdx.Component, error) {
	found := map[string]cdx.Component{}
	for _, name := range packages {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${source:Package} ${Version}", name).Output()
		if err != nil {
			return nil, fmt.Errorf("version of the package %s: %w", name, err)
		}
		source, version, _ := strings.Cut(string(out), " ")
		ref := fmt.Sprintf("pkg:deb/debian/%s@%s", name, version)
		found[ref] = cdx.Component{
			BOMRef: ref, PackageURL: ref, Type: cdx.ComponentTypeLibrary, Name: name, Version: version,
			Description: "linked statically; source package " + source,
		}
	}
	return sorted(found), nil
}

func sorted(found map[string]cdx.Component) []cdx.Component {
	out := make([]cdx.Component, 0, len(found))
	for _, c := range found {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	return out
}
