package session

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unique"

	"github.com/watchbox-go/watchbox/internal/leak"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

func TestMain(m *testing.M) { leak.Main(m) }

const timeout = 10 * time.Second

// world is a registry under test, with the events that it reported for each session.
type world struct {
	*Registry
	t     *testing.T
	begin time.Time

	mu     sync.Mutex
	events map[string][]string
	wills  []string // the wills to note, in order; "" removes the note

	noteError error // returned when a will is noted
}

// list returns what List yields.
func (w *world) list(wanted func(group.Filter) bool) (list []Info) {
	_ = w.List(wanted, func(i *Info) error {
		list = append(list, *i)
		return nil
	})
	return list
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, begin: time.Now(), events: map[string][]string{}}
	w.Registry = NewRegistry(timeout, each(w.watch))
	return w
}

var words = map[Kind]string{
	Connect: "connect", Reconnect: "reconnect", Disconnect: "disconnect", SendWill: "will",
	Join: "join", Leave: "leave", Lost: "lost", Back: "back", Gone: "gone",
}

func (w *world) watch(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Kind == WillDone {
		w.noteWill(nil)
		return
	}
	w.events[e.UID] = append(w.events[e.UID], describe(e))
}

// describe returns an event in words.
func describe(e Event) string {
	s := words[e.Kind]
	if e.Will != nil {
		s += " " + string(e.Will.Msg)
	}
	for _, word := range []string{e.Filter.String(), string(e.Reason)} {
		if word != "" {
			s += " " + word
		}
	}
	return s
}

// wantEvents fails the test unless the events of a session since the last call, separated by commas, are want.
func (w *world) wantEvents(uid, want string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.events[uid], ", "); got != want {
		w.t.Errorf("after %v the events of session %s are\n%s, want\n%s", time.Since(w.begin), uid, got, want)
	}
	w.events[uid] = nil
}

// stream is a stream that records the calls of its session. If the session ends it, it is detached by
// another goroutine, as in the hub.
type stream struct {
	*Attachment
	mu       sync.Mutex
	attached chan struct{}
	ended    []Reason
	changes  []string
}

func (s *stream) End(why Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, why)
	go func() { <-s.attached; s.Detach(why, Position{}) }()
}

func (s *stream) Join(f group.Filter) error {
	s.note("join " + f.String())
	return nil
}

func (s *stream) Leave(f group.Filter) error {
	s.note("leave " + f.String())
	return nil
}

func (s *stream) note(change string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, change)
}

// attach attaches a stream whose grant allows everything. It returns nil if the registry refuses it.
func (w *world) attach(uid string, filters []group.Filter, heartbeat time.Duration, stream Stream) *Attachment {
	a, _ := w.Attach(uid, &Opening{Client: Client{Agent: unique.Make(Agent{})}, Grant: access.Everything, Filters: filters, Heartbeat: heartbeat, Stream: stream})
	return a
}

// open adds a stream with filters, separated by spaces.
func (w *world) open(uid, filters string, heartbeat time.Duration) *stream {
	s := &stream{attached: make(chan struct{})}
	s.Attachment = w.attach(uid, parse(filters), heartbeat, s)
	close(s.attached)
	return s
}

func (s *stream) close(why Reason) { s.Detach(why, Position{}) }

func parse(filters string) (list []group.Filter) {
	for _, f := range strings.Fields(filters) {
		list = append(list, group.Exact(f))
	}
	return list
}

// inABubble runs a test in a synctest bubble, with its own clock. No goroutine may outlive the test.
func inABubble(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) { test(newWorld(t)) })
}

func TestASessionIsConnectedThenLostThenGone(t *testing.T) {
	inABubble(t, func(w *world) {
		a := w.open("u", "x y", 0)
		w.wantEvents("u", "connect, join x, join y")
		a.close(Closed)
		w.wantEvents("u", "lost x closed, lost y closed")
		time.Sleep(timeout - 1)
		w.wantEvents("u", "")
		if i, err := w.Get("u"); err != nil || time.Since(i.Lost) != timeout-1 || len(i.Streams) != 0 {
			t.Errorf("%+v, %v", i, err)
		}
		time.Sleep(time.Nanosecond)
		w.wantEvents("u", "gone x closed, gone y closed, disconnect closed")
		if _, err := w.Get("u"); err != ErrUnknown || w.Len() != 0 {
			t.Errorf("%v, %d sessions", err, w.Len())
		}
		w.open("u", "x", 0).close(Closed)
		w.wantEvents("u", "connect, join x, lost x closed")
		time.Sleep(timeout)
		w.wantEvents("u", "gone x closed, disconnect closed")
	})
}

func TestASessionThatReturnsInTimeReconnects(t *testing.T) {
	inABubble(t, func(w *world) {
		w.open("u", "x", 0).close(Timeout)
		time.Sleep(timeout - 1)
		a := w.open("u", "x", 0)
		w.wantEvents("u", "connect, join x, lost x timeout, reconnect timeout, back x timeout")
		time.Sleep(10 * timeout)
		w.wantEvents("u", "")
		a.close(Slow)
		time.Sleep(timeout)
		w.wantEvents("u", "lost x slow, gone x slow, disconnect slow")
	})
}

func TestAReturningStreamKnowsThePositionThatTheSessionReached(t *testing.T) {
	inABubble(t, func(w *world) {
		a := w.open("u", "x", 0)
		if _, _, ok := a.Missed(); ok {
			t.Error("a new session missed something")
		}
		b := w.open("u", "x", 0)
		a.Detach(Closed, Position{"e", 100})
		b.Detach(Closed, Position{"e", 7})
		c := w.open("u", "x", 0)
		if reached, _, ok := c.Missed(); !ok || reached != (Position{"e", 7}) {
			t.Errorf("Missed returns %+v, %v; want 7, the position of the stream that closed last", reached, ok)
		}
		if _, _, ok := w.open("u", "x", 0).Missed(); ok {
			t.Error("a second stream missed something")
		}
		w.Close()
	})
}

func TestEventsCarryTheReason(t *testing.T) {
	for _, why := range []Reason{Closed, Timeout, Slow} {
		inABubble(t, func(w *world) {
			w.open("u", "", 0).close(why)
			time.Sleep(timeout)
			w.wantEvents("u", fmt.Sprintf("connect, disconnect %s", why))
		})
	}
	for _, why := range []Reason{Ended, Kicked} {
		inABubble(t, func(w *world) {
			a, b := w.open("u", "x", 0), w.open("u", "x", 0)
			if err := w.End("u", why); err != nil {
				t.Error(err)
			}
			w.wantEvents("u", fmt.Sprintf("connect, join x, gone x %s, disconnect %s", why, why))
			if !slices.Equal(a.ended, []Reason{why}) || !slices.Equal(b.ended, []Reason{why}) {
				t.Errorf("the streams ended with the reasons %q and %q", a.ended, b.ended)
			}
			if err := w.End("u", why); err != ErrUnknown {
				t.Error(err)
			}
		})
	}
}

func TestALostSessionCanBeEnded(t *testing.T) {
	inABubble(t, func(w *world) {
		w.open("u", "x", 0).close(Closed)
		_ = w.SetWill("u", &Will{Msg: []byte("1")})
		_ = w.End("u", Kicked)
		w.wantEvents("u", "connect, join x, lost x closed, gone x kicked, will 1, disconnect kicked")
		time.Sleep(2 * timeout)
		w.wantEvents("u", "")
	})
}

func TestMembershipsAreCountedOverStreams(t *testing.T) {
	inABubble(t, func(w *world) {
		a := w.open("u", "x", 0)
		b := w.open("u", "x y", 0)
		w.wantEvents("u", "connect, join x, join y")
		a.close(Closed)
		w.wantEvents("u", "")
		c := w.open("u", "x", 0)
		b.close(Timeout)
		w.wantEvents("u", "lost y timeout")
		if i, _ := w.Get("u"); len(i.Filters) != 2 || len(i.Streams) != 1 {
			t.Errorf("%+v", i)
		}
		time.Sleep(timeout)
		w.wantEvents("u", "leave y timeout")
		c.close(Closed)
		w.wantEvents("u", "lost x closed")
		w.open("u", "y", 0)
		w.wantEvents("u", "reconnect closed, join y")
		time.Sleep(timeout)
		w.wantEvents("u", "leave x closed")
		w.Close()
	})
}

func TestAMembershipComesBackWithAnotherStream(t *testing.T) {
	inABubble(t, func(w *world) {
		w.open("u", "x", 0)
		w.open("u", "y", 0).close(Closed)
		time.Sleep(timeout / 2)
		w.open("u", "y", 0)
		time.Sleep(2 * timeout)
		w.wantEvents("u", "connect, join x, join y, lost y closed, back y closed")
		w.Close()
	})
}

func TestFiltersChangeLive(t *testing.T) {
	inABubble(t, func(w *world) {
		f := group.Exact
		if err := w.Join("u", f("x"), 2); err != ErrUnknown {
			t.Error(err)
		}
		old, young := w.open("u", "x", 0), w.open("u", "", 0)
		for _, name := range []string{"x", "x", "y"} {
			if err := w.Join("u", f(name), 2); err != nil {
				t.Error(err)
			}
		}
		if err := w.Join("u", f("z"), 2); err != ErrTooManyFilters {
			t.Error(err)
		}
		w.wantEvents("u", "connect, join x, join y")
		young.close(Closed)
		w.wantEvents("u", "lost y closed") // the older stream still has x
		if err := w.Leave("u", f("x")); err != nil {
			t.Error(err)
		}
		if err := w.Leave("u", f("y")); err != nil {
			t.Error(err)
		}
		if err := w.Leave("u", f("never")); err != nil {
			t.Error(err)
		}
		w.wantEvents("u", "leave x, leave y")
		if err := w.Join("u", f("x"), 2); err != nil {
			t.Error(err)
		}
		old.close(Closed)
		w.wantEvents("u", "join x, lost x closed")
		if err := w.Join("u", f("y"), 2); err != ErrNoStream {
			t.Error(err)
		}
		if err := w.Leave("u", f("x")); err != ErrNoStream {
			t.Error(err)
		}
		if got := fmt.Sprint(old.changes, young.changes); got != "[leave x join x] [join x join x join y]" {
			t.Error(got)
		}
		w.Close()
	})
}

func TestJoinAndLeaveDoNotChangeTheCallersSlice(t *testing.T) {
	inABubble(t, func(w *world) {
		filters := slices.Grow(parse("x y"), 10)
		s := &stream{attached: make(chan struct{})}
		s.Attachment = w.attach("u", filters, 0, s)
		close(s.attached)
		_ = w.Leave("u", group.Exact("x"))
		_ = w.Join("u", group.Exact("z"), 9)
		if filters[0].String() != "x" || filters[1].String() != "y" || filters[:3][2].String() != "" {
			t.Errorf("%v", filters[:3])
		}
		w.Close()
	})
}

func TestAWillIsSentOnceAtTheEndOrAfterItsDelay(t *testing.T) {
	after := func(d time.Duration) *time.Duration { return &d }
	for _, c := range []struct {
		name string
		will *Will
		act  func(w *world, a *stream)
		want string
	}{
		{"at the end", &Will{}, func(w *world, a *stream) { a.close(Closed); time.Sleep(timeout) },
			"disconnect closed after will at 10s"},
		{"delay earlier than the end", &Will{Delay: after(3 * time.Second)},
			func(w *world, a *stream) { a.close(Closed); time.Sleep(timeout) }, "will at 3s, disconnect closed"},
		{"delay later than the end", &Will{Delay: after(time.Hour)},
			func(w *world, a *stream) { a.close(Closed); time.Sleep(2 * time.Hour) }, "disconnect closed after will at 10s"},
		{"delay zero", &Will{Delay: after(0)},
			func(w *world, a *stream) { a.close(Closed); time.Sleep(timeout) }, "will at 0s, disconnect closed"},
		{"delay zero, with a return at once", &Will{Delay: after(0)},
			func(w *world, a *stream) { a.close(Closed); w.open("u", "", 0) }, "will at 0s"},
		{"delay later than the end, and holding it", &Will{Delay: after(time.Hour), Holds: true},
			func(w *world, a *stream) { a.close(Closed); time.Sleep(2 * time.Hour) }, "disconnect closed after will at 1h0m0s"},
		{"delay earlier than the end, and holding it", &Will{Delay: after(3 * time.Second), Holds: true},
			func(w *world, a *stream) { a.close(Closed); time.Sleep(timeout) }, "will at 3s, disconnect closed"},
		{"cancelled by a return", &Will{Delay: after(3 * time.Second)},
			func(w *world, a *stream) {
				a.close(Closed)
				time.Sleep(3*time.Second - 1)
				w.open("u", "", 0)
				time.Sleep(time.Hour)
			}, ""},
		{"kept over a return", &Will{Delay: after(3 * time.Second)},
			func(w *world, a *stream) {
				a.close(Closed)
				time.Sleep(2 * time.Second)
				w.open("u", "", 0).close(Closed)
				time.Sleep(timeout)
			}, "will at 5s, disconnect closed"},
		{"once", &Will{Delay: after(time.Second)},
			func(w *world, a *stream) {
				a.close(Closed)
				time.Sleep(2 * time.Second)
				w.open("u", "", 0).close(Closed)
				time.Sleep(timeout)
			}, "will at 1s, disconnect closed"},
		{"none on a clean end", &Will{}, func(w *world, a *stream) { _ = w.End("u", Ended) }, "disconnect ended"},
		{"none when the server ends", &Will{}, func(w *world, a *stream) { w.Close() }, "disconnect shutdown"},
		{"sent on a kick", &Will{Delay: after(time.Hour)}, func(w *world, a *stream) { _ = w.End("u", Kicked) },
			"disconnect kicked after will at 0s"},
		{"cleared", &Will{}, func(w *world, a *stream) { _ = w.SetWill("u", nil); a.close(Closed); time.Sleep(timeout) },
			"disconnect closed"},
		{"set while lost, after its delay has passed", nil, func(w *world, a *stream) {
			a.close(Closed)
			time.Sleep(5 * time.Second)
			_ = w.SetWill("u", &Will{Msg: []byte("w"), Delay: after(time.Second)})
			time.Sleep(timeout)
		}, "will at 5s, disconnect closed"},
		{"replaced by another will", &Will{Delay: after(0)}, func(w *world, a *stream) {
			_ = w.SetWill("u", &Will{Msg: []byte("w")})
			a.close(Closed)
			time.Sleep(timeout)
		}, "disconnect closed after will at 10s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inABubble(t, func(w *world) {
				w.t = t
				var got []string
				begin, will := time.Now(), ""
				w.setWatcher(func(e Event) {
					switch e.Kind {
					case SendWill:
						if will != "" {
							t.Error("sent twice")
						}
						will = fmt.Sprintf("will at %v", time.Since(begin))
						got = append(got, will)
					case Disconnect:
						s := fmt.Sprintf("disconnect %s", e.Reason)
						if n := len(got); n > 0 && strings.HasSuffix(c.want, got[n-1]) {
							s += " after " + got[n-1]
							got = got[:n-1]
						}
						got = append(got, s)
					}
				})
				a := w.open("u", "", 0)
				if c.will != nil {
					c.will.Msg = []byte("w")
					if err := w.SetWill("u", c.will); err != nil {
						t.Error(err)
					}
				}
				c.act(w, a)
				synctest.Wait()
				if list := strings.Join(got, ", "); list != c.want {
					t.Errorf("%s; want %s", list, c.want)
				}
				w.setWatcher(func(Event) {})
				w.Close()
				synctest.Wait()
			})
		})
	}
}

// each returns a watcher that calls f for each event.
func each(f func(Event)) func([]Event) {
	return func(list []Event) {
		for _, e := range list {
			f(e)
		}
	}
}

// setWatcher replaces the registry's watcher.
func (w *world) setWatcher(f func(Event)) { w.Registry.watch = each(f) }

func TestAWillNeedsASession(t *testing.T) {
	inABubble(t, func(w *world) {
		if err := w.SetWill("u", &Will{}); err != ErrUnknown {
			t.Error(err)
		}
	})
}

func TestSilenceForOneAndAHalfHeartbeatsIsNoticed(t *testing.T) {
	inABubble(t, func(w *world) {
		const d = 2 * time.Second
		a, b := w.open("u", "x", d), w.open("u", "y", 0)
		for range 20 {
			time.Sleep(d)
			if w.SignOfLife("u", "") != nil {
				t.Error("unknown")
			}
		}
		time.Sleep(d + d/2 - 1)
		w.wantEvents("u", "connect, join x, join y")
		time.Sleep(time.Nanosecond)
		w.wantEvents("u", "lost x heartbeat")
		if !slices.Equal(a.ended, []Reason{Heartbeat}) || len(b.ended) > 0 {
			t.Errorf("%q, %q", a.ended, b.ended)
		}
		time.Sleep(timeout)
		w.wantEvents("u", "leave x heartbeat")
		b.close(Closed)
		w.open("u", "x", d)
		w.wantEvents("u", "lost y closed, reconnect closed, join x")
		time.Sleep(d + d/2 + timeout)
		w.wantEvents("u", "lost x heartbeat, gone y heartbeat, gone x heartbeat, disconnect heartbeat")
		if w.SignOfLife("u", "") == nil {
			t.Error("SignOfLife reports true for a session that is gone")
		}
	})
}

func TestAnotherStreamIsASignOfLife(t *testing.T) {
	inABubble(t, func(w *world) {
		w.open("u", "", 2*time.Second)
		for range 5 {
			time.Sleep(2 * time.Second)
			w.open("u", "", 0).close(Closed)
		}
		w.wantEvents("u", "connect")
		w.Close()
	})
}

func TestCloseEndsAllSessionsAndRefusesNewOnes(t *testing.T) {
	inABubble(t, func(w *world) {
		a := w.open("here", "x", time.Second)
		w.open("lost", "x", 0).close(Closed)
		w.Close()
		w.Close()
		w.wantEvents("here", "connect, join x, gone x shutdown, disconnect shutdown")
		w.wantEvents("lost", "connect, join x, lost x closed, gone x shutdown, disconnect shutdown")
		if !slices.Equal(a.ended, []Reason{Shutdown}) {
			t.Error(a.ended)
		}
		if part := w.attach("new", nil, 0, a); part != nil {
			t.Error("a session began after Close")
		}
		time.Sleep(timeout)
		w.wantEvents("new", "")
	})
}

func TestListYieldsTheSessionsWithAWantedFilter(t *testing.T) {
	inABubble(t, func(w *world) {
		w.open("c", "x y", 0)
		time.Sleep(time.Second)
		w.open("a", "x", 0)
		w.open("b", "z", 0).close(Closed)
		wanted := func(name string) func(group.Filter) bool {
			return func(f group.Filter) bool { return f.String() == name }
		}
		var got []string
		for _, name := range []string{"x", "y", "z", "none"} {
			for _, i := range w.list(wanted(name)) {
				got = append(got, i.UID+group.Set(i.Filters).Strings()[0])
			}
		}
		for _, i := range w.list(nil) {
			got = append(got, i.UID)
		}
		if s := strings.Join(got, " "); s != "cx ax cy bz c a b" {
			t.Error(s)
		}
		w.Close()
	})
}

func TestASessionCannotEndDuringDo(t *testing.T) {
	w := newWorld(t)
	w.open("u", "", 0)
	ended := make(chan error)
	err := w.Do("u", func() error {
		go func() { ended <- w.End("u", Kicked) }()
		for range 1000 {
			runtime.Gosched()
		}
		w.watch(Event{Kind: Join, UID: "u"})
		return nil
	})
	if err := errors.Join(err, <-ended); err != nil {
		t.Error(err)
	}
	if got := strings.Join(w.events["u"], ", "); got != "connect, join, disconnect kicked" {
		t.Error(got)
	}
	if err := w.Do("u", func() error { return nil }); err != ErrUnknown {
		t.Error(err)
	}
}
