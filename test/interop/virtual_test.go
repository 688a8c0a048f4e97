package interop_test

import (
	"os/exec"
	"testing"
)

// TestWatchboxJSWithAClockOfItsOwn runs watchbox.js in Node, with a clock and a network of testdata/world.mjs.
func TestWatchboxJSWithAClockOfItsOwn(t *testing.T) {
	for _, script := range []string{"ways.mjs", "kicks.mjs"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("node", "--test", "testdata/"+script).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
