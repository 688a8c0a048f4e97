package jetstream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// leader is a stream whose leader says where the stream ends.
type leader struct {
	jetstream.Stream
	end func(passed time.Duration) (store.Seq, error)

	began   time.Time
	created time.Time
}

func (s *leader) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	end, err := s.end(time.Since(s.began))
	info := &jetstream.StreamInfo{Created: s.created, State: jetstream.StreamState{LastSeq: uint64(end)}}
	others := func(heard time.Duration) []*jetstream.PeerInfo {
		return []*jetstream.PeerInfo{{Name: "a", Active: heard}, {Name: "b", Active: heard}}
	}
	switch {
	case errors.Is(err, errNoLeader): // one of the other servers answers
		info.Cluster, err = &jetstream.ClusterInfo{Replicas: others(0)}, nil
	case errors.Is(err, errMinority): // a leader answers that is cut off from the others, and may have been replaced
		info.Cluster, err = &jetstream.ClusterInfo{Leader: "c", Replicas: others(4 * time.Second)}, nil
	}
	return info, err
}

// TestReachSaysNoOnlyIfTheLeaderIsCertain has a position that this hub reaches when it is no longer behind, or never.
func TestReachSaysNoOnlyIfTheLeaderIsCertain(t *testing.T) {
	const pos, never = 10, time.Hour
	has := func(time.Duration) (store.Seq, error) { return pos, nil }
	away := func(time.Duration) (store.Seq, error) { return 0, nats.ErrNoResponders }
	others := func(time.Duration) (store.Seq, error) { return pos - 1, errNoLeader }
	replaced := func(time.Duration) (store.Seq, error) { return pos - 1, errMinority }
	ends := func(time.Duration) (store.Seq, error) { return pos - 1, nil }
	for name, c := range map[string]struct {
		end     func(passed time.Duration) (store.Seq, error)
		behind  time.Duration // how long this hub is
		blocked time.Duration // when the log is
		want    bool
		err     error
	}{
		"it has it":              {has, 3 * time.Second, never, true, nil},
		"this hub is far behind": {has, never, never, false, store.ErrAway},
		"it is late": {func(passed time.Duration) (store.Seq, error) {
			return min(pos, pos-1+store.Seq(passed/time.Second)), nil
		}, 3 * time.Second, never, true, nil},
		"there is none":                        {away, never, never, false, store.ErrAway},
		"there is none, and others answer":     {others, never, never, false, store.ErrAway},
		"it may not lead any more":             {replaced, never, never, false, store.ErrAway},
		"there is none, and this hub reads on": {away, 3 * time.Second, never, true, nil},
		"it is the end":                        {ends, never, never, false, nil},
		"one is elected": {func(passed time.Duration) (store.Seq, error) {
			if passed < 2500*time.Millisecond {
				return away(passed)
			}
			return has(passed)
		}, 3 * time.Second, never, true, nil},
		"one is elected, and does not have it": {func(passed time.Duration) (store.Seq, error) {
			if passed < 2500*time.Millisecond {
				return away(passed)
			}
			return ends(passed)
		}, never, never, false, nil},
		"there is none, and then it is late": {func(passed time.Duration) (store.Seq, error) {
			switch {
			case passed < 2500*time.Millisecond:
				return away(passed)
			case passed < 3500*time.Millisecond:
				return ends(passed)
			}
			return has(passed)
		}, 4 * time.Second, never, true, nil},
		"the log is closed while it is away":          {away, never, time.Second, false, store.ErrClosed},
		"the log is closed while this hub is behind":  {has, never, time.Second, false, store.ErrClosed},
		"the log is closed while it does not have it": {ends, never, time.Second, false, store.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Log{stream: &leader{end: c.end, began: time.Now()}, mem: memory.New(memory.Options{Epoch: "now"})}
				l.ctx = t.Context()
				l.blocked, l.unblock = context.WithTimeout(l.ctx, c.blocked)
				defer l.unblock()
				l.tail = newTail(l)
				time.AfterFunc(c.behind, func() {
					l.tail.mu.Lock()
					defer l.tail.mu.Unlock()
					l.tail.reached = pos
					l.arrived(l.tail)
				})
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if got, err := l.Reach(ctx, store.ID{Epoch: "now", Seq: pos}); got != c.want || err != c.err {
					t.Errorf("after %v, Reach returns %v, %v", time.Since(l.stream.(*leader).began), got, err)
				}
				time.Sleep(never) // the timer has fired
			})
		})
	}
}

// TestReachKnowsEpochsThatHaveEnded asks nobody, since all clients come with such ids when an epoch has begun.
func TestReachKnowsEpochsThatHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l := &Log{mem: memory.New(memory.Options{Epoch: "now"})}
		l.blocked = ctx
		l.tail = newTail(l)
		l.tail.past = []string{"first", "second"}
		began := time.Now()
		for _, epoch := range l.tail.past {
			if got, err := l.Reach(ctx, store.ID{Epoch: epoch, Seq: 1}); got || err != nil {
				t.Errorf("%s: %v, %v", epoch, got, err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestALogThatIsOpenedWaitsForALeader has a stream whose leader answers after ten seconds, and then refuses.
func TestALogThatIsOpenedWaitsForALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := &jetstream.APIError{ErrorCode: 10023}
		l := &Log{opts: Options{}.withDefaults(), ctx: t.Context()}
		l.stream = &leader{began: time.Now(), end: func(passed time.Duration) (store.Seq, error) {
			if passed < 10*time.Second {
				return 0, context.DeadlineExceeded
			}
			return 0, refused
		}}
		if err := newTail(l).start(t.Context()); !errors.Is(err, refused) {
			t.Errorf("the log is not opened: %v", err)
		}
	})
}
