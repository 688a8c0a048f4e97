package storetest_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/storetest"
)

// brokenPeer is a hub's log with a bug. Its fields replace methods of the good log.
type brokenPeer struct {
	storetest.Peer
	append func(p storetest.Peer, entries []store.Entry, notes []store.Note) (store.ID, error)
	follow func(p storetest.Peer, f func(store.Note)) error
	call   func(h store.Hubs, hub string, request []byte) ([]byte, error)
	down   func(f func(string)) func(string)
	stored func(f func(store.ID)) func(store.ID)
	purge  func(p storetest.Peer, name string) error
	hasty  bool // CatchUp does not wait
	whole  bool // PurgeThrough purges everything
}

func (b *brokenPeer) CatchUp(ctx context.Context) error {
	if b.hasty {
		return nil
	}
	return b.Peer.CatchUp(ctx)
}

func (b *brokenPeer) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	if b.append != nil {
		return b.append(b.Peer, entries, notes)
	}
	return b.Peer.AppendNoted(ctx, entries, notes...)
}

func (b *brokenPeer) AppendSettling(ctx context.Context, entries []store.Entry, stored func(store.ID), notes ...store.Note) (store.ID, error) {
	if b.stored != nil {
		stored = b.stored(stored)
	}
	return b.Peer.(store.Settling).AppendSettling(ctx, entries, stored, notes...)
}

func (b *brokenPeer) Follow(f func(store.Note)) error {
	if b.follow != nil {
		return b.follow(b.Peer, f)
	}
	return b.Peer.Follow(f)
}

func (b *brokenPeer) Purge(name string) error {
	if b.purge != nil {
		return b.purge(b.Peer, name)
	}
	return b.Peer.Purge(name)
}

func (b *brokenPeer) PurgeThrough(name string, through store.ID) error {
	if b.whole {
		return b.Peer.Purge(name)
	}
	return b.Peer.PurgeThrough(name, through)
}

func (b *brokenPeer) Hubs() store.Hubs { return &brokenHubs{b.Peer.Hubs(), b} }

type brokenHubs struct {
	store.Hubs
	broken *brokenPeer
}

func (b *brokenHubs) Call(ctx context.Context, hub string, request []byte) ([]byte, error) {
	if b.broken.call != nil {
		return b.broken.call(b.Hubs, hub, request)
	}
	return b.Hubs.Call(ctx, hub, request)
}

func (b *brokenHubs) Down(f func(string)) {
	if b.broken.down != nil {
		f = b.broken.down(f)
	}
	b.Hubs.Down(f)
}

// sharedBugs are bugs of shared logs, each with the tests that should find it.
var sharedBugs = []struct {
	name   string
	finder string // prefix of the names of these tests
	bug    brokenPeer
}{
	{"ignores guards", "of two guarded", brokenPeer{
		append: func(p storetest.Peer, entries []store.Entry, notes []store.Note) (store.ID, error) {
			for i := range notes {
				notes[i].Guarded = false
			}
			return p.AppendNoted(context.Background(), entries, notes...)
		},
	}},
	{"stores the entries in spite of a conflict", "a conflict stores", brokenPeer{
		append: func(p storetest.Peer, entries []store.Entry, notes []store.Note) (store.ID, error) {
			id, err := p.AppendNoted(context.Background(), entries, notes...)
			if errors.Is(err, store.ErrConflict) {
				_, _ = p.Append(context.Background(), entries)
			}
			return id, err
		},
	}},
	{"checks only the first guard", "each of several", brokenPeer{
		append: func(p storetest.Peer, entries []store.Entry, notes []store.Note) (store.ID, error) {
			for i := range notes {
				notes[i].Guarded = notes[i].Guarded && i == 0
			}
			return p.AppendNoted(context.Background(), entries, notes...)
		},
	}},
	{"stores entries before their notes", "Follow yields a note before", brokenPeer{
		append: func(p storetest.Peer, entries []store.Entry, notes []store.Note) (store.ID, error) {
			id, err := p.Append(context.Background(), entries)
			for range 100 {
				runtime.Gosched() // lets a reader see the entries meanwhile
			}
			if err == nil {
				_, err = p.AppendNoted(context.Background(), nil, notes...)
			}
			return id, err
		},
	}},
	{"stores entries one by one", "entries and notes are stored together", brokenPeer{
		append: func(p storetest.Peer, entries []store.Entry, notes []store.Note) (first store.ID, err error) {
			for i := range entries {
				id, err := p.Append(context.Background(), entries[i:i+1])
				if err != nil {
					return id, err
				}
				if i == 0 {
					first = id
				}
			}
			_, err = p.AppendNoted(context.Background(), nil, notes...)
			return first, err
		},
	}},
	{"appends again after an unknown outcome", "with unknown outcomes", brokenPeer{
		append: func(p storetest.Peer, entries []store.Entry, notes []store.Note) (store.ID, error) {
			id, err := p.AppendNoted(context.Background(), entries, notes...)
			if errors.Is(err, store.ErrUnknownOutcome) {
				for i := range notes {
					notes[i].Guarded = false
				}
				return p.AppendNoted(context.Background(), entries, notes...)
			}
			return id, err
		},
	}},
	{"keeps brief notes of its own hub only", "a brief note", brokenPeer{
		follow: func(p storetest.Peer, f func(store.Note)) error {
			return p.Follow(func(n store.Note) {
				if !n.Brief {
					f(n)
				}
			})
		},
	}},
	{"does not tell removals", "a guarded note is removed", brokenPeer{
		follow: func(p storetest.Peer, f func(store.Note)) error {
			return p.Follow(func(n store.Note) {
				if n.Value != nil {
					f(n)
				}
			})
		},
	}},
	{"does not say why notes are removed", "a guarded note is removed", brokenPeer{
		follow: func(p storetest.Peer, f func(store.Note)) error {
			return p.Follow(func(n store.Note) {
				n.Why = ""
				f(n)
			})
		},
	}},
	{"does not catch up", "CatchUp waits", brokenPeer{hasty: true}},
	{"takes all notes for its own", "Follow says which notes", brokenPeer{
		follow: func(p storetest.Peer, f func(store.Note)) error {
			return p.Follow(func(n store.Note) {
				n.Own = true
				f(n)
			})
		},
	}},
	{"does not tell the notes that exist", "Follow yields the notes", brokenPeer{
		follow: func(p storetest.Peer, f func(store.Note)) error {
			known := false
			err := p.Follow(func(n store.Note) {
				if known {
					f(n)
				}
			})
			known = true
			return err
		},
	}},
	{"purges only its own copy", "policies and purges", brokenPeer{
		purge: func(p storetest.Peer, name string) error { return p.(*sharedtest.Log).Log.Purge(name) },
	}},
	{"purges whole groups", "PurgeThrough evicts", brokenPeer{whole: true}},
	{"calls itself", "a call is answered", brokenPeer{
		call: func(h store.Hubs, _ string, request []byte) ([]byte, error) {
			return h.Call(context.Background(), h.Self(), request)
		},
	}},
	{"tells twice that an append is stored", "of appends with an unknown outcome", brokenPeer{
		stored: func(f func(store.ID)) func(store.ID) { return func(id store.ID) { f(id); f(id) } },
	}},
	{"tells twice that a hub is down", "a hub that closed the log is down", brokenPeer{
		down: func(f func(string)) func(string) { return func(id string) { f(id); f(id) } },
	}},
}

// TestBrokenShared runs the suite with a broken log. TestTheSharedSuiteFindsBugs runs it in a process of its own.
func TestBrokenShared(t *testing.T) {
	for _, c := range sharedBugs {
		if c.name != os.Getenv("STORETEST_BUG") {
			continue
		}
		storetest.RunShared(t, func(*testing.T) storetest.SharedLog {
			cluster := sharedtest.New()
			open := func() storetest.Peer {
				p := c.bug
				p.Peer = cluster.Open()
				return &p
			}
			return storetest.SharedLog{
				Open:      func(*testing.T) storetest.Peer { return open() },
				Disturbed: func(*testing.T) (storetest.Peer, func()) { cluster.Unknown = 300; return open(), func() {} },
			}
		})
	}
}

func TestTheSharedSuiteFindsBugs(t *testing.T) {
	for _, c := range sharedBugs {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			finds(t, "TestBrokenShared", c.name, c.finder)
		})
	}
}
