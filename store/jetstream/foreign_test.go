package jetstream

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
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
