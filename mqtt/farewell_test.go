package mqtt

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
)

// unsure is the log of a hub that cannot store documents of sessions for a while.
type unsure struct {
	*sharedtest.Log
	shared *sharedtest.Cluster
	on     atomic.Bool
}

func (u *unsure) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	if u.on.Load() && len(notes) > 0 && strings.HasPrefix(notes[0].Key, "session/") {
		return store.ID{}, store.ErrUnknownOutcome
	}
	return u.Log.AppendNoted(ctx, entries, notes...)
}

// inUnsureRig runs a test with two hubs. The log of the first one is unsure.
func inUnsureRig(t *testing.T, test func(a, b *rig, log *unsure)) {
	synctest.Test(t, func(t *testing.T) {
		shared := sharedtest.New()
		log := &unsure{Log: shared.Open(), shared: shared}
		a, b := &rig{T: t}, &rig{T: t}
		a.begin(log)
		defer a.end()
		b.begin(shared.Open())
		defer b.end()
		test(a, b, log)
	})
}

// hasWill makes the client have a will in the group w.
func (c *client) hasWill(delay time.Duration) {
	c.Helper()
	d := &hub.Draft{Group: "w", Kind: hub.JSON, Data: []byte("1")}
	if err := c.hub.SetHoldingWill(context.Background(), access.Everything, c.conn.uid(), d, delay); err != nil {
		c.Fatal(err)
	}
	c.conn.hasWill = true
}

// wills returns how many wills were sent.
func (u *unsure) wills() (n int) {
	synctest.Wait()
	for _, m := range u.shared.Messages() {
		if m.Group == "w" {
			n++
		}
	}
	return n
}

// isGone fails the test unless the hub has no session of a client.
func (r *rig) isGone(c *client) {
	r.Helper()
	if s, err := r.hub.Session(c.conn.uid()); !errors.Is(err, sessions.ErrUnknown) {
		r.Errorf("the session is %+v, %v", s, err)
	}
}

// TestADisconnectWhoseWillCannotBeRemovedAtOnce has clients disconnect while the log takes no documents of sessions. Their
// sessions are gone at all hubs soon after it takes them again, and their wills are not sent.
func TestADisconnectWhoseWillCannotBeRemovedAtOnce(t *testing.T) {
	for _, expiry := range []time.Duration{0, time.Hour} {
		for _, delay := range []time.Duration{0, min(expiry, 10*time.Minute)} {
			inUnsureRig(t, func(a, b *rig, log *unsure) {
				c := a.connect(options{id: "a", expiry: expiry})
				c.hasWill(delay)
				log.on.Store(true)
				c.conn.graceful = true
				c.leave()
				time.Sleep(5 * time.Second)
				log.on.Store(false)
				time.Sleep(time.Minute)
				a.isGone(c)
				b.isGone(c)
				time.Sleep(2 * time.Hour)
				if n := log.wills(); n > 0 {
					t.Errorf("expiry %v, delay %v: %d wills were sent", expiry, delay, n)
				}
			})
		}
	}
}

// TestADisconnectAtAHubThatIsCutOff has the hub cut off for a moment, or until the other one gives it up, which it learns later.
func TestADisconnectAtAHubThatIsCutOff(t *testing.T) {
	for _, pause := range []time.Duration{store.SilentFor / 2, 3 * store.SilentFor} {
		inUnsureRig(t, func(a, b *rig, log *unsure) {
			c := a.connect(options{id: "a", expiry: time.Hour})
			c.hasWill(10 * time.Minute)
			time.Sleep(time.Minute)
			log.Cut()
			c.conn.graceful = true
			c.leave()
			time.Sleep(pause)
			log.Heal()
			time.Sleep(time.Minute)
			a.isGone(c)
			b.isGone(c)
			time.Sleep(2 * time.Hour)
			if n := log.wills(); n > 0 {
				t.Errorf("after %v, %d wills were sent", pause, n)
			}
		})
	}
}

// TestAWillIsSentWhenItsSessionEndsThoughThatCannotBeStoredAtOnce has a session that expires before the delay of its will has passed.
func TestAWillIsSentWhenItsSessionEndsThoughThatCannotBeStoredAtOnce(t *testing.T) {
	for _, expiry := range []time.Duration{0, time.Second, time.Minute} {
		inUnsureRig(t, func(a, b *rig, log *unsure) {
			c := a.connect(options{id: "a", expiry: time.Hour})
			c.hasWill(time.Hour)
			c.conn.expiry = expiry // of its DISCONNECT
			if expiry == 0 {
				log.on.Store(true)
			}
			c.leave()
			time.Sleep(max(0, expiry-time.Millisecond))
			log.on.Store(true)
			time.Sleep(5 * time.Second)
			log.on.Store(false)
			time.Sleep(30 * time.Second)
			a.isGone(c)
			b.isGone(c)
			if n := log.wills(); n != 1 {
				t.Errorf("expiry %v: %d wills were sent", expiry, n)
			}
		})
	}
}

// TestACleanStartWaitsForTheEndOfTheOldSession refuses the client while that end cannot be stored, since the old session's will
// would be the new one's.
func TestACleanStartWaitsForTheEndOfTheOldSession(t *testing.T) {
	inUnsureRig(t, func(a, b *rig, log *unsure) {
		o := options{id: "a", expiry: time.Hour}
		c := a.connect(o)
		c.hasWill(time.Hour)
		c.leave()
		log.on.Store(true)
		o.clean = true
		d := newConn(a.server, newPipe(), "127.0.0.1:1")
		d.version, d.key, d.grant, d.clean, d.expiry = 5, c.conn.key, access.Everything, true, time.Hour
		if _, _, err := a.server.open(d); !errors.Is(err, store.ErrUnknownOutcome) {
			t.Errorf("the client is admitted: %v", err)
		}
		log.on.Store(false)
		c = a.connect(o)
		if n := log.wills(); n != 1 || c.present {
			t.Errorf("%d wills were sent, and the session is present: %v", n, c.present)
		}
	})
}

// TestAGoodbyeHoldsThoughTheStreamHasNotBegun has the stream end by itself as soon as the connection is closed. Its session must not send the
// will then.
func TestAGoodbyeHoldsThoughTheStreamHasNotBegun(t *testing.T) {
	r := newRig(t)
	p := newPipe()
	c := &client{rig: r, pipe: p, conn: newConn(r.server, p, "127.0.0.1:1")}
	c.conn.turns.Store(true) // the test does what a turn does
	c.conn.key, c.conn.grant, c.conn.limits = sessionPrefix+sessions.ClientUID("mqtt", "", "a"), access.Everything, limits{receive: 10}
	x, _, err := r.server.open(c.conn)
	if err != nil {
		t.Fatal(err)
	}
	c.hasWill(0)
	c.conn.session, c.conn.graceful, x.started = x, true, true
	p.closing = sync.OnceFunc(x.listener.Cancel)
	c.conn.finish(io.EOF)
	if n := r.hub.End().Seq; n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}
