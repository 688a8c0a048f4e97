package jetstream

import (
	"context"
	"testing"
	"time"
)

// stopped is a context whose timer has not fired yet, since the process was stopped.
type stopped struct {
	context.Context
	end time.Time
}

func (s stopped) Deadline() (time.Time, bool) { return s.end, true }

func TestTheTimeOfAnAppendIsOverThoughItsTimerHasNotFired(t *testing.T) {
	for _, left := range []time.Duration{-time.Minute, time.Minute} {
		if is := isOver(stopped{t.Context(), time.Now().Add(left)}); is != (left < 0) {
			t.Errorf("with %v left, it is over: %v", left, is)
		}
	}
}
