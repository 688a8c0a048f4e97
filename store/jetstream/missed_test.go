package jetstream

import (
	"context"
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
