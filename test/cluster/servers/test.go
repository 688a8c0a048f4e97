//go:build !windows

package servers

import (
	"os"
	"testing"
)

// ForTest runs n servers until the test ends. If it fails, their logs are shown.
func ForTest(t testing.TB, n int) Servers {
	t.Helper()
	dir, err := TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	all, err := Start(dir, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all.Kill()
		if t.Failed() {
			for _, s := range all {
				t.Logf("log of %s:\n%s", s.Name, s.Log())
			}
		}
	})
	return all
}
