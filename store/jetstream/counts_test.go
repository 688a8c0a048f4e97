package jetstream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store/memory"
)

// counted has a stream with messages of the group g, and a bucket with their counts, which several janitors share.
type counted struct {
	*testing.T
	countedStream
	countsBucket
}

type countedStream struct {
	jetstream.Stream
	end      uint64
	messages uint64
	retained uint64
	created  time.Time
	asked    func() // called once, when the stream has been asked
}

type countsBucket struct {
	value    []byte
	revision uint64
	last     uint64 // revision
	full     bool   // there is no room for another version
	used     bool   // nor for one in place of what is removed
}

func newCounted(t *testing.T) *counted {
	return &counted{T: t, countedStream: countedStream{end: end, messages: 5}}
}

// end is the position that the hubs have reached.
const end = 10

func (s *countedStream) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	info := &jetstream.StreamInfo{Created: s.created, State: jetstream.StreamState{LastSeq: s.end, Subjects: map[string]uint64{"wb.S.m.g": s.messages, "wb.S.r.g": s.retained}}}
	if asked := s.asked; asked != nil {
		s.asked = nil
		asked()
	}
	return info, nil
}

func (b *countsBucket) Get(context.Context, string) ([]byte, uint64, error) {
	return b.value, b.revision, nil
}

func (b *countsBucket) Put(context.Context, string, []byte) (uint64, error) { return 0, nil }

func (b *countsBucket) Update(_ context.Context, _ string, value []byte, revision uint64) (uint64, error) {
	switch {
	case revision != b.revision:
		return 0, &jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence}
	case b.full && (b.used || b.revision > 0):
		return 0, &jetstream.APIError{ErrorCode: 10023}
	}
	b.last++
	b.value, b.revision = value, b.last
	return b.revision, nil
}

func (b *countsBucket) Remove(_ context.Context, _ string, below uint64) error {
	if below == 0 || b.revision < below {
		b.value, b.revision = nil, 0
	}
	return nil
}

// janitor returns the janitor of another log.
func (c *counted) janitor() *janitor {
	l := newHoled(c.T).l
	l.self, l.subjects, l.stream, l.bucket = random(), subjectsOf("S"), &c.countedStream, &c.countsBucket
	l.tail.reached = end
	return &janitor{l: l}
}

// removes lets a janitor announce a removal, and removes a message.
func (c *counted) removes(j *janitor) {
	c.Helper()
	c.must(j.disturb(c.Context(), []mark{{Eviction: memory.Eviction{Group: "g"}}}))
	c.messages--
}

func (c *counted) count(j *janitor) {
	c.Helper()
	c.must(j.count(c.Context(), true))
}

func (c *counted) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// holds checks whether the counts say how many messages have to be there, and that they are.
func (c *counted) holds(sure bool) {
	c.Helper()
	is, err := c.janitor().l.recallCounts(c.Context())
	c.must(err)
	part := partOf("g")
	switch {
	case is.unsure()[part] == sure:
		c.Errorf("the counts are sure: %v, announced are %v", !sure, is.Removals)
	case sure && is.Messages[part] != int(c.messages+c.retained):
		c.Errorf("%d messages are counted, %d are there", is.Messages[part], c.messages)
	}
}

// TestACountNeverForgetsARemoval holds that a hub that starts when all others have died does not miss what they have
// removed, even if two of them took themselves for the janitor.
func TestACountNeverForgetsARemoval(t *testing.T) {
	for name, test := range map[string]func(c *counted, a, b *janitor){
		"of another hub, announced while it counts": func(c *counted, a, b *janitor) {
			c.asked = func() { c.removes(b) }
			if err := a.count(c.Context(), true); !errors.Is(err, errRecounted) {
				c.Errorf("the older count is written: %v", err)
			}
			c.holds(false)
		},
		"of another hub, announced before the first count": func(c *counted, a, b *janitor) {
			c.value, c.revision = nil, 0
			c.asked = func() { c.removes(b) }
			if err := a.count(c.Context(), true); !errors.Is(err, errRecounted) {
				c.Errorf("the older count is written: %v", err)
			}
			c.holds(false)
		},
		"of another hub, announced before": func(c *counted, a, b *janitor) {
			c.removes(b)
			c.count(a)
			c.messages-- // its removal goes on
			c.holds(false)
			c.count(b)
			c.holds(true)
		},
		"of another hub, which then dies": func(c *counted, a, b *janitor) {
			c.removes(b)
			c.count(a)
			c.holds(false)
			time.Sleep(time.Until(b.l.removesUntil()) + 1)
			c.count(a)
			c.holds(true)
		},
		"of another hub, which says that it has ended": func(c *counted, a, b *janitor) {
			c.removes(b)
			c.count(a)
			c.must(b.withdraw(c.Context()))
			c.holds(false) // they have not been counted since
			c.count(a)
			c.holds(true)
		},
		"of another hub, which says that it has ended while they are counted": func(c *counted, a, b *janitor) {
			c.asked = func() {
				c.removes(b)
				c.must(b.withdraw(c.Context()))
			}
			if err := a.count(c.Context(), true); !errors.Is(err, errRecounted) {
				c.Errorf("the older count is written: %v", err)
			}
			c.count(a)
			c.holds(true)
		},
		"of another hub that did not end": func(c *counted, a, b *janitor) {
			c.removes(b)
			b.counted.removing = b.l.removesUntil()
			c.must(b.withdraw(c.Context()))
			c.count(a)
			c.holds(false)
			time.Sleep(time.Until(b.counted.removing) + 1)
			c.must(b.withdraw(c.Context()))
			c.count(a)
			c.holds(true)
		},
		"of its own that did not end": func(c *counted, a, _ *janitor) {
			c.removes(a)
			a.counted.removing = a.l.removesUntil()
			c.count(a)
			c.holds(false)
			time.Sleep(time.Until(a.counted.removing) + 1)
			c.count(a)
			c.holds(true)
		},
		"announced while another is announced": func(c *counted, a, b *janitor) {
			c.removes(a)
			c.removes(b)
			c.count(a)
			c.holds(false)
			c.count(b)
			c.holds(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCounted(t)
				c.count(c.janitor())
				c.holds(true)
				test(c, c.janitor(), c.janitor())
			})
		})
	}
}

// TestTheEndOfARemovalChangesNothingElseInTheCounts has two hubs that have announced removals. One of them says that its own has ended, and says so
// again when a count has dropped the announcement.
func TestTheEndOfARemovalChangesNothingElseInTheCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounted(t)
		a, b := c.janitor(), c.janitor()
		c.count(a)
		c.removes(a)
		c.removes(b)
		want, err := b.l.recallCounts(t.Context())
		c.must(err)
		r := want.Removals[b.l.self]
		r.Until = time.Time{}
		want.Removals[b.l.self] = r
		want.revision++
		withdraws := func() {
			t.Helper()
			c.must(b.withdraw(t.Context()))
			if is, err := b.l.recallCounts(t.Context()); err != nil || !reflect.DeepEqual(is, want) {
				t.Errorf("the counts up to %d are revision %d, announced are %v; want %d, %d, %v: %v", is.At, is.revision, is.Removals, want.At, want.revision, want.Removals, err)
			}
		}
		withdraws()
		withdraws()
		c.removes(b)
		time.Sleep(time.Until(b.l.removesUntil()) + 1)
		c.count(a)
		want, err = a.l.recallCounts(t.Context())
		c.must(err)
		withdraws()
	})
}

// TestARemovalThatThereIsNoRoomToAnnounceIsNotMissed holds that a hub that starts when all others have died does not miss what they
// have removed from a stream in which there is no room, and that the messages are counted again.
func TestARemovalThatThereIsNoRoomToAnnounceIsNotMissed(t *testing.T) {
	for name, test := range map[string]func(c *counted, a, b *janitor){
		"but in place of the counts": func(c *counted, a, _ *janitor) {
			c.full = true
			c.removes(a)
			c.holds(false)
		},
		"at all": func(c *counted, a, _ *janitor) {
			c.full, c.used = true, true
			c.removes(a)
		},
		"while another hub counts": (*counted).removesMeanwhile,
		"while another hub counts for the first time": func(c *counted, a, b *janitor) {
			c.value, c.revision = nil, 0
			c.removesMeanwhile(a, b)
		},
		"and that did not end": func(c *counted, a, _ *janitor) {
			c.full, c.used = true, true
			c.removes(a)
			a.counted.removing = a.l.removesUntil()
			c.full = false
			c.count(a)
			c.messages--
			c.missesNothing()
			time.Sleep(time.Until(a.counted.removing) + 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCounted(t)
				c.count(c.janitor())
				a, b := c.janitor(), c.janitor()
				test(c, a, b)
				c.missesNothing()
				c.full = false
				c.count(a)
				c.holds(true)
			})
		})
	}
}

// removesMeanwhile has hub b remove messages while hub a counts.
func (c *counted) removesMeanwhile(a, b *janitor) {
	c.Helper()
	c.asked = func() {
		c.full, c.used = true, true
		c.removes(b)
		c.full = false
	}
	if err := a.count(c.Context(), true); !errors.Is(err, errRecounted) {
		c.Errorf("the older count is written: %v", err)
	}
}

// missesNothing has a hub start that finds the counts.
func (c *counted) missesNothing() {
	c.Helper()
	j := c.janitor()
	var logged bytes.Buffer
	j.l.opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	c.noteCounted(j.l)
	if err := c.check(j.l); err != nil || logged.Len() > 0 {
		c.Errorf("it misses a message: %v, %s", err, &logged)
	}
}

// noteCounted has a hub that starts note the messages that are not counted.
func (c *counted) noteCounted(l *Log) {
	c.Helper()
	was, err := l.recallCounts(c.Context())
	c.must(err)
	l.tail.noteAfter(was.At)
}

// check has a hub that starts compare the counts. It does so again as learnPurges does.
func (c *counted) check(l *Log) (err error) {
	for again := true; again; again = outdated(err) {
		err = l.checkAtStart(c.Context(), false)
	}
	return err
}

// TestAHubThatStartsMissesNothingThatAnotherRemovesMeanwhile holds that also if the other one has counted again, up to the
// same position.
func TestAHubThatStartsMissesNothingThatAnotherRemovesMeanwhile(t *testing.T) {
	c := newCounted(t)
	a, b := c.janitor(), c.janitor()
	var logged bytes.Buffer
	b.l.opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	c.count(a)
	c.noteCounted(b.l)
	c.asked = func() {
		c.removes(a)
		c.count(a)
	}
	if err := c.check(b.l); err != nil || logged.Len() > 0 {
		t.Errorf("it misses a message: %v, %s", err, &logged)
	}
}

// TestTheCountsOfAStreamAreNotComparedWithAnother holds that nothing is told as missing while the stream has been replaced by another
// one, and that the comparison ends when the hub knows.
func TestTheCountsOfAStreamAreNotComparedWithAnother(t *testing.T) {
	c := newCounted(t)
	c.count(c.janitor())
	l := c.janitor().l
	was, err := l.recallCounts(t.Context())
	c.must(err)
	l.tail.noteAfter(was.At)
	c.created, c.messages = time.Unix(1, 0), 0
	if d, err := l.compare(t.Context(), was); !errors.Is(err, errReplaced) || !passing(err) || d != nil {
		t.Errorf("another stream is compared: %v", err)
	}
	l.tail.created = c.created
	l.mem.Reset("another", end)
	if d, err := l.compare(t.Context(), was); !errors.Is(err, errRenewed) || d != nil {
		t.Errorf("another stream is compared: %v", err)
	}
}

// TestMoreMessagesThanCanBeComparedAreLogged has a hub that has forgotten some messages which it would have to leave out.
func TestMoreMessagesThanCanBeComparedAreLogged(t *testing.T) {
	c := newCounted(t)
	c.count(c.janitor())
	j := c.janitor()
	var logged bytes.Buffer
	j.l.opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	was, err := j.l.recallCounts(t.Context())
	c.must(err)
	j.l.tail.noteAfter(was.At + 1)
	c.must(c.check(j.l))
	if n := strings.Count(logged.String(), "too many messages"); n != 1 {
		t.Errorf("told %d times: %s", n, &logged)
	}
}

// TestAJanitorForgetsWhatItHasRemovedWithTheMark holds that what a janitor knows of groups is bounded by the marks that there are.
func TestAJanitorForgetsWhatItHasRemovedWithTheMark(t *testing.T) {
	j := newCounted(t).janitor()
	j.epoch, j.cleaned = j.l.epoch(), map[string]cleaning{"g": {done: end}}
	if err := j.remove(t.Context()); err != nil || len(j.cleaned) > 0 {
		t.Errorf("without a mark: %v, %v", j.cleaned, err)
	}
}

// TestAHubThatStartsReadsWhatAnotherHubHasMarkedMeanwhile has another hub that has found that messages are missing, and has counted
// again behind its marks.
func TestAHubThatStartsReadsWhatAnotherHubHasMarkedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounted(t)
		a, b := c.janitor(), c.janitor()
		c.count(a)
		b.l.ctx = t.Context()
		c.noteCounted(b.l)
		const marks = end + 2
		c.asked = func() {
			a.l.tail.reached, c.end = marks, marks
			c.count(a)
		}
		checked := make(chan error, 1)
		go func() { checked <- c.check(b.l) }()
		synctest.Wait()
		select {
		case err := <-checked:
			t.Errorf("the hub starts before it has read the marks: %v", err)
			return
		default:
		}
		b.l.tail.mu.Lock()
		b.l.tail.reached = marks
		b.l.arrived(b.l.tail)
		b.l.tail.mu.Unlock()
		c.must(<-checked)
	})
}

// TestAHubThatStartsComparesAgainThoughAnotherRemovesMessages holds that a hub which is about to remove messages is not taken for one that has told
// what is missing: it may not know yet.
func TestAHubThatStartsComparesAgainThoughAnotherRemovesMessages(t *testing.T) {
	c := newCounted(t)
	a, l := c.janitor(), c.janitor().l
	c.count(a)
	c.noteCounted(l)
	c.messages = 0 // they are purged
	c.asked = func() { c.must(a.disturb(t.Context(), []mark{{Eviction: memory.Eviction{Group: "other"}}})) }
	if err := l.checkAtStart(t.Context(), false); !outdated(err) {
		t.Errorf("the hub does not compare again: %v", err)
	}
	if found, err := l.findAtStart(t.Context()); err != nil || found == nil {
		t.Errorf("the purge is not found: %v", err)
	}
}

// TestAMessageThatIsStoredWhileAHubComparesDoesNotStandInForAnother has a retained message stored after the hub has asked for the others of the group.
func TestAMessageThatIsStoredWhileAHubComparesDoesNotStandInForAnother(t *testing.T) {
	c := newCounted(t)
	c.retained = 3
	c.count(c.janitor())
	l := c.janitor().l
	c.noteCounted(l)
	c.retained-- // it is purged
	c.asked = func() {
		c.end, c.retained = c.end+1, c.retained+1
		l.tail.noted.add(l.subjects.message("g", retained), end+1)
		l.tail.reached = end + 1
	}
	found, err := l.findAtStart(t.Context())
	if c.must(err); found == nil || found.missing[partOf("g")] != 1 {
		t.Errorf("of one message that is missing: %+v", found)
	}
}

// TestALogOpensThoughItsStreamIsReplacedWhileItCompares holds that nothing is missing then, whatever the hub waits for: the end of the stream
// that was counted, or the marks of another hub.
func TestALogOpensThoughItsStreamIsReplacedWhileItCompares(t *testing.T) {
	for name, recounted := range map[string]bool{"compares": false, "reads what another hub has marked": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCounted(t)
				a, l := c.janitor(), c.janitor().l
				c.count(a)
				l.ctx = t.Context()
				c.noteCounted(l)
				const more = end + 2
				if recounted {
					c.asked = func() {
						a.l.tail.reached, c.end = more, more
						c.count(a)
					}
				} else {
					c.end = more
				}
				checked := make(chan error, 1)
				go func() { checked <- c.check(l) }()
				synctest.Wait()
				l.tail.renew("another", &jetstream.StreamInfo{})
				c.must(<-checked)
			})
		})
	}
}
