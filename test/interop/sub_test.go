package interop_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestWatchboxSubSurvivesRestarts(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "watchbox")
	if out, err := exec.Command("go", "-C", "../..", "build", "-o", bin, "./cmd/watchbox").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := serve(t)
	survive(t, s, func(c *crowd) {
		each(t, func(ctx context.Context, i int) {
			shell(ctx, t, func(line []byte) { c.hear(i, line) }, bin, "sub", "a", "--since", "all", "--json", "--max-wait", "100ms", "--url", s.url(""))
		})
	})
}
