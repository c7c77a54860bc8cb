//go:build !linux

package bench

import "errors"

func readProcess(int) (process, error) {
	return process{}, errors.New("--server-pid: what processes use is only known on Linux")
}
