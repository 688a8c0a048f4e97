//go:build !windows

package hubs

import (
	"fmt"
	"testing"
)

// ForTest runs n hubs with the same arguments until the test ends. If it fails, their logs are shown.
func ForTest(t testing.TB, program string, n int, args ...string) []*Hub {
	t.Helper()
	var all []*Hub
	dir := t.TempDir()
	t.Cleanup(func() {
		for _, h := range all {
			h.Kill()
			if t.Failed() {
				t.Logf("log of %s:\n%s", h.Name, h.Log())
			}
		}
	})
	for i := range n {
		h, err := Start(program, dir, fmt.Sprintf("h%d", i+1), args...)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
	for _, h := range all {
		if err := h.Ready(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}
