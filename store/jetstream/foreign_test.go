package jetstream

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestAPurgeIsFoundThoughItsRequestIsLate holds that a request that arrives after a purge was told is taken for it, though an older request,
// which has removed nothing, could be the one. One that arrives much later is for another purge.
func TestAPurgeIsFoundThoughItsRequestIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &purges{wake: make(chan struct{}, 1), groups: func(*purged) {}}
		ask := func(filter string) { p.request(purged{Filter: filter, at: time.Now()}) }
		ask("mistyped")
		<-time.After(time.Second)
		p.happened()
		if !p.owes() {
			t.Error("readers do not wait for the request")
		}
		<-time.After(requestLate / 2)
		ask("right")
		<-time.After(requestLate)
		if p.owes() {
			t.Error("readers wait forever")
		}
		ask("later")
		var known []string
		for _, x := range p.list {
			known = append(known, x.Filter)
		}
		if want := []string{"mistyped", "right"}; !slices.Equal(known, want) {
			t.Errorf("purges that may have happened: %q, want %q", known, want)
		}
	})
}

// TestAPurgeWithoutARequestMayHaveRemovedAnything holds that all groups are compared with the stream if no request is known.
func TestAPurgeWithoutARequestMayHaveRemovedAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &purges{wake: make(chan struct{}, 1), groups: func(*purged) {}}
		p.happened()
		<-time.After(2 * requestLate)
		if p.owes() || len(p.list) != 1 || p.list[0].Filter != "" {
			t.Errorf("purges: %+v", p.list)
		}
	})
}

// TestPurgesOfAStreamThatWasReplacedAreForgotten holds that also for a purge that was only asked for, and for one without a request.
func TestPurgesOfAStreamThatWasReplacedAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &purges{wake: make(chan struct{}, 1), groups: func(*purged) {}}
		p.described(purged{Filter: "described", at: time.Now()})
		p.happened()
		<-time.After(requestLate)
		p.request(purged{Filter: "asked for", at: time.Now()})
		p.forget()
		p.owes()
		p.happened()
		if len(p.list) > 0 {
			t.Errorf("purges of the new stream: %+v", p.list)
		}
	})
}

// TestAPurgeOfTheOldStreamIsNotMarkedInTheNewOne has a hub that hears of a purge, and reads another stream when it writes what is missing there.
func TestAPurgeOfTheOldStreamIsNotMarkedInTheNewOne(t *testing.T) {
	h := newHoled(t)
	l := h.l
	l.subjects, l.stream, l.nc = subjectsOf("S"), &countedStream{end: end}, &nats.Conn{}
	l.purges.groups = l.purgedGroups
	h.feed(1, message(1, 0))
	l.purges.described(purged{at: time.Now()})
	h.renew("new", &jetstream.StreamInfo{})
	h.feed(1, message(2, 0))
	h.sub = &nats.Subscription{}
	h.heard.Store(time.Now().Add(time.Hour).UnixMilli())
	if err := (&janitor{l: l}).markPurges(t.Context()); !errors.Is(err, errRenewed) {
		t.Errorf("a mark is sent: %v", err)
	}
}
