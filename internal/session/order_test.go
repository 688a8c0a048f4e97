package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOrderYieldsTheSessionsAddedAndNotRemoved compares it with a plain slice, page by page.
func TestOrderYieldsTheSessionsAddedAndNotRemoved(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var o order
	var plain []*Session
	for i := range 20_000 {
		s := &Session{}
		s.no = o.add(s)
		plain = append(plain, s)
		for len(plain) > 500 || len(plain) > 0 && r.IntN(3) == 0 {
			k := r.IntN(len(plain))
			o.remove(plain[k].no)
			o.remove(plain[k].no) // a second call does nothing
			plain = slices.Delete(plain, k, k+1)
		}
		if i%100 > 0 {
			continue
		}
		var all []*Session
		rows := 1 + r.IntN(100)
		for no, more := uint64(0), true; more; {
			var page []*Session
			page, no, more = o.page(nil, no, rows)
			if len(page) > rows {
				t.Fatalf("a page of %d rows has %d sessions", rows, len(page))
			}
			all = append(all, page...)
		}
		if !slices.Equal(all, plain) {
			t.Fatalf("in pages of %d rows there are %d sessions, want %d", rows, len(all), len(plain))
		}
		if len(o.rows) > 2*len(plain)+2 {
			t.Fatalf("%d sessions take %d rows", len(plain), len(o.rows))
		}
	}
}

func TestListYieldsTheSessionsInTheOrderInWhichTheyBegan(t *testing.T) {
	w := newWorld(t)
	const n = 3*pageSize + 7
	for i := range n {
		w.open(fmt.Sprint(i), "x", 0)
	}
	for i, s := range w.list(nil) {
		if s.UID != fmt.Sprint(i) {
			t.Fatalf("session %d is %s", i, s.UID)
		}
	}
	if got := len(w.list(nil)); got != n {
		t.Errorf("%d sessions are listed, want %d", got, n)
	}
	stop := errors.New("enough")
	seen := 0
	err := w.List(nil, func(*Info) error {
		if seen++; seen == 5 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || seen != 5 {
		t.Errorf("after %d sessions List returns %v", seen, err)
	}
	w.setWatcher(func(Event) {})
	w.Close()
}
