package interop_test

import (
	"context"
	"strconv"
	"testing"
)

// The clients from npm as docs/CLIENTS.md shows them, a hundred of each kind in one process of Node.
func TestNodeClientsSurviveRestarts(t *testing.T) {
	for _, name := range []string{"eventsource", "event-source-polyfill", "@microsoft/fetch-event-source"} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			script := snippet(t, "js", `from "`+name+`"`, s)
			survive(t, s, func(c *crowd) {
				process(t, c, "node", "testdata/snippet.mjs", script, strconv.Itoa(clients))
			})
		})
	}
}

// process runs a command that is a crowd of clients: it prints the number of a client before each message. It ends with
// the test.
func process(t *testing.T, c *crowd, name string, args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		shell(ctx, t, func(line []byte) { c.hearLine(line) }, name, args...)
	}()
	t.Cleanup(func() { cancel(); <-ended })
}
