//go:build !linux

package main

import "testing"

func throughPackets(t *testing.T, _ []*member) *links {
	t.Helper()
	t.Skip("network namespaces are Linux's")
	return nil
}
