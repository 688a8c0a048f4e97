package session

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unique"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// TestWhatTheLogMissedIsToldAsItWas has the streams of a session change while the log is away, and looks at what is told when it is
// back.
func TestWhatTheLogMissedIsToldAsItWas(t *testing.T) {
	x := group.Exact("x")
	onlyX := &access.Grant{Subscribe: group.Set{x}}
	for name, c := range map[string]struct {
		away func(l *ledger, a, b *stream) // a has x and y, b has z
		want string
	}{
		"it leaves": {
			func(l *ledger, a, b *stream) { leave(l, a, x) },
			"leave x",
		},
		"it leaves, and a stream closes": {
			func(l *ledger, a, b *stream) { leave(l, a, x); a.close(Slow) },
			"leave x, lost y slow",
		},
		"it leaves and joins again": {
			func(l *ledger, a, b *stream) { leave(l, a, x); join(l, a, x) },
			"",
		},
		"it leaves, joins again and loses it": {
			func(l *ledger, a, b *stream) { leave(l, a, x); join(l, a, x); a.close(Slow) },
			"lost x slow, lost y slow",
		},
		"it leaves on one stream, and another that has the filter closes": {
			func(l *ledger, a, b *stream) {
				join(l, b, x)
				join(l, b, group.Exact("v"))
				leave(l, a, x)
				b.close(Slow)
			},
			"lost x slow, lost z slow",
		},
		"it leaves, and may not have another filter": {
			func(l *ledger, a, b *stream) {
				leave(l, a, x)
				if err := l.Renew("u", onlyX); err != errAway {
					l.t.Errorf("renewing: %v", err)
				}
			},
			"leave x, leave y forbidden, leave z forbidden",
		},
		"it may not have a filter, and leaves another": {
			func(l *ledger, a, b *stream) {
				if err := l.Renew("u", onlyX); err != errAway {
					l.t.Errorf("renewing: %v", err)
				}
				leave(l, a, x)
			},
			"leave x, leave y forbidden, leave z forbidden",
		},
		"streams close for different reasons": {
			func(l *ledger, a, b *stream) { a.close(Timeout); b.close(Closed) },
			"lost x timeout, lost y timeout, lost z closed",
		},
		"a stream closes, another with one of its filters opens, and closes": {
			func(l *ledger, a, b *stream) { a.close(Timeout); l.open("u", "x", 0).close(Slow) },
			"lost x slow, lost y timeout",
		},
		"memberships are over, and then the session is lost": {
			func(l *ledger, a, b *stream) {
				loseAtOnce(l, a)
				time.Sleep(timeout + time.Second)
				b.close(Slow)
			},
			"lost z slow, leave x timeout, leave y timeout",
		},
		"memberships are not over yet when the session is lost": {
			func(l *ledger, a, b *stream) {
				loseAtOnce(l, a)
				time.Sleep(timeout - time.Second)
				b.close(Slow)
				time.Sleep(2 * time.Second)
			},
			"lost z slow",
		},
		"a membership comes back after it is over, and then the session is lost": {
			func(l *ledger, a, b *stream) {
				loseAtOnce(l, a)
				time.Sleep(timeout + time.Second)
				l.open("u", "x", 0).close(Slow)
				b.close(Slow)
			},
			"lost z slow, leave y timeout",
		},
		"it leaves, and another hub lets it be lost and then gone": {
			func(l *ledger, a, b *stream) {
				leave(l, a, x)
				a.close(Closed)
				b.close(Closed)
				now := time.Now().UnixNano() + 1
				l.store(fmt.Sprintf(`{"hub":"there","lost":%d,"why":"timeout","members":[{"filter":"x","lost":%[1]d},{"filter":"y","lost":%[1]d}]}`, now))
				time.Sleep(2 * timeout)
			},
			"gone x timeout, gone y timeout, disconnect timeout",
		},
		"it leaves, is lost, and is too large to be kept": {
			func(l *ledger, a, b *stream) {
				leave(l, a, x)
				a.close(Closed)
				b.close(Closed)
				l.mu.Lock()
				l.most = 10
				l.mu.Unlock()
			},
			"gone x closed, gone y closed, gone z closed, disconnect closed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inALedger(t, func(l *ledger) {
				a, b := l.open("u", "x y", 0), l.open("u", "z", 0)
				l.wantEvents("u", "connect, join x, join y, join z")
				l.setAway(true)
				c.away(l, a, b)
				l.wantEvents("u", "")
				l.setAway(false)
				time.Sleep(timeout / 2)
				l.wantEvents("u", c.want)
			})
		})
	}
}

// TestAChangeThatSeemedToFailIsToldOnceItIsRead has changes fail one after the other, and one of them turn out to be stored.
func TestAChangeThatSeemedToFailIsToldOnceItIsRead(t *testing.T) {
	const elsewhere = `{"hub":"there","members":[{"filter":"x"},{"filter":"z"}],"nodes":{"here":{"filters":["x"]},"there":{"filters":["z"]}}}`
	openAll := func(l *ledger, filters ...string) (failed []string) {
		for _, f := range filters {
			l.open("u", f, 0)
			failed = append(failed, l.failed)
		}
		return failed
	}
	for name, c := range map[string]struct {
		away func(l *ledger) (stored string)
		read string // what is told when the document is read
		back string // and when the log is back
	}{
		"the first": {func(l *ledger) string { return openAll(l, "v", "w")[0] }, "join v", "join w"},
		"the last":  {func(l *ledger) string { return openAll(l, "v", "w")[1] }, "join v, join w", ""},
		"the first of many": {
			func(l *ledger) string { return openAll(l, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")[0] },
			"join a", "join b, join c, join d, join e, join f, join g, join h, join i, join j",
		},
		"one between many that were not stored": {
			func(l *ledger) string {
				l.refuse = true
				openAll(l, "a", "b", "c", "d", "e", "f", "g", "h")
				l.refuse = false
				stored := openAll(l, "i")[0]
				l.refuse = true
				openAll(l, "j")
				return stored
			},
			"join a, join b, join c, join d, join e, join f, join g, join h, join i", "join j",
		},
		"the end": {
			func(l *ledger) string {
				l.store(elsewhere)
				if err := l.End("u", Kicked); err != errAway {
					l.t.Errorf("ending: %v", err)
				}
				stored := l.failed
				openAll(l, "v")
				return stored
			},
			"gone x kicked, gone z kicked, disconnect kicked", "",
		},
		"a filter is joined, and left before that is read": {
			func(l *ledger) string {
				s := l.open("u", "", 0)
				if err := s.Attachment.Join(group.Exact("v"), 10, func() error { return nil }); err != errAway {
					l.t.Errorf("joining: %v", err)
				}
				stored := l.failed
				if err := s.Attachment.Leave(group.Exact("v")); err != nil && err != errAway {
					l.t.Errorf("leaving: %v", err)
				}
				return stored
			},
			"join v", "leave v",
		},
		"filters are joined, and lost for different reasons before that is read": {
			func(l *ledger) string {
				a, b := l.open("u", "v", 0), l.open("u", "w", 0)
				stored := l.failed
				a.close(Timeout)
				b.close(Slow)
				return stored
			},
			"join v, join w", "lost v timeout, lost w slow",
		},
		"it is read before its commit fails, and so is one of another hub": {
			func(l *ledger) string {
				l.setAway(false)
				l.unsure, l.after = true, func() { l.append(strings.Replace(l.doc, `"hub":"here"`, `"hub":"there"`, 1), false) }
				openAll(l, "v")
				l.unsure = false
				return strings.Replace(l.document(), `"hub":"here"`, `"hub":"there"`, 1)
			},
			"join v", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inALedger(t, func(l *ledger) {
				l.open("u", "x", 0)
				l.wantEvents("u", "connect, join x")
				l.setAway(true)
				l.store(c.away(l))
				l.wantEvents("u", c.read)
				l.setAway(false)
				time.Sleep(timeout / 2)
				l.wantEvents("u", c.back)
			})
		})
	}
}

// TestASessionMayBeLostBeforeItsBeginningIsRead has the log store the beginning of a session, or not, while it is away.
func TestASessionMayBeLostBeforeItsBeginningIsRead(t *testing.T) {
	inALedger(t, func(l *ledger) {
		l.setAway(true)
		s := l.open("u", "x", 0)
		stored := l.failed
		s.Detach(Slow, Position{"e", 7})
		time.Sleep(timeout / 2)
		l.store(stored)
		l.wantEvents("u", "connect, join x")
		l.setAway(false)
		time.Sleep(timeout / 2)
		l.wantEvents("u", "lost x slow")
		if doc := l.document(); !strings.Contains(doc, `"reached":7`) {
			t.Errorf("the document is %s", doc)
		}
		time.Sleep(timeout)
		l.wantEvents("u", "gone x slow, disconnect slow")

		l.setAway(true)
		l.open("u", "x", 0).close(Slow)
		time.Sleep(timeout + 2*time.Second)
		if n := l.Len(); n > 0 {
			t.Errorf("%d sessions are left that have not begun", n)
		}
		l.setAway(false)
		time.Sleep(timeout)
		l.wantEvents("u", "")
	})
}

// TestALossMayBeReadAfterTheNextOne has the log store that a session is lost, which is read after its client has returned and was lost
// again.
func TestALossMayBeReadAfterTheNextOne(t *testing.T) {
	inALedger(t, func(l *ledger) {
		s := l.open("u", "x", 0)
		l.wantEvents("u", "connect, join x")
		l.setAway(true)
		s.Keep(time.Second)
		s.Detach(Closed, Position{"e", 1})
		stored := l.failed
		l.open("u", "x", 0).Detach(Slow, Position{"e", 7})
		l.store(stored)
		l.wantEvents("u", "lost x closed")
		l.setAway(false)
		time.Sleep(timeout / 2)
		if doc := l.document(); !strings.Contains(doc, `"reached":7`) {
			t.Errorf("the document is %s", doc)
		}
		time.Sleep(timeout)
		l.wantEvents("u", "gone x slow, disconnect slow")
	})
}

// TestALossCountsFromTheNewestStream has a client return while the log is away, and be lost again, shortly before its session or
// its membership would be over.
func TestALossCountsFromTheNewestStream(t *testing.T) {
	const short = 5 * time.Second
	for name, c := range map[string]struct {
		stays  bool // another stream is open all the time
		keep   time.Duration
		away   func(l *ledger)
		stored string        // is part of the document when the log is back
		after  time.Duration // from when the log is back
		want   string
	}{
		"a session":                          {stored: `"reached":7`, after: timeout, want: "gone x slow, disconnect slow"},
		"a session that is kept for a while": {keep: short, stored: `"reached":7`, after: short, want: "gone x slow, disconnect slow"},
		"a membership":                       {stays: true, after: timeout, want: "leave x slow"},
		"a session that another hub has ended": {
			away: func(l *ledger) { l.store("") },
		},
		"a session that was lost at another hub since": {
			away: func(l *ledger) {
				now := time.Now().UnixNano() + 1
				l.store(fmt.Sprintf(`{"hub":"there","members":[{"filter":"x","lost":%d,"why":"timeout"}],"lost":%[1]d,"why":"timeout","reached":8}`, now))
			},
			stored: `"reached":8`, after: timeout, want: "gone x timeout, disconnect timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inALedger(t, func(l *ledger) {
				told := "connect, join x, lost x closed"
				if c.stays {
					l.open("u", "y", 0)
					told = "connect, join y, join x, lost x closed"
				}
				l.open("u", "x", 0).close(Closed)
				time.Sleep(timeout - 2*time.Second)
				l.setAway(true)
				s := l.open("u", "x", 0)
				time.Sleep(time.Second)
				s.Keep(c.keep)
				s.Detach(Slow, Position{"e", 7})
				if c.away != nil {
					c.away(l)
				}
				time.Sleep(4 * time.Second)
				l.wantEvents("u", told)
				l.setAway(false)
				time.Sleep(max(0, c.after-2*time.Second))
				l.wantEvents("u", "")
				if doc := l.document(); !strings.Contains(doc, c.stored) {
					t.Errorf("the document is %s", doc)
				}
				time.Sleep(4 * time.Second)
				l.wantEvents("u", c.want)
			})
		})
	}
}

func leave(l *ledger, s *stream, f group.Filter) {
	l.t.Helper()
	if err := s.Attachment.Leave(f); err != errAway {
		l.t.Errorf("leaving %v: %v", f, err)
	}
}

// loseAtOnce closes a stream with the filters x and y while the log is not away.
func loseAtOnce(l *ledger, s *stream) {
	l.t.Helper()
	l.setAway(false)
	s.close(Timeout)
	l.wantEvents("u", "lost x timeout, lost y timeout")
	l.setAway(true)
}

// join joins a filter while the log is away. There is no error if the document has it already.
func join(l *ledger, s *stream, f group.Filter) {
	l.t.Helper()
	if err := s.Attachment.Join(f, 10, func() error { return nil }); err != nil && err != errAway {
		l.t.Errorf("joining %v: %v", f, err)
	}
}

// openAt adds a stream with the filter x from an address.
func (l *ledger) openAt(address string) *Attachment {
	s := &stream{attached: make(chan struct{})}
	defer close(s.attached)
	client := Client{Address: address, Agent: unique.Make(Agent{})}
	var err error
	s.Attachment, err = l.Attach("u", &Opening{Client: client, Grant: access.Everything, Filters: parse("x"), Stream: s})
	l.must(err)
	return s.Attachment
}

// TestWhoOpenedAStreamIsStoredWhenTheLogIsBack has a session return while the log is away.
func TestWhoOpenedAStreamIsStoredWhenTheLogIsBack(t *testing.T) {
	const elsewhere = `{"hub":"there","address":"third","nodes":{"there":{}}}`
	for name, c := range map[string]struct {
		away func(l *ledger)
		want string
	}{
		"it stays":                  {func(l *ledger) { l.openAt("second") }, "second"},
		"it returns twice":          {func(l *ledger) { l.openAt("other"); l.openAt("second") }, "second"},
		"it is lost again":          {func(l *ledger) { l.openAt("second").Detach(Closed, Position{}) }, "second"},
		"it goes on at another hub": {func(l *ledger) { l.openAt("second").Detach(Closed, Position{}); l.store(elsewhere) }, "third"},
		"another hub changes the document": {func(l *ledger) {
			l.openAt("second")
			l.store(strings.Replace(l.document(), `"hub":"here"`, `"hub":"there"`, 1))
		}, "second"},
	} {
		for _, lost := range []bool{true, false} { // whether it is known to be lost
			t.Run(fmt.Sprintf("%s, lost %v", name, lost), func(t *testing.T) {
				inALedger(t, func(l *ledger) {
					first := l.openAt("first")
					l.setAway(!lost)
					first.Detach(Closed, Position{})
					l.setAway(true)
					c.away(l)
					l.setAway(false)
					time.Sleep(timeout / 2)
					if doc := l.document(); !strings.Contains(doc, `"address":"`+c.want+`"`) {
						t.Errorf("the document is %s", doc)
					}
					if i, err := l.Get("u"); err != nil || i.Client.Address != c.want {
						t.Errorf("the session is %+v, %v", i, err)
					}
				})
			})
		}
	}
}

// TestASessionIsAsOldAsItsFirstStream has a session begin while the log is away.
func TestASessionIsAsOldAsItsFirstStream(t *testing.T) {
	inALedger(t, func(l *ledger) {
		l.setAway(true)
		began := time.Now()
		l.openAt("first")
		time.Sleep(timeout)
		l.openAt("second")
		l.setAway(false)
		time.Sleep(timeout)
		if i, err := l.Get("u"); err != nil || !i.Since.Equal(began) {
			t.Errorf("the session is %+v, %v; it began at %v", i, err, began)
		}
	})
}

// TestAnEndThatSeemedToFailIsToldOnceItsRemovalIsRead has the document of a session removed by a change that seemed to fail.
func TestAnEndThatSeemedToFailIsToldOnceItsRemovalIsRead(t *testing.T) {
	for name, then := range map[string]func(l *ledger){
		"before the next change": func(l *ledger) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.append("", true)
		},
		"during a change that ends it, too": func(l *ledger) {
			l.before = func() { l.append("", true) }
			if err := l.End("u", Ended); err != nil {
				l.t.Errorf("ending it again: %v", err)
			}
		},
		"during a change that does not end it": func(l *ledger) {
			l.before = func() { l.append("", true) }
			if err := l.Leave("u", group.Exact("x")); err != ErrUnknown {
				l.t.Errorf("leaving: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inALedger(t, func(l *ledger) {
				l.open("u", "x", 0)
				l.wantEvents("u", "connect, join x")
				l.setAway(true)
				if err := l.End("u", Kicked); err != errAway {
					t.Errorf("ending: %v", err)
				}
				l.setAway(false)
				l.wantEvents("u", "")
				then(l)
				l.wantEvents("u", "gone x kicked, disconnect kicked")
			})
		})
	}
}
