package jetstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// leader is a stream whose leader says where the stream ends.
type leader struct {
	jetstream.Stream
	end func(passed time.Duration) (store.Seq, error)

	began time.Time
}

func (s *leader) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	end, err := s.end(time.Since(s.began))
	return &jetstream.StreamInfo{State: jetstream.StreamState{LastSeq: uint64(end)}}, err
}

// TestAPositionIsReachedThoughTheLeaderSaysSoLater has a position that a hub which is behind reaches after three seconds.
func TestAPositionIsReachedThoughTheLeaderSaysSoLater(t *testing.T) {
	const pos = 10
	for name, c := range map[string]struct {
		end  func(passed time.Duration) (store.Seq, error)
		want bool
	}{
		"it knows": {func(time.Duration) (store.Seq, error) { return pos, nil }, true},
		"it is late": {func(passed time.Duration) (store.Seq, error) {
			return min(pos, pos-1+store.Seq(passed/time.Second)), nil
		}, true},
		"there is none": {func(time.Duration) (store.Seq, error) { return 0, nats.ErrNoResponders }, true},
		"it is the end": {func(time.Duration) (store.Seq, error) { return pos - 1, nil }, false},
		"one is elected": {func(passed time.Duration) (store.Seq, error) {
			if passed < 2500*time.Millisecond {
				return 0, nats.ErrNoResponders
			}
			return pos, nil
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Log{stream: &leader{end: c.end, began: time.Now()}}
				l.ctx = t.Context()
				l.tail = newTail(l)
				time.AfterFunc(3*time.Second, func() {
					l.tail.mu.Lock()
					defer l.tail.mu.Unlock()
					l.tail.reached = pos
					l.arrived(l.tail)
				})
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if got := l.Reach(ctx, pos); got != c.want {
					t.Errorf("after %v, Reach returns %v", time.Since(l.stream.(*leader).began), got)
				}
				time.Sleep(5 * time.Second) // the timer has fired
			})
		})
	}
}
