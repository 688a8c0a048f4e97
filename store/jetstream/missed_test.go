package jetstream

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestAHubThatTheLeaderDoesNotAnswerFindsOutWhatWasPurged holds that also for a hub whose connection and consumer go on.
func TestAHubThatTheLeaderDoesNotAnswerFindsOutWhatWasPurged(t *testing.T) {
	for name, unsure := range map[string]infoAnswer{
		"no answer":                      {err: context.DeadlineExceeded},
		"of a leader without a majority": {info: &jetstream.StreamInfo{Cluster: &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{{Offline: true}, {Offline: true}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &answering{}
				s.now.Store(&infoAnswer{info: &jetstream.StreamInfo{}})
				l := newHoled(t).l
				l.stream, l.unheard.wake = s, make(chan struct{}, 1)
				l.tail.sub = &nats.Subscription{}
				l.tail.heard.Store(time.Now().Add(1000 * time.Hour).UnixMilli()) // the consumer goes on
				ctx, cancel := context.WithCancel(t.Context())
				l.ctx, l.blocked = ctx, ctx
				l.running.Go(l.runQuestions)
				defer l.running.Wait()
				defer cancel()
				ask := func() {
					time.Sleep(askAfter * l.opts.Times.Beat)
					synctest.Wait()
				}
				if ask(); !l.unheard.knows() {
					t.Error("the leader has answered, but the hub takes itself for cut off")
				}
				s.now.Store(&unsure)
				if ask(); l.unheard.knows() {
					t.Error("the hub believes that it has heard of all purges")
				}
				s.now.Store(&infoAnswer{info: &jetstream.StreamInfo{}})
				ask()
				select {
				case <-l.unheard.wake:
				default:
					t.Error("the janitor is not told to find out")
				}
			})
		})
	}
}

// answering is a stream that answers what a test says.
type answering struct {
	jetstream.Stream
	now atomic.Pointer[infoAnswer]
}

type infoAnswer struct {
	info *jetstream.StreamInfo
	err  error
}

func (s *answering) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	a := s.now.Load()
	return a.info, a.err
}

// TestAHubWhoseClientDropsMessagesFindsOutWhatWasPurged holds that a hub that is too slow for what the servers tell does not rely on having heard
// of all purges.
func TestAHubWhoseClientDropsMessagesFindsOutWhatWasPurged(t *testing.T) {
	l := newHoled(t).l
	l.unheard.wake = make(chan struct{}, 1)
	l.failed(nats.ErrSlowConsumer)
	if l.unheard.knows() || len(l.unheard.wake) == 0 {
		t.Error("the hub believes that it has heard of all purges")
	}
}

// TestWhatWasStoredAfterTheCountIsNotMissing holds that a group explains only what was counted: others may have lost the rest.
func TestWhatWasStoredAfterTheCountIsNotMissing(t *testing.T) {
	for name, test := range map[string]struct {
		had, has, later int
		want            lack
	}{
		"nothing is lost":                   {10, 10, 3, lack{}},
		"evicted messages are there, too":   {10, 12, 0, lack{}},
		"all was counted":                   {10, 4, 0, lack{some: true}},
		"all was counted, and nothing left": {10, 0, 0, lack{some: true, gone: 1}},
		"some was stored later":             {10, 5, 3, lack{some: true}},
		"only what was stored later stays":  {10, 2, 3, lack{some: true, gone: 1}},
		"all was stored later":              {10, 4, 10, lack{some: true}},
		"all was stored later, and is lost": {10, 0, 10, lack{some: true}},
		"evicted ones were stored later":    {10, 0, 30, lack{some: true}},
	} {
		t.Run(name, func(t *testing.T) {
			var n lack
			if n.add(test.had, test.has, test.later, max(test.has-test.later, 0)); n != test.want {
				t.Errorf("%+v, want %+v", n, test.want)
			}
		})
	}
}

// TestAHubThatCannotFindOutWhatWasPurgedSaysSoOnce holds that it does so after a few turns, and again when it is cut off once more.
func TestAHubThatCannotFindOutWhatWasPurgedSaysSoOnce(t *testing.T) {
	l := newHoled(t).l
	l.tidying = t.Context()
	var logged bytes.Buffer
	l.opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	j := &janitor{l: l}
	for times := range 2 {
		l.unheard.begin()
		for turn := range 3 * fewTurns {
			if err := j.learn(t.Context()); err == nil { // there is no connection
				t.Fatal("the hub has found out")
			}
			want := times
			if turn+1 >= fewTurns {
				want++
			}
			if n := strings.Count(logged.String(), "several times"); n != want {
				t.Fatalf("it has said so %d times after %d turns: %s", n, turn+1, &logged)
			}
		}
		now, _ := l.unheard.state()
		l.unheard.end(now)
	}
}

// TestTheJanitorDoesNotGoOnWhenTheConnectionIsLost loses it, and loses it again while the janitor finds out what was purged. A leader
// that still does not answer ends no work.
func TestTheJanitorDoesNotGoOnWhenTheConnectionIsLost(t *testing.T) {
	l := newHoled(t).l
	l.tidying = t.Context()
	j := &janitor{l: l}
	for n := range 3 {
		j.try(func(ctx context.Context) error {
			if n > 0 {
				l.unheard.begin()
			}
			if ctx.Err() != nil {
				t.Errorf("cut %d: the work has ended before", n)
			}
			if l.unheard.cut(); ctx.Err() == nil {
				t.Errorf("cut %d: the work goes on", n)
			}
			return ctx.Err()
		})
	}
}

// TestOnlyMarksOfAFinishedTellingSayWhatAnotherHubHasTold holds that a mark which a hub has read before it was cut off tells nothing, and
// neither does one of a hub that may have died before it had told everything.
func TestOnlyMarksOfAFinishedTellingSayWhatAnotherHubHasTold(t *testing.T) {
	h := newHoled(t)
	l := h.l
	l.unheard.follow(l.tail.position)
	told := func() bool { return l.notes.lossesAfter(l.unheard.heard())[partOf("g")] }
	finished := func(version uint64) record {
		return record{flags: isNote, key: toldKey, value: []byte("{}"), version: version, by: appendID{1, version}}
	}
	h.feed(1, message(1, 0))
	h.feed(2, marked(t, 1, "g", 1))
	h.feed(3, finished(1))
	l.unheard.begin()
	if told() {
		t.Error("the mark was written before the hub was cut off")
	}
	h.feed(4, marked(t, 2, "g", 1))
	l.unheard.begin() // it does not begin anew
	if told() {
		t.Error("another hub has not told everything yet")
	}
	h.feed(5, finished(2))
	if !told() {
		t.Error("another hub has told what is missing")
	}
}
