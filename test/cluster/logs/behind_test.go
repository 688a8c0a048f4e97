//go:build !windows

package logs

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// stalled returns two logs of a stream, which have what the first one does. Until the second one is released, it reads nothing more.
func stalled(t *testing.T, first func(a *jetstream.Log)) (a, b *jetstream.Log, release func()) {
	t.Helper()
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), Times: patient}
	a, b = open(t, o), open(t, o)
	first(a)
	must(t, b.CatchUp(t.Context()))
	return a, b, stall(t, a, b)
}

// stall makes b wait, as for the delivery of what it has placed, and returns when it does. a appends messages to the group filler.
func stall(t *testing.T, a, b *jetstream.Log) (release func()) {
	t.Helper()
	stalls, released := make(chan struct{}), make(chan struct{})
	var stall, end sync.Once
	b.Pace(func(context.Context) {
		stall.Do(func() { close(stalls) })
		<-released
	})
	release = func() { end.Do(func() { close(released) }) }
	t.Cleanup(release) // before the logs are closed
	eventually(t, "the log stalls", func() bool {
		add(t, a, text("filler", "x"))
		select {
		case <-stalls:
			return true
		default:
			return false
		}
	})
	return release
}

// soon calls release when a log that does not wait for it would have been done for long.
func soon(release func()) { time.AfterFunc(200*time.Millisecond, release) }

// TestAPurgeEvictsWhatAnotherHubHasAnswered purges a group at a hub that has not read any of its messages yet, or has read some.
func TestAPurgeEvictsWhatAnotherHubHasAnswered(t *testing.T) {
	for _, known := range []bool{false, true} {
		a, b, release := stalled(t, func(a *jetstream.Log) {
			if known {
				add(t, a, text("x", "known"))
			}
		})
		m := store.Message{Group: "x", Time: time.Now(), Msg: store.AppendQuote(nil, "kept"), Retain: true}
		add(t, a, text("x", "new"), m.Entry(nil))
		soon(release)
		must(t, b.Purge("x"))
		must(t, a.CatchUp(t.Context()))
		for _, l := range []*jetstream.Log{a, b} {
			if h := read(t, l, "x", 0); h.n > 0 || h.gap == 0 {
				t.Errorf("the hub knew some messages: %v: after the purge: %v", known, h)
			}
			if g, _ := l.Groups(store.GroupQuery{Prefix: "x", Limit: 1}); len(g) > 0 {
				t.Errorf("the hub knew some messages: %v: after the purge: %+v", known, g)
			}
		}
	}
}

// TestTheLastPolicyThatWasSetHolds sets a policy at a hub that has it already, and has not read yet that another hub has changed it.
func TestTheLastPolicyThatWasSetHolds(t *testing.T) {
	first, second := store.Policy{MaxMessages: 5}, store.Policy{MaxMessages: 9}
	for _, last := range []store.Policy{first, {}} {
		a, b, release := stalled(t, func(a *jetstream.Log) { must(t, a.SetPolicy(filters("x")[0], last)) })
		must(t, a.SetPolicy(filters("x")[0], second))
		soon(release)
		must(t, b.SetPolicy(filters("x")[0], last))
		must(t, a.CatchUp(t.Context()))
		for _, l := range []*jetstream.Log{a, b} {
			if own, _ := l.OwnPolicy(filters("x")[0]); own != last {
				t.Errorf("the policy is %+v, %+v was set last", own, last)
			}
		}
	}
}

// TestALogThatIsAwayDoesNotSayThatThereIsNothingToDo purges a group and sets policies at a log that cannot know what other hubs have done.
func TestALogThatIsAwayDoesNotSayThatThereIsNothingToDo(t *testing.T) {
	v := &valve{}
	o := jetstream.Options{URL: servers.ForTest(t, 1).URL(), Stream: newStream(), Dialer: v, Times: quick}
	o.Times.Patience = time.Second
	b := open(t, o)
	p := store.Policy{MaxMessages: 5}
	must(t, b.SetPolicy(filters("x")[0], p))
	v.set(true)
	eventually(t, "the log is away", func() bool { return b.Err() != nil })
	for what, do := range map[string]func() error{
		"a group without messages is purged": func() error { return b.Purge("x") },
		"a policy is set again":              func() error { return b.SetPolicy(filters("x")[0], p) },
		"no policy is removed":               func() error { return b.SetPolicy(filters("y")[0], store.Policy{}) },
	} {
		began := time.Now()
		if err := do(); !errors.Is(err, store.ErrAway) {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(began); took > 5*o.Times.Patience {
			t.Errorf("%s: it took %v", what, took)
		}
	}
}
