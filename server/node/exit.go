package node

import "fmt"

// Exit codes of the process, so that whoever runs a member can tell what to do.
const (
	ExitFailure = 1 // anything else
	ExitUsage   = 2 // a flag or the config file is not valid
	ExitEmpty   = 3 // the data dir is empty, but this member has started before
	ExitForeign = 4 // the data dir is not this member's
	ExitNewer   = 5 // the data dir was written by a newer version
	ExitLocked  = 6 // another process uses the data dir
	ExitCorrupt = 7 // what is stored does not verify
	ExitRemoved = 8 // this member was removed from the cluster
	ExitFull    = 9 // the volume of the data dir has no room left
)

// ExitError is a failure with the exit code that tells it apart.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }

func (e *ExitError) Unwrap() error { return e.Err }

func exitf(code int, format string, args ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, args...)}
}
