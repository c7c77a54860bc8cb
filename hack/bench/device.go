package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

const sectorBytes = 512 // of /proc/diskstats, whatever the device has

// deviceWritten is what the device below dir was given to write so far, by all
// processes; 0 where there is no device. What Linux accounts to a process is no
// measure: a few bytes written again in a file's page count as all pages that
// the cache holds as one piece with it, which was 256 kB a put.
func deviceWritten(dir string) (float64, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, nil
	}
	text, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return 0, err
	}
	major, minor := st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00
	return sectorsWritten(string(text), fmt.Sprint(major), fmt.Sprint(minor)) * sectorBytes, nil
}

// sectorsWritten finds the tenth field of the device's line.
func sectorsWritten(diskstats, major, minor string) (n float64) {
	for line := range strings.Lines(diskstats) {
		if f := strings.Fields(line); len(f) > 9 && f[0] == major && f[1] == minor {
			_, _ = fmt.Sscan(f[9], &n) // else it stays 0
		}
	}
	return n
}
