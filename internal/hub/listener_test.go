package hub

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// payloads is a codec that renders each message as its payload and a blank.
type payloads struct{}

func (payloads) Append(b []byte, f *store.Frame, pass delivery.Pass) ([]byte, bool) {
	b = append(b, []string{"", "retained:", "earlier:"}[pass]...)
	return append(f.Payload(b), ' '), false
}
func (payloads) Sent(store.Seq, delivery.Pass)                  {}
func (payloads) AppendGap(b []byte, g *delivery.Gap) []byte     { return append(b, "gap:"+g.Reason+" "...) }
func (payloads) AppendBye(b []byte, why delivery.Reason) []byte { return append(b, "bye:"+why...) }
func (payloads) Common() delivery.Common                        { return nil }

// openDevice opens a stream with a codec. why receives the reason of its end.
func openDevice(t *testing.T, h *Hub, s *Subscription) (l *Listener, c *conn, why chan delivery.Reason) {
	t.Helper()
	c, why = &conn{}, make(chan delivery.Reason, 1)
	s.Codec, s.UID = payloads{}, session.ClientUID("mqtt", s.Grant.Subject, "device")
	s.Ended = func(r delivery.Reason) { why <- r }
	l, err := h.Subscribe(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if l.Hello() != nil {
		t.Errorf("it begins with %q", l.Hello())
	}
	l.Run(c)
	return l, c, why
}

// inHub runs a test with a hub alone, in a bubble with its own clock.
func inHub(t *testing.T, test func(t *testing.T, h *Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := Defaults()
		o.MaxFilters = 3
		h, err := start(memory.New(memory.Options{}), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		test(t, h)
	})
}

func sayTo(t *testing.T, h *Hub, name, text string, retain bool) {
	t.Helper()
	if err := h.appendOwn(store.Message{Group: name, Msg: store.AppendQuote(nil, text), Retain: retain}); err != nil {
		t.Fatal(err)
	}
}

func TestADeviceChangesTheFiltersOfItsOwnStream(t *testing.T) {
	inHub(t, func(t *testing.T, h *Hub) {
		sayTo(t, h, "foo", "0", true)
		first, one, _ := openDevice(t, h, &Subscription{Grant: access.Everything})
		_, two, _ := openDevice(t, h, &Subscription{Grant: access.Everything}) // the newest stream of the same session
		last := 1
		for _, err := range []error{
			first.Join(group.Exact("foo"), true, From{}),
			first.Join(group.Exact("bar"), false, From{}),
			first.Join(group.Exact("foo"), false, From{Last: &last}),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		sayTo(t, h, "foo", "1", false)
		synctest.Wait()
		if err := first.Leave(group.Exact("foo")); err != nil {
			t.Error(err)
		}
		sayTo(t, h, "foo", "2", false)
		sayTo(t, h, "bar", "3", false)
		if got, want := one.text(), "retained:0 earlier:0 1 3 "; got != want {
			t.Errorf("received %q, want %q", got, want)
		}
		if got := two.text(); got != "" {
			t.Errorf("the session's other stream received %q", got)
		}
		var in []string
		_ = h.Presence(group.Exact("bar"), func(i *session.Info) error { in = append(in, i.UID); return nil })
		if want := session.ClientUID("mqtt", access.Everything.Subject, "device"); !slices.Equal(in, []string{want}) {
			t.Errorf("present in bar are %v, want %s", in, want)
		}
	})
}

func TestADevicesStreamHasTheLimitsOfAllStreams(t *testing.T) {
	inHub(t, func(t *testing.T, h *Hub) {
		l, _, _ := openDevice(t, h, &Subscription{Grant: access.Everything})
		for _, f := range []string{"1", "2", "3"} {
			if err := l.Join(group.Exact(f), true, From{}); err != nil {
				t.Error(err)
			}
		}
		if err := l.Join(group.Exact("4"), true, From{}); !errors.Is(err, session.ErrTooManyFilters) {
			t.Errorf("a filter above the limit: %v", err)
		}
		if err := l.Join(group.Exact("$session/x"), true, From{}); !errors.Is(err, ErrForbidden) {
			t.Errorf("the messages of another session: %v", err)
		}
	})
	inHub(t, func(t *testing.T, h *Hub) {
		g, err := access.NewGrant("anna", "", []string{"a/#"}, nil, false, time.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		l, _, _ := openDevice(t, h, &Subscription{Grant: g})
		err = l.Join(group.Exact("b"), true, From{})
		if _, ok := errors.AsType[*access.Forbidden](err); !ok {
			t.Errorf("a filter that the grant does not cover: %v", err)
		}
	})
}

func TestADeviceContinuesAtAStoredPosition(t *testing.T) {
	inHub(t, func(t *testing.T, h *Hub) {
		foo := group.Set{group.Exact("foo")}
		l, c, why := openDevice(t, h, &Subscription{Grant: access.Everything, Filters: foo})
		sayTo(t, h, "foo", "1", true)
		synctest.Wait()
		at := l.Position()
		c.leave()
		if r := <-why; r != delivery.Closed || c.text() != "1 " {
			t.Errorf("ended as %q after %q", r, c.text())
		}
		if err := l.Join(group.Exact("bar"), true, From{}); !errors.Is(err, session.ErrNoStream) {
			t.Errorf("a join after the end: %v", err)
		}
		sayTo(t, h, "foo", "2", false)
		_, c, why = openDevice(t, h, &Subscription{Grant: access.Everything, Filters: foo, From: From{After: &at}})
		sayTo(t, h, "foo", "3", false)
		if got := c.text(); got != "2 3 " {
			t.Errorf("received %q", got)
		}
		if err := h.EndSession(session.ClientUID("mqtt", "", "device"), session.Kicked); err != nil {
			t.Error(err)
		}
		if r := <-why; r != delivery.Reason(session.Kicked) || !strings.HasSuffix(c.text(), "bye:kicked") {
			t.Errorf("ended as %q after %q", r, c.text())
		}
		at.Epoch = "other"
		_, c, _ = openDevice(t, h, &Subscription{Grant: access.Everything, Filters: foo, From: From{After: &at}})
		if got := c.text(); got != "gap:epoch 1 2 3 " {
			t.Errorf("with a position of another log: %q", got)
		}
	})
}
