package storetest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"
	"github.com/watchbox-go/watchbox/store"
)

// Peer is a log that hubs share, as one of them sees it.
type Peer interface {
	store.Store
	store.Shared
}

// SharedLog is a new, empty log for a test.
type SharedLog struct {
	// Open opens the log for one more hub.
	Open func(t *testing.T) Peer

	// Disturbed opens the log for one more hub, some of whose appends fail with store.ErrUnknownOutcome or
	// store.ErrAway until stop is called. If it is nil, the log is not tested with disturbances.
	Disturbed func(t *testing.T) (p Peer, stop func())
}

// patience is how long a test waits for something that is not bounded by a promise.
const patience = time.Minute

// sharedTest is a promise of store.Shared in words, and the function that tests it.
type sharedTest struct {
	name string
	run  func(c *cluster)
}

// RunShared tests the logs that newLog returns, each with several hubs. Each hub's log has to pass Run, too.
func RunShared(t *testing.T, newLog func(t *testing.T) SharedLog) {
	for _, c := range slices.Concat(guardTests, noteTests, peerTests, settlingTests, hubTests) {
		t.Run(c.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() {
				if !t.Failed() {
					leak.None(t, before)
				}
			})
			e := &env{T: t}
			e.guard(func() { c.run(&cluster{env: e, log: newLog(t), seqs: &seqs{}}) })
		})
	}
}

// cluster is a shared log with its hubs.
type cluster struct {
	*env
	log  SharedLog
	seqs *seqs
}

// peer is a hub's log with helpers for tests.
type peer struct {
	*log
	store.Shared
	env *env
}

// hub opens the log for one more hub. It is closed after the test.
func (c *cluster) hub() *peer {
	c.Helper()
	return c.peer(c.log.Open(c.T))
}

func (c *cluster) peer(s Peer) *peer {
	c.Helper()
	c.Cleanup(func() { c.close(s) })
	return &peer{&log{s, c.T, c.seqs}, s, c.env}
}

// disturbed opens the log for one more hub, whose appends may fail.
func (c *cluster) disturbed() (p *peer, stop func()) {
	c.Helper()
	if c.log.Disturbed == nil {
		c.Skip("the log cannot be disturbed")
	}
	s, stop := c.log.Disturbed(c.T)
	return c.peer(s), stop
}

// two opens the log for two hubs.
func (c *cluster) two() (a, b *peer) { return c.hub(), c.hub() }

// AppendNoted implements store.Noter, and records the seqs.
func (p *peer) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	id, err := p.Shared.AppendNoted(ctx, entries, notes...)
	if err == nil {
		p.seqs.add(id.Seq, len(entries))
	}
	return id, err
}

// put appends messages with notes and returns the id.
func (p *peer) put(list []*store.Message, notes ...store.Note) store.ID {
	p.t.Helper()
	id, err := p.AppendNoted(p.env.Context(), entries(list...), notes...)
	if err != nil {
		p.t.Fatalf("append of %d entries and %d notes: %v", len(list), len(notes), err)
	}
	return id
}

// refuses fails unless the append fails with the error.
func (p *peer) refuses(want error, list []*store.Message, notes ...store.Note) {
	p.t.Helper()
	if id, err := p.AppendNoted(p.env.Context(), entries(list...), notes...); err != want {
		p.t.Errorf("append of %d entries and %d notes: %v, %v; want %v", len(list), len(notes), id, err, want)
	}
}

// reaches waits until the messages up to seq can be read.
func (p *peer) reaches(seq store.Seq) {
	p.t.Helper()
	wake := make(chan struct{}, 1)
	defer p.Watch(wake)()
	for late := time.After(patience); p.newest() < seq; {
		select {
		case <-wake:
		case <-late:
			p.t.Fatalf("a hub has read up to %d, and not up to %d", p.newest(), seq)
		}
	}
}

// meets appends a message to a group of its own, and waits until the other hub has it. The other hub then has
// everything that was appended before.
func (p *peer) meets(other *peer) {
	p.t.Helper()
	other.reaches(p.add(text("$meet", "x")))
}

// all reads all messages that the filters match, with the gaps of the first read.
func (p *peer) all(set string) *store.Batch {
	p.t.Helper()
	all := &store.Batch{}
	for q := (store.Query{Select: filters(set)}); ; {
		b := p.read(q)
		if q.After == 0 {
			all.Gaps, all.Epoch = b.Gaps, b.Epoch
		}
		all.Frames, all.Buf = append(all.Frames, b.Frames...), append(all.Buf, b.Buf...)
		if q.After, q.Reported = b.Next, b.Reported; b.Next >= p.newest() {
			return all
		}
	}
}

// notes returns the notes that Notes yields.
func (p *peer) notes() (list []store.Note) {
	p.t.Helper()
	if err := p.Notes(func(n store.Note) error { list = append(list, n); return nil }); err != nil {
		p.t.Fatalf("%v", err)
	}
	return list
}

// note returns the note with the key, or a note without a value.
func (p *peer) note(key string) store.Note {
	p.t.Helper()
	for _, n := range p.notes() {
		if n.Key == key {
			return n
		}
	}
	return store.Note{}
}

// await waits until the hub knows a version of a note.
func (p *peer) await(key string, at store.Seq) {
	p.t.Helper()
	p.env.eventually("a note arrives", func() bool { return p.note(key).At >= at })
}

// noteLog records the notes that Follow yields.
type noteLog struct {
	mu    sync.Mutex
	list  []store.Note
	moved chan struct{} // closed when a note is added
}

// follow follows the notes of a hub.
func (p *peer) follow() *noteLog {
	p.t.Helper()
	f := &noteLog{moved: make(chan struct{})}
	if err := p.Follow(f.add); err != nil {
		p.t.Fatalf("%v", err)
	}
	return f
}

func (f *noteLog) add(n store.Note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n.Value = slices.Clone(n.Value)
	f.list = append(f.list, n)
	close(f.moved)
	f.moved = make(chan struct{})
}

// all returns the notes so far.
func (f *noteLog) all() []store.Note {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// await returns the notes once ok is true for them.
func (f *noteLog) await(t tb, ok func([]store.Note) bool) []store.Note {
	t.Helper()
	for late := time.After(patience); ; {
		f.mu.Lock()
		list, moved := f.list, f.moved
		f.mu.Unlock()
		if ok(list) {
			return list
		}
		select {
		case <-moved:
		case <-late:
			t.Fatalf("the notes do not arrive: there are %d", len(list))
		}
	}
}

// have is for await: there are n notes.
func have(n int) func([]store.Note) bool {
	return func(list []store.Note) bool { return len(list) >= n }
}

// eventually waits until ok, for a state that can only be asked.
func (e *env) eventually(what string, ok func() bool) {
	e.Helper()
	for late := time.After(patience); !ok(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			e.Fatalf("%s: it does not happen", what)
		}
	}
}
