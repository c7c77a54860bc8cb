package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// TestBillOfThisTest: the program that runs this test is made of what it uses.
func TestBillOfThisTest(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var bills [2][]byte
	for i := range bills {
		file := filepath.Join(t.TempDir(), "sbom.json")
		if err := run(file, "1.2.3", "", []string{self, self}); err != nil {
			t.Fatal(err)
		}
		if bills[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(bills[0], bills[1]) {
		t.Error("two bills of one program differ")
	}
	bom := &cdx.BOM{}
	if err := cdx.NewBOMDecoder(bytes.NewReader(bills[0]), cdx.BOMFileFormatJSON).Decode(bom); err != nil {
		t.Fatal(err)
	}
	if bom.Metadata.Timestamp != "2001-09-09T01:46:40Z" || bom.Metadata.Component.Version != "1.2.3" {
		t.Errorf("time %s, version %s", bom.Metadata.Timestamp, bom.Metadata.Component.Version)
	}
	for _, want := range []string{"github.com/CycloneDX/cyclonedx-go", "stdlib"} {
		n := 0
		for _, c := range *bom.Components {
			if c.Name == want && c.Version != "" && c.PackageURL != "" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is there %d times", want, n)
		}
	}
}

func TestWhatIsNoProgramIsRefused(t *testing.T) {
	if err := run(filepath.Join(t.TempDir(), "sbom.json"), "1", "", []string{"main.go"}); err == nil {
		t.Error("main.go passes for a program")
	}
}

func TestOrderDoesNotDepend(t *testing.T) {
	got := sorted(map[string]cdx.Component{"b": {BOMRef: "b"}, "a": {BOMRef: "a"}, "c": {BOMRef: "c"}})
	if !slices.IsSortedFunc(got, func(x, y cdx.Component) int { return bytes.Compare([]byte(x.BOMRef), []byte(y.BOMRef)) }) {
		t.Errorf("got %v", got)
	}
}
