package interop_test

import (
	"bytes"
	"context"
	"strconv"
	"testing"
)

// The package eventsource of npm, a hundred in one process of Node.
func TestNodeEventSourceSurvivesRestarts(t *testing.T) {
	s := serve(t)
	survive(t, s, func(c *crowd) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			shell(ctx, t, func(line []byte) {
				client, data, _ := bytes.Cut(line, []byte(" "))
				c.hear(number(t, string(client)), data)
			}, "node", "testdata/listen.mjs", s.url("/v1/groups/a?since=all"), strconv.Itoa(clients))
		}()
		t.Cleanup(func() { cancel(); <-ended })
	})
}
