// Command mkimage writes a container image of one layer as a docker-archive,
// the form that `docker load`, `ctr images import` and `kind load
// image-archive` read. It needs no container engine.
//
// The same files give the same bytes: times are zero, owners are root, and
// entries keep the order of the arguments.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const usage = `usage: mkimage -o FILE -t NAME:TAG [flags] SOURCE:DESTINATION...

Each SOURCE is a file or a folder; file modes are kept.
`

func main() {
	var spec imageSpec
	out := flag.String("o", "", "the archive to write")
	flag.StringVar(&spec.Tag, "t", "", "the image's NAME:TAG")
	flag.StringVar(&spec.User, "user", "", "the user that the image runs as")
	flag.Var((*list)(&spec.Entrypoint), "entrypoint", "one word of the entry point (repeat)")
	flag.Var((*list)(&spec.Cmd), "cmd", "one word of the default arguments (repeat)")
	flag.Var((*list)(&spec.Env), "env", "NAME=VALUE (repeat)")
	flag.Var((*list)(&spec.Links), "link", "LINK=TARGET, a symbolic link (repeat)")
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage); flag.PrintDefaults() }
	flag.Parse()
	spec.Files = flag.Args()
	if *out == "" || spec.Tag == "" || len(spec.Files) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := writeFile(*out, spec); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

// writeFile writes the archive beside its final name first, so that a reader
// never sees half of one.
func writeFile(name string, spec imageSpec) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // nothing is there once it has its name
	err = errors.Join(writeArchive(f, spec), f.Chmod(0o644), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}
