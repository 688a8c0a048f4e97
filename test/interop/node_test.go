package interop_test

import (
	"bytes"
	"context"
	"strconv"
	"testing"
)

// Clients from npm, a hundred of each kind in one process of Node.
func TestNodeClientsSurviveRestarts(t *testing.T) {
	for name, script := range map[string]string{
		"eventsource":                   "testdata/listen.mjs",
		"event-source-polyfill":         "testdata/polyfill.mjs",
		"@microsoft/fetch-event-source": "testdata/fetch.mjs",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			survive(t, s, func(c *crowd) {
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					shell(ctx, t, func(line []byte) {
						client, data, _ := bytes.Cut(line, []byte(" "))
						c.hear(number(t, string(client)), data)
					}, "node", script, s.url("/v1/groups/a?since=all"), strconv.Itoa(clients))
				}()
				t.Cleanup(func() { cancel(); <-ended })
			})
		})
	}
}
