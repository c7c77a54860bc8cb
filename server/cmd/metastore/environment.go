package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

const variablePrefix = "ETCD_"

// variable is the environment variable of a flag.
func variable(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readEnvironment sets the flags that were not given from the environment, and
// remembers which variables are nobody's.
func (f *flags) readEnvironment(fs *pflag.FlagSet) error {
	if err := f.readEnvironmentOf(fs, func(string) bool { return true }); err != nil {
		return err
	}
	known := map[string]bool{variable("version"): true, variable("config-file"): true}
	fs.VisitAll(func(fl *pflag.Flag) { known[variable(fl.Name)] = true })
	if os.Getenv(variable("version")) != "" {
		f.note(slog.LevelWarn, "cannot set special environment variable", "key", variable("version"))
	}
	for _, env := range os.Environ() {
		if name, _, _ := strings.Cut(env, "="); strings.HasPrefix(name, variablePrefix) && !known[name] {
			f.note(slog.LevelWarn, "unrecognized environment variable", "environment-variable", name)
		}
	}
	return nil
}

// readEnvironmentOf sets the flags that wanted names. A variable beside the flag
// of the same meaning is refused, whether they agree or not: one of the two was
// forgotten.
func (f *flags) readEnvironmentOf(fs *pflag.FlagSet, wanted func(name string) bool) error {
	var errs []error
	fs.VisitAll(func(fl *pflag.Flag) {
		if !wanted(fl.Name) || slices.Contains(notFromEnvironment, fl.Name) || slices.Contains(retired, fl.Name) {
			return
		}
		name := variable(fl.Name)
		v := os.Getenv(name)
		switch {
		case v == "":
		case fl.Changed:
			errs = append(errs, fmt.Errorf("%s=%s and --%s=%s are both given: only one of them is allowed", name, v, fl.Name, fl.Value))
		default:
			if err := fs.Set(fl.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("%s=%s is not valid: %w", name, v, err))
				return
			}
			f.note(slog.LevelInfo, "recognized and used environment variable", "variable-name", name, "variable-value", v)
		}
	})
	return errors.Join(errs...)
}

// notFromEnvironment are flags that only a command line has.
var notFromEnvironment = []string{"help", "version", "config-file"}
