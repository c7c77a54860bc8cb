//go:build !unix || solaris || aix

package disk

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock that the kernel frees, two processes could
// write one data dir.
func lockFile(*os.File) error { return errors.ErrUnsupported }

// syncFolder does nothing: these platforms cannot sync a folder.
func syncFolder(*os.File) error { return nil }
