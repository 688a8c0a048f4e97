package jetstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// purgedStream counts the purges.
type purgedStream struct {
	jetstream.Stream
	purges int
}

func (s *purgedStream) Purge(context.Context, ...jetstream.StreamPurgeOpt) error {
	s.purges++
	return nil
}

// TestNothingIsRemovedWhileTheStreamMayBeAnother has a janitor that knows positions of a stream which its tail does not read at the moment.
func TestNothingIsRemovedWhileTheStreamMayBeAnother(t *testing.T) {
	l, s := newHoled(t).l, &purgedStream{}
	l.stream = s
	j := &janitor{l: l}
	if err := j.purge(t.Context(), "wb.S.m.g", 5); !errors.Is(err, errReplaced) || s.purges > 0 {
		t.Errorf("%d purges: %v", s.purges, err)
	}
	l.tail.sub = new(nats.Subscription)
	l.tail.heard.Store(time.Now().Add(time.Hour).UnixMilli())
	if err := j.purge(t.Context(), "wb.S.m.g", 5); err != nil || s.purges != 1 {
		t.Errorf("%d purges of the stream that the tail reads: %v", s.purges, err)
	}
}
