package jetstream

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// asks returns a log whose stream has a leader.
func asks(t *testing.T, end func(passed time.Duration) (store.Seq, error)) *Log {
	l := &Log{stream: &leader{end: end, began: time.Now()}, mem: memory.New(memory.Options{Epoch: "now"}), ctx: t.Context()}
	l.blocked, l.unblock = context.WithCancel(l.ctx)
	l.tail = newTail(l)
	return l
}

// TestClientsThatComeTogetherAskTheLeaderTogether has a thousand clients with positions that the stream does not have, as after a crash
// of the servers.
func TestClientsThatComeTogetherAskTheLeaderTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, within = 1000, time.Second
		var asked atomic.Int64
		l := asks(t, func(time.Duration) (store.Seq, error) {
			asked.Add(1)
			time.Sleep(5 * time.Millisecond)
			return 10, nil
		})
		defer l.unblock()
		began := time.Now()
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				time.Sleep(time.Duration(i) * within / clients)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				got, err := l.Reach(ctx, store.ID{Epoch: "now", Seq: 11})
				if took := time.Since(began); got || err != nil || took < leaderLate {
					t.Errorf("after %v: %v, %v", took, got, err)
				}
			})
		}
		all.Wait()
		if n, most := asked.Load(), int64(time.Since(began)/answerAge)+1; n > most {
			t.Errorf("the leader was asked %d times, want at most %d", n, most)
		}
	})
}

// TestReachEndsInTimeThoughTheClientOfNATSDoesNot has a client of NATS that waits for a server to accept a connection.
func TestReachEndsInTimeThoughTheClientOfNATSDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := asks(t, func(time.Duration) (store.Seq, error) {
			time.Sleep(time.Minute)
			return 10, nil
		})
		defer l.running.Wait()
		defer l.unblock()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		got, err := l.Reach(ctx, store.ID{Epoch: "now", Seq: 11})
		if took := time.Since(began); got || err != store.ErrAway || took > 5*time.Second {
			t.Errorf("after %v: %v, %v", took, got, err)
		}
	})
}

// TestCallersOfCatchUpShareTheNextAnswer has a thousand callers in a second. Each of them needs an answer to a question that was asked after
// its call began: an earlier one may not tell of a message that another hub has answered before the call.
func TestCallersOfCatchUpShareTheNextAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, within, takes = 1000, time.Second, 5 * time.Millisecond
		var asked atomic.Int64
		began := time.Now()
		l := asks(t, func(passed time.Duration) (store.Seq, error) {
			asked.Add(1)
			time.Sleep(takes)
			return store.Seq(passed), nil // what was stored when the leader was asked
		})
		defer l.running.Wait()
		defer l.unblock()
		l.tail.reached = store.Seq(time.Hour)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				time.Sleep(time.Duration(i) * within / callers)
				stored := store.Seq(time.Since(began))
				if i%2 == 0 {
					if err := l.CatchUp(t.Context()); err != nil {
						t.Error(err)
					}
				} else if i := l.askEnd.askNext(t.Context(), l, l.leaderEnd); i.err != nil || i.answer.Seq < stored {
					t.Errorf("the answer tells of messages up to %d, %d were stored before: %v", i.answer.Seq, stored, i.err)
				}
				if took := time.Since(began) - time.Duration(stored); took > 2*takes {
					t.Errorf("it took %v", took)
				}
			})
		}
		all.Wait()
		if n, most := asked.Load(), int64(time.Since(began)/takes)+1; n > most {
			t.Errorf("the leader was asked %d times, want at most %d", n, most)
		}
	})
}

// TestCatchUpWaitsUntilTheLeaderAnswers has servers that elect a leader for a while, or for longer than the caller waits. Meanwhile one answers that
// does not lead, or does not know that it no longer does.
func TestCatchUpWaitsUntilTheLeaderAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		election time.Duration
		answer   error // meanwhile
		want     error
	}{
		"soon":    {2 * time.Second, errNoLeader, nil},
		"late":    {time.Minute, errNoLeader, store.ErrAway},
		"close":   {time.Minute, errNoLeader, store.ErrClosed},
		"cut off": {time.Minute, errMinority, store.ErrAway},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := asks(t, func(passed time.Duration) (store.Seq, error) {
					if passed < c.election {
						return 0, c.answer
					}
					return 10, nil
				})
				defer l.running.Wait()
				defer l.unblock()
				l.tail.reached = 10
				if c.want == store.ErrClosed {
					time.AfterFunc(time.Second, l.unblock)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if err := l.CatchUp(ctx); err != c.want {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
		})
	}
}

// TestCatchUpDoesNotBelieveWhoLacksWhatTheHubHasRead has a leader that is late, and one of another stream. A call that believed it would answer
// from what the hub had read before other hubs answered theirs, or use positions in a stream in which they do not hold.
func TestCatchUpDoesNotBelieveWhoLacksWhatTheHubHasRead(t *testing.T) {
	const after = 2 * time.Second
	for name, c := range map[string]struct {
		end   store.Seq // before a stream or leader is as the hub knows it
		other bool      // it is another stream, which the hub finds out
	}{
		"a leader that is late":                  {end: 9},
		"another stream, which is shorter":       {end: 3, other: true},
		"another stream, which is not shorter":   {end: 10, other: true},
		"another stream, which is longer by far": {end: 100, other: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := asks(t, func(passed time.Duration) (store.Seq, error) {
					if passed < after || c.other {
						return c.end, nil
					}
					return 10, nil
				})
				defer l.running.Wait()
				defer l.unblock()
				l.opts = Options{}.withDefaults()
				l.notes.init()
				l.tail.at, l.tail.reached = 10, 10
				if c.other {
					l.stream.(*leader).created = time.Now()
					time.AfterFunc(after, func() {
						l.tail.renew("next", &jetstream.StreamInfo{Created: l.stream.(*leader).created})
						l.tail.mu.Lock()
						defer l.tail.mu.Unlock()
						l.tail.at = c.end
						l.tail.flush()
					})
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if err := l.CatchUp(ctx); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < after {
					t.Errorf("after %v it takes the hub for caught up", took)
				}
			})
		})
	}
}

// TestReachEndsWhenAnEpochDoes has a position of an epoch that ends while it is not certain whether the stream has it.
func TestReachEndsWhenAnEpochDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := asks(t, func(time.Duration) (store.Seq, error) { return 3, nil })
		defer l.running.Wait()
		defer l.unblock()
		l.opts = Options{}.withDefaults()
		l.notes.init()
		l.tail.at, l.tail.reached = 10, 10
		time.AfterFunc(3*time.Second, func() { l.tail.renew("next", &jetstream.StreamInfo{}) })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if got, err := l.Reach(ctx, store.ID{Epoch: "now", Seq: 11}); got || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	})
}
