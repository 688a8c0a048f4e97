package api_test

import (
	"context"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// TestProgramFailedIsFinal: nothing in the answer asks the client to send the message again.
func TestProgramFailedIsFinal(t *testing.T) {
	s := serve(t)
	s.hub.BeforePublish(func(context.Context, *watchbox.Message) error { panic("a mistake") })
	if a := s.wants(500, "program-failed", "POST /v1/groups/foo", "x"); a.header.Get("Retry-After") != "" {
		t.Errorf("the answer has %v", a.header)
	}
}
