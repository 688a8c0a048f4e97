package session

import (
	"slices"
	"testing"
	"time"
)

// SetWill calls the registry's SetWill, and records each will that the registry passes on to be noted.
func (w *world) SetWill(uid string, will *Will) error {
	return w.Registry.SetWill(uid, func(*Will) (*Will, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.noteWill(will)
		return will, w.noteError
	})
}

func (w *world) noteWill(will *Will) {
	s := ""
	if will != nil {
		s = string(will.Msg)
	}
	w.wills = append(w.wills, s)
}

// TestEachChangeOfAWillIsNoted checks that SetWill and the client's own end of the session change the
// note of the will. The end of the server does not, since the next start must send the will.
func TestEachChangeOfAWillIsNoted(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(w *world, s *stream)
		want []string
	}{
		{"cleared", func(w *world, _ *stream) { w.must(w.SetWill("u", nil)) }, []string{"1", "2", ""}},
		{"a goodbye", func(w *world, s *stream) { s.Farewell(); s.close(Closed) }, []string{"1", "2", ""}},
		{"a clean end", func(w *world, _ *stream) { w.must(w.End("u", Ended)) }, []string{"1", "2", ""}},
		{"sent: SendWill removes the note", func(w *world, _ *stream) { w.must(w.End("u", Kicked)) }, []string{"1", "2"}},
		{"the server ends", func(w *world, _ *stream) { w.Close() }, []string{"1", "2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inABubble(t, func(w *world) {
				w.t = t
				s := w.open("u", "x", 0)
				w.must(w.SetWill("u", &Will{Group: "g", Msg: []byte("1")}))
				w.must(w.SetWill("u", &Will{Group: "g", Msg: []byte("2")}))
				c.end(w, s)
				if !slices.Equal(w.wills, c.want) {
					t.Errorf("noted %q, want %q", w.wills, c.want)
				}
			})
		})
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

// TestARecalledSessionHasTheTimeoutToReturn also checks that its will is sent when it does not return, or
// after its delay.
func TestARecalledSessionHasTheTimeoutToReturn(t *testing.T) {
	inABubble(t, func(w *world) {
		delay := timeout / 2
		w.Restore("stays away", nil, nil, &Will{Group: "g", Msg: []byte("1")})
		w.Restore("returns", nil, nil, &Will{Group: "g", Msg: []byte("2")})
		w.Restore("soon", nil, nil, &Will{Group: "g", Msg: []byte("3"), Delay: &delay})
		w.Restore("none", nil, nil, nil)
		time.Sleep(timeout - time.Second)
		s := w.open("returns", "x", 0)
		time.Sleep(2 * time.Second)
		w.wantEvents("stays away", "will 1, disconnect closed")
		w.wantEvents("returns", "reconnect closed, join x")
		w.wantEvents("soon", "will 3, disconnect closed")
		w.wantEvents("none", "disconnect closed")
		s.close(Closed)
		time.Sleep(timeout)
		w.wantEvents("returns", "lost x closed, gone x closed, will 2, disconnect closed")
	})
}

// TestARecalledSessionStillHasItsFilters checks that a returning session does not join its filters again,
// and that one that does not return is gone from them.
func TestARecalledSessionStillHasItsFilters(t *testing.T) {
	inABubble(t, func(w *world) {
		w.Restore("stays away", nil, parse("x y"), &Will{Group: "g", Msg: []byte("1")})
		w.Restore("returns", nil, parse("x"), nil)
		w.Restore("changes", nil, parse("x y"), nil)
		time.Sleep(timeout - time.Second)
		w.open("returns", "x", 0)
		w.open("changes", "x", 0)
		time.Sleep(2 * time.Second)
		w.wantEvents("stays away", "gone x closed, gone y closed, will 1, disconnect closed")
		w.wantEvents("returns", "reconnect closed, back x closed")
		w.wantEvents("changes", "reconnect closed, back x closed, leave y closed")
	})
}
