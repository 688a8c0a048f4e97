package session

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ledger is the log of a registry that shares it, with the document of one session.
type ledger struct {
	*world

	mu     sync.Mutex // guards what follows
	last   uint64     // the newest version
	doc    string     // "": there is none
	away   bool       // changes of this hub fail
	refuse bool       // while the log is away, they are certain to fail
	unsure bool       // they seem to fail, but are stored
	most   int        // bytes of a document of this hub; 0: any number
	failed string     // the document of the last one that failed while the log was away
	later  string     // one of these that is stored later
	before func()     // is called before the next change of this hub is stored; nil: nothing happens
	after  func()     // is called after the next change of this hub has conflicted, or is unsure; nil: nothing happens
}

// here and there are hubs. The registry is the one of here.
const here, there = "here", "there"

var errAway = errors.New("the log is away")

// inALedger runs a test in a bubble with its own clock.
func inALedger(t *testing.T, test func(l *ledger)) {
	inABubble(t, func(w *world) {
		l := &ledger{world: w}
		l.Share(Sharing{Self: here, Commit: l.commit, Committed: l.committed, Ended: func(string, uint64) {}})
		test(l)
		l.Close()
	})
}

func (l *ledger) committed(x *Change) {
	for _, e := range x.Events {
		l.watch(e)
	}
}

func (l *ledger) commit(x *Change) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.before; f != nil {
		l.before = nil
		f()
	}
	based := l.last
	if l.doc == "" {
		based = 0
	}
	switch {
	case l.away:
		l.failed = string(x.Document())
		if l.refuse {
			return 0, fmt.Errorf("%w: %w", ErrNotStored, errAway)
		}
		return 0, errAway
	case x.Version() != based:
		l.runAfter()
		return 0, ErrConflict
	case l.most > 0 && len(x.Document()) > l.most:
		return 0, ErrTooLarge
	}
	if version := l.append(string(x.Document()), true); !l.unsure {
		return version, nil
	}
	l.runAfter()
	return 0, errAway
}

func (l *ledger) runAfter() {
	if f := l.after; f != nil {
		l.after = nil
		f()
	}
}

// store stores a document as another hub; "" removes it.
func (l *ledger) store(doc string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.append(doc, false)
}

// append stores a document, and tells the registry. It returns the version.
func (l *ledger) append(doc string, own bool) uint64 {
	l.last++
	l.doc = doc
	var b []byte
	if doc != "" {
		b = []byte(doc)
	}
	l.must(l.Adopt("u", b, Ended, l.last, own))
	return l.last
}

// setAway makes changes of this hub fail, or no longer.
func (l *ledger) setAway(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// document returns the newest document.
func (l *ledger) document() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doc
}

// TestASessionBeginsWhileTheEndOfAnEarlierOneArrives has another hub end a session, and clear the end, before the first
// document of the next session is stored.
func TestASessionBeginsWhileTheEndOfAnEarlierOneArrives(t *testing.T) {
	const end = `{"hub":"there","gone":"ended"}`
	for name, c := range map[string]struct{ earlier, meanwhile, later []string }{
		"the end":                   {nil, []string{end}, nil},
		"it is cleared":             {[]string{end}, []string{""}, nil},
		"both":                      {nil, []string{end, ""}, nil},
		"both, before it is heard":  {nil, []string{end}, []string{""}},
		"both, and a session again": {nil, []string{end}, []string{"", `{"hub":"there","nodes":{"there":{}}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			inALedger(t, func(l *ledger) {
				for _, doc := range c.earlier {
					l.store(doc)
				}
				l.before = func() {
					for _, doc := range c.meanwhile {
						l.append(doc, false)
					}
				}
				l.after = func() {
					for _, doc := range c.later {
						l.append(doc, false)
					}
				}
				began := time.Now()
				s := l.open("u", "x", 0)
				if took := time.Since(began); took > 0 {
					t.Errorf("it took %v", took)
				}
				if doc := l.document(); !strings.Contains(doc, `"x"`) {
					t.Errorf("the document is %s", doc)
				}
				s.close(Closed)
			})
		})
	}
}

// TestADocumentThatTheLogHasLostIsStoredAgain has somebody else remove the document, which the hub learns when it changes it.
func TestADocumentThatTheLogHasLostIsStoredAgain(t *testing.T) {
	inALedger(t, func(l *ledger) {
		s := l.open("u", "x", 0)
		lose := func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.doc, l.before = "", func() { l.must(l.Adopt("u", nil, "", 0, false)) }
		}
		lose()
		l.must(l.SetWill("u", &Will{Group: "w"}))
		if doc := l.document(); !strings.Contains(doc, `"x"`) || !strings.Contains(doc, `"w"`) {
			t.Errorf("the document is %s", doc)
		}
		lose()
		s.close(Closed)
		if doc := l.document(); !strings.Contains(doc, `"lost"`) {
			t.Errorf("the document is %s", doc)
		}
		lose()
		time.Sleep(timeout)
		if doc := l.document(); l.Len() > 0 || doc != "" {
			t.Errorf("%d sessions are left, and the document %s", l.Len(), doc)
		}
	})
}

// TestAFarewellIsStoredWhenTheLogIsBack has a client say goodbye while the log is away.
func TestAFarewellIsStoredWhenTheLogIsBack(t *testing.T) {
	day := 24 * time.Hour
	for _, w := range []*Will{{}, {Delay: new(time.Duration)}, {Delay: &day, Holds: true}} {
		inALedger(t, func(l *ledger) {
			s := l.open("u", "x", 0)
			l.must(l.SetWill("u", w))
			l.setAway(true)
			s.Farewell()
			s.close(Closed)
			time.Sleep(timeout / 2)
			l.setAway(false)
			time.Sleep(timeout / 2)
			if doc := l.document(); strings.Contains(doc, "will") {
				t.Errorf("the document is %s", doc)
			}
			time.Sleep(timeout)
			if doc := l.document(); l.Len() > 0 || doc != "" {
				t.Errorf("%d sessions are left, and the document %s", l.Len(), doc)
			}
		})
	}
}

// TestATimeToBeLostIsStoredWhenTheLogIsBack has a session lost while the log is away. Its will holds it longer than it is kept.
func TestATimeToBeLostIsStoredWhenTheLogIsBack(t *testing.T) {
	day := 24 * time.Hour
	inALedger(t, func(l *ledger) {
		s := l.open("u", "x", 0)
		l.must(l.SetWill("u", &Will{Delay: &day, Holds: true}))
		l.setAway(true)
		s.Keep(20 * time.Second)
		s.close(Closed)
		time.Sleep(5 * time.Second)
		l.setAway(false)
		time.Sleep(19 * time.Second)
		if doc := l.document(); !strings.Contains(doc, "will") {
			t.Errorf("the document is %s", doc)
		}
		time.Sleep(2 * time.Second)
		if doc := l.document(); l.Len() > 0 || doc != "" {
			t.Errorf("%d sessions are left, and the document %s", l.Len(), doc)
		}
	})
}

// TestAFarewellConcernsNoLaterConnection has the client return at another hub, or here, before its farewell is stored.
func TestAFarewellConcernsNoLaterConnection(t *testing.T) {
	for name, back := range map[string]func(l *ledger){
		"there": func(l *ledger) {
			l.store(`{"nodes":{"here":{},"there":{}},"hub":"there","will":{"Group":"new"}}`)
			l.setAway(false)
		},
		"there, as a third hub says": func(l *ledger) { // the document of there is replaced before this hub reads it
			l.store(`{"nodes":{"there":{}},"hub":"third","will":{"Group":"new"}}`)
			l.setAway(false)
		},
		"there, and is lost there": func(l *ledger) { // this hub reads no document before that one
			l.store(`{"hub":"there","lost":1,"why":"closed","will":{"ID":7,"Group":"new","Delay":3600000000000,"Holds":true}}`)
			l.setAway(false)
		},
		"there, after it was stored": func(l *ledger) { // which this hub learns later; it does not read how the client returns
			l.store(l.failed)
			l.store(`{"hub":"there","lost":1,"why":"closed","will":{"Group":"new","Delay":3600000000000,"Holds":true}}`)
			l.setAway(false)
		},
		"here": func(l *ledger) {
			l.setAway(false)
			l.open("u", "x", 0)
			l.must(l.SetWill("u", &Will{Group: "new"}))
		},
		"here, while the log is away": func(l *ledger) {
			l.open("u", "x", 0)
			l.setAway(false)
			l.must(l.SetWill("u", &Will{Group: "new"}))
		},
		"here, and it is unsure whether that is stored": func(l *ledger) {
			s := l.open("u", "x", 0)
			l.setAway(false)
			l.unsure = true
			l.must(l.SetWill("u", &Will{Group: "new", Delay: new(time.Hour), Holds: true}))
			l.unsure = false
			s.close(Closed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inALedger(t, func(l *ledger) {
				s := l.open("u", "x", 0)
				l.must(l.SetWill("u", &Will{Group: "old"}))
				l.setAway(true)
				s.Farewell()
				s.close(Closed)
				back(l)
				time.Sleep(timeout)
				if doc := l.document(); !strings.Contains(doc, `"new"`) {
					t.Errorf("the document is %s", doc)
				}
			})
		})
	}
}

// TestAFarewellThatIsLateConcernsNoLaterConnection has this hub hear of the client's return at another hub, and then its farewell.
func TestAFarewellThatIsLateConcernsNoLaterConnection(t *testing.T) {
	inALedger(t, func(l *ledger) {
		s := l.open("u", "x", 0)
		l.must(l.SetWill("u", &Will{Group: "old"}))
		l.store(`{"nodes":{"here":{"filters":["x"]},"there":{}},"hub":"there","will":{"ID":7,"Group":"new"}}`)
		s.Farewell()
		s.close(Closed)
		if doc := l.document(); !strings.Contains(doc, `"new"`) {
			t.Errorf("the document is %s", doc)
		}
	})
}

// TestAFarewellConcernsItsOwnWill has the document change before the farewell is stored.
func TestAFarewellConcernsItsOwnWill(t *testing.T) {
	w := &Will{Group: "w", Delay: new(time.Hour), Holds: true}
	for name, c := range map[string]struct{ before, after func(l *ledger) }{
		"another hub takes out this one": {
			func(l *ledger) { l.must(l.SetWill("u", w)) },
			func(l *ledger) {
				lost := strings.NewReplacer(`"nodes":{"here":{"filters":["x"]}}`, `"lost":1,"why":"partitioned"`, `"hub":"here"`, `"hub":"there"`)
				l.store(lost.Replace(l.document()))
			},
		},
		"setting the will has failed, but it is stored": {
			func(l *ledger) {
				l.setAway(true)
				if err := l.SetWill("u", w); err != errAway {
					l.t.Errorf("setting the will: %v", err)
				}
				l.later = l.failed
			},
			func(l *ledger) { l.store(l.later) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inALedger(t, func(l *ledger) {
				s := l.open("u", "x", 0)
				c.before(l)
				l.setAway(true)
				s.Farewell()
				s.close(Closed)
				c.after(l)
				if doc := l.document(); !strings.Contains(doc, "will") {
					t.Errorf("the document is %s", doc)
				}
				l.setAway(false)
				time.Sleep(timeout / 2)
				if doc := l.document(); doc == "" || strings.Contains(doc, "will") {
					t.Errorf("the document is %s", doc)
				}
			})
		})
	}
}

// TestASessionThatIsTooLargeGoesOnWhereItsClientHasReturned has the client return at another hub, with a document that can be stored,
// before this hub ends a session that is too large.
func TestASessionThatIsTooLargeGoesOnWhereItsClientHasReturned(t *testing.T) {
	inALedger(t, func(l *ledger) {
		s := l.open("u", "x", 0)
		l.must(l.SetWill("u", &Will{Group: "old"}))
		l.mu.Lock()
		l.most = 100        // less than what remains of the session without its filter
		l.before = func() { // the session is lost
			l.before = func() { // and without its filter
				l.before = func() { // and is to end
					l.append(`{"nodes":{"there":{}},"hub":"there","will":{"ID":7,"Group":"new"}}`, false)
				}
			}
		}
		l.mu.Unlock()
		s.close(Closed)
		if doc := l.document(); l.Len() != 1 || !strings.Contains(doc, `"new"`) {
			t.Errorf("%d sessions are left, and the document %s", l.Len(), doc)
		}
	})
}
