package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"metastore.io/metastore/server/etcdfile"
	"metastore.io/metastore/server/node"
)

// Reason is why something failed, in one word for programs.
type Reason string

// All reasons.
const (
	InvalidArgument     Reason = "InvalidArgument"
	Unreachable         Reason = "Unreachable"
	AccessDenied        Reason = "AccessDenied"
	DestinationFull     Reason = "DestinationFull"
	DestinationReadOnly Reason = "DestinationReadOnly"
	DestinationMissing  Reason = "DestinationMissing"
	NotFound            Reason = "NotFound"
	AlreadyExists       Reason = "AlreadyExists"
	Corrupt             Reason = "Corrupt"
	WrongCluster        Reason = "WrongCluster"
	NewerFormat         Reason = "NewerFormat"
	WrongKey            Reason = "WrongKey"
	RestoreTestFailed   Reason = "RestoreTestFailed"
	NoSpace             Reason = "NoSpace"
	Failed              Reason = "Failed"
)

// Error is a failure with its reason.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// failf makes an Error.
func failf(r Reason, format string, args ...any) error {
	return &Error{Reason: r, Err: fmt.Errorf(format, args...)}
}

// withReason gives an error a reason unless it has one.
func withReason(r Reason, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Reason: r, Err: err}
}

// ReasonOf is an error's reason.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	var exit *node.ExitError
	if errors.As(err, &exit) && exit.Code == node.ExitUsage {
		return InvalidArgument
	}
	return Failed
}

// full says that a file system has no room left. RocksDB tells it by its text.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		err != nil && strings.Contains(strings.ToLower(err.Error()), "no space left on device")
}

// scratchError is a failure in the scratch folder or beside the data dir.
func scratchError(what string, err error) error {
	if full(err) {
		return failf(NoSpace, "%s: %w", what, err)
	}
	return withReason(Failed, fmt.Errorf("%s: %w", what, err))
}

// folderError is a failure in a folder that is a destination.
func folderError(what string, err error) error {
	r := Failed
	switch {
	case full(err):
		r = DestinationFull
	case errors.Is(err, syscall.EROFS):
		r = DestinationReadOnly
	case errors.Is(err, fs.ErrPermission):
		r = AccessDenied
	case errors.Is(err, fs.ErrNotExist):
		r = NotFound
	}
	return withReason(r, fmt.Errorf("%s: %w", what, err))
}

// fileError is what etcdfile says against a file.
func fileError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return withReason(Failed, err)
	case errors.Is(err, etcdfile.ErrNewer):
		return withReason(NewerFormat, err)
	case errors.Is(err, fs.ErrNotExist):
		return withReason(NotFound, err)
	}
	return withReason(Corrupt, err)
}
