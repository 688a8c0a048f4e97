package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// tb has the methods of *testing.T and *rapid.T that checks need.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// env is the environment of a test.
type env struct {
	*testing.T
	open     open
	panicked bool // a call may still hold a lock of the store
}

// guard runs a test and fails it if it panics.
func (e *env) guard(run func()) {
	defer func() {
		if v := recover(); v != nil {
			e.panicked = true
			e.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	run()
}

// log is a store with helpers for tests.
type log struct {
	store.Store
	t    tb
	seqs *seqs
}

func newLog(s store.Store, t tb) *log { return &log{s, t, &seqs{}} }

// in returns the log for a subtest.
func (l *log) in(t tb) *log { return &log{l.Store, t, l.seqs} }

// start opens a store. It is closed after the test, and must not leave a goroutine.
func (e *env) start(o Options) *log {
	e.Helper()
	before := goleak.IgnoreCurrent()
	s := e.open(e.T, o)
	e.Cleanup(func() {
		e.close(s)
		if !e.Failed() {
			leak.None(e.T, before)
		}
	})
	return newLog(s, e.T)
}

// closeTimeout is how long a Close may take. A longer one is considered to hang, so that its own test fails
// before the whole run times out.
const closeTimeout = 2 * time.Minute

func (e *env) close(s store.Store) {
	e.Helper()
	if e.panicked {
		return
	}
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, store.ErrClosed) {
			e.Errorf("close: %v", err)
		}
	case <-time.After(closeTimeout):
		e.Errorf("close did not return within %v", closeTimeout)
	}
}

// bubble runs a test with a store in a synctest bubble, which detects leaks itself.
func (e *env) bubble(o Options, test func(t *testing.T, l *log)) {
	e.Helper()
	synctest.Test(e.T, func(t *testing.T) {
		in := &env{T: t, open: e.open}
		s := e.open(t, o)
		t.Cleanup(func() {
			if !in.panicked {
				_ = s.Close()
			}
		})
		in.guard(func() { test(t, newLog(s, t)) })
	})
}

// text returns a message with the current time.
func text(groupName, s string) *store.Message {
	return &store.Message{Group: groupName, Time: time.Now(), Msg: store.AppendQuote(nil, s)}
}

// entries encodes messages.
func entries(list ...*store.Message) []store.Entry {
	out := make([]store.Entry, len(list))
	for i, m := range list {
		out[i] = m.Entry(nil)
	}
	return out
}

// add appends the messages in one call and returns the seq of the first.
func (l *log) add(list ...*store.Message) store.Seq {
	l.t.Helper()
	id, err := l.Append(context.Background(), entries(list...))
	if err != nil {
		l.t.Fatalf("append of %d entries: %v", len(list), err)
	}
	return id.Seq
}

// appendTexts appends texts to a group, each in a call of its own.
func (l *log) appendTexts(groupName string, texts ...string) {
	l.t.Helper()
	for _, s := range texts {
		l.add(text(groupName, s))
	}
}

// appendNumbers appends the texts from…to to a group.
func (l *log) appendNumbers(groupName string, from, to int) {
	l.t.Helper()
	for i := from; i <= to; i++ {
		l.appendTexts(groupName, fmt.Sprint(i))
	}
}

func (l *log) newest() store.Seq {
	_, newest := l.Bounds()
	return newest.Seq
}

func (l *log) epoch() string {
	_, newest := l.Bounds()
	return newest.Epoch
}

// policy sets the policy of a filter.
func (l *log) policy(filter string, p store.Policy) {
	l.t.Helper()
	if err := l.SetPolicy(filters(filter)[0], p); err != nil {
		l.t.Fatalf("policy of %s: %v", filter, err)
	}
}

// read reads one large batch.
func (l *log) read(q store.Query) *store.Batch {
	l.t.Helper()
	b := &store.Batch{Buf: make([]byte, 0, 4<<20)}
	if err := l.Read(q, b); err != nil {
		l.t.Fatalf("read: %v", err)
	}
	return b
}

// held returns the texts held for a filter.
func (l *log) held(filter string) []string {
	l.t.Helper()
	return texts(l.read(store.Query{Select: filters(filter)}))
}

// retained returns the retained texts of a filter.
func (l *log) retained(filter string) []string {
	l.t.Helper()
	return texts(l.read(store.Query{Select: filters(filter), Retained: true}))
}

// want fails unless the texts held for the filter are those in list, separated by spaces.
func (l *log) want(filter, list string) {
	l.t.Helper()
	wantTexts(l.t, l.held(filter), list)
}

// wantGaps fails unless a read reports the gaps in list, written as "filter:evicted …".
func (l *log) wantGaps(q store.Query, list string) {
	l.t.Helper()
	if got := l.gaps(l.read(q)); got != list {
		l.t.Errorf("%v after %d: gaps %q, want %q", q.Select, l.count(q.After), got, list)
	}
}

// gaps formats a batch's gaps, sorted, with the ordinals of the evicted messages.
func (l *log) gaps(b *store.Batch) string {
	var out []string
	for _, g := range b.Gaps {
		n := l.count(g.Evicted)
		if l.at(n) != g.Evicted {
			l.t.Errorf("the gap %v names no message: the last one before it is %d", g, l.at(n))
		}
		out = append(out, fmt.Sprintf("%s:%d", g.Filter, n))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func texts(b *store.Batch) []string {
	out := make([]string, len(b.Frames))
	for i := range b.Frames {
		out[i] = string(b.Frames[i].Payload(nil))
	}
	return out
}

func wantTexts(t tb, got []string, list string) {
	t.Helper()
	if want := strings.Fields(list); !slices.Equal(got, want) {
		t.Errorf("got %.300q, want %.300q", got, want)
	}
}

// numbers returns from…to in the format of wantTexts.
func numbers(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.String()
}

// filters parses filters separated by spaces.
func filters(list string) group.Set {
	var set group.Set
	for s := range strings.FieldsSeq(list) {
		f, err := group.ParseFilter(s)
		if err != nil {
			panic(err)
		}
		set = append(set, f)
	}
	return set
}

// ago returns a text that was sent d ago. The times of a log rise, so append the oldest first.
func ago(d time.Duration, groupName, s string) *store.Message {
	m := text(groupName, s)
	m.Time = time.Now().Add(-d)
	return m
}

// expiring returns a text that expires after d, or has expired if d is negative.
func expiring(d time.Duration, groupName, s string) *store.Message {
	m := text(groupName, s)
	m.Expires = time.Now().Add(d)
	return m
}
