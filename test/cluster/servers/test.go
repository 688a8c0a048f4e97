//go:build !windows

package servers

import (
	"os"
	"testing"
)

// ForTest runs n servers until the test ends. If it fails, their logs are shown. Settings are added to their configuration.
func ForTest(t testing.TB, n int, settings ...string) Servers {
	t.Helper()
	dir, err := TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	all, err := Start(dir, n, settings...)
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
