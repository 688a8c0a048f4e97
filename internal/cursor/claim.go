package cursor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Learn takes over a note whose key begins with Prefix: one that a hub finds in the log when it starts or, with a shared
// log, one that Follow tells. The readers of a hub that is alone are away: it has just started.
func (s *Set) Learn(n store.Note) error {
	key := n.Key[len(Prefix):]
	self := s.self()
	if n.Value == nil {
		s.learnRemoval(key)
		return nil
	}
	p, hub, err := decode(key, n.Value)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	wrote := s.shared == nil || slices.Contains(s.ids, hub) // this hub
	switch {
	case e == nil:
		e = s.add(key)
	case e.ours && wrote:
		if e.at = n.At; bytes.Equal(e.value, n.Value) {
			e.value = n.Value // which the log keeps, too
		}
		return nil
	case e.ours && e.here && !e.claiming:
		s.end(key)
	}
	e.at, e.dirty, e.removed = n.At, false, false
	value := n.Value
	if s.shared == nil {
		value = bytes.Clone(value)
	}
	s.put(e, &p, value, wrote)
	if wrote && e.here { // nobody reads here: the hub has just started, or it had lost the position
		s.change(e, self, func(p *Position) { p.Away = time.Now() })
	}
	s.arm()
	return nil
}

// learnRemoval learns that some hub has removed a position.
func (s *Set) learnRemoval(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil {
		return
	}
	e.at = 0
	switch {
	case e.writing: // if it is the removal that is being written, finish drops the entry
	case e.ours && !e.removed: // it expired for another hub when its reader came back
		s.mark(e)
		s.arm()
	default:
		e.expired = false // the other hub announces it
		s.drop(e)
	}
}

// Anew tells that the log has lost its notes. The hub writes its positions again.
func (s *Set) Anew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		e.at = 0
		if e.ours {
			s.mark(e)
		}
	}
	s.arm()
}

// OnEnd sets the function that ends the readers whose keys begin with a prefix, because another hub has their position
// or wants it. It is called for one key at a time or for several at once, and returns when the reader has saved its
// position for the last time. It may find that there is no such reader.
func (s *Set) OnEnd(prefix string, end func(key string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers[prefix] = end
}

// OnExpire sets the function that is called with each key that begins with a prefix and whose position has expired and is
// removed from the log. With a shared log, the hub that has removed it calls its function.
func (s *Set) OnExpire(prefix string, gone func(key string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[prefix] = gone
}

// under returns the function for a key, or nil. The functions are those for prefixes.
func under(functions map[string]func(string), key string) func(string) {
	for prefix, f := range functions {
		if strings.HasPrefix(key, prefix) {
			return f
		}
	}
	return nil
}

// end ends a reader whose position another hub has. s.mu is held.
func (s *Set) end(key string) {
	if end := under(s.readers, key); end != nil && !s.closed {
		s.running.Go(func() { end(key) })
	}
}

// Claim makes this hub the one that has a position, for a reader that is here from now on. It returns the position, and
// false if there is none. Either way the caller must call Save or Remove next; a position exists once it is saved. If
// another hub has the position, that hub ends its reader first, and the position is the newest that was saved there.
//
// The errors are those of Save, of the log, of ctx and of Options.Ask. After ErrElsewhere, the reader at another hub is
// the newer one; after other errors this one may try again.
func (s *Set) Claim(ctx context.Context, key string) (Position, bool, error) {
	return s.claim(ctx, key, false)
}

// ClaimFree is Claim for a reader that leaves the position to one at another hub: if there is such a reader, it returns ErrElsewhere.
func (s *Set) ClaimFree(ctx context.Context, key string) (Position, bool, error) {
	return s.claim(ctx, key, true)
}

func (s *Set) claim(ctx context.Context, key string, free bool) (Position, bool, error) {
	if key == "" || len(key) > MaxKey {
		return Position{}, false, errKey
	}
	defer s.claimEnds(key)
	for taken := false; ; {
		hub, at := s.version(key)
		if hub != "" && hub != s.self() && s.shared.Hubs().Alive(hub) {
			var err error
			taken = taken || s.Elsewhere(key) != ""
			if at, err = s.ask(ctx, hub, key, free, at); err != nil {
				return Position{}, false, err
			}
		}
		err := s.seize(key, hub, at)
		if err == nil && s.shared != nil {
			err = s.Flush(ctx, key)
		}
		p, found, ours := s.claimed(key)
		switch {
		case err == nil && ours:
			p.Taken = taken
			return p, found, nil
		case err == nil: // another hub has claimed it meanwhile
			return Position{}, false, ErrElsewhere
		case ctx.Err() != nil:
			err = ctx.Err()
		case errors.Is(err, ErrElsewhere), errors.Is(err, errMoved), errors.Is(err, store.ErrTooLarge) && !ours:
			continue // another hub was faster
		case errors.Is(err, store.ErrTooLarge) && found:
			s.Remove(key) // nobody could save it
			continue
		}
		s.leave(key)
		return Position{}, false, err
	}
}

// Elsewhere returns the hub at which the reader of a position is, and "" if it is not at another hub. That hub may have died.
func (s *Set) Elsewhere(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil || !e.here {
		return ""
	}
	return e.hub()
}

// version returns the hub that has a position, if it is another one, and the newest version that is known.
func (s *Set) version(key string) (hub string, at store.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil {
		return "", 0
	}
	return e.hub(), e.at
}

// hub returns the hub that has the position, if it is another one.
func (e *entry) hub() string {
	if e.kept() {
		return ""
	}
	return holder(e.value)
}

// ask has another hub give up a position, if it has no reader or free is false, and waits until this hub knows the version that the other one saved last. It
// returns that version, or at if the other hub has died: then the log has what it saved. A hub that is only cut off cannot
// save anything either, and ends its reader when it learns of the claim.
func (s *Set) ask(ctx context.Context, hub, key string, free bool, at store.Seq) (store.Seq, error) {
	newest, err := s.opts.Ask(ctx, hub, key, free)
	switch {
	case errors.Is(err, store.ErrNoHub):
		return at, nil
	case err != nil:
		return 0, err
	}
	switch reached, err := s.shared.Reach(ctx, store.ID{Seq: newest}); {
	case err != nil:
		return 0, cmp.Or(ctx.Err(), err)
	case !reached: // the log has begun a new epoch meanwhile
		return 0, store.ErrAway
	}
	return newest, nil
}

// seize makes this hub the one that has a position, if at is its newest version and of the hub that has given it up.
func (s *Set) seize(key, hub string, at store.Seq) error {
	self := s.self()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	switch {
	case s.closed:
		return ErrClosed
	case e != nil && e.hub() != "" && (e.hub() != hub || e.at != at):
		return errMoved
	}
	p := Position{Key: key}
	switch {
	case e == nil:
		if len(s.entries) >= s.opts.MaxPositions {
			return &LimitError{"positions", int64(s.opts.MaxPositions)}
		}
		e = s.add(key)
	case !e.removed:
		p = e.decode()
	}
	p.Away = time.Time{}
	e.claiming = true
	s.set(e, &p, s.encode(&p, self), self)
	return nil
}

func (s *Set) claimEnds(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		e.claiming = false
	}
}

// claimed returns a position, whether it exists, and whether this hub has it.
func (s *Set) claimed(key string) (p Position, found, ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil || !e.ours {
		return p, false, false
	}
	p, found = e.position()
	return p, found, true
}

// leave says that the reader of a position is away, if this hub has the position.
func (s *Set) leave(key string) {
	self := s.self()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	switch {
	case s.closed || e == nil || !e.ours || e.removed || !e.here:
	case e.blank:
		s.remove(e)
		s.arm()
	default:
		s.change(e, self, func(p *Position) { p.Away = time.Now() })
	}
}

// Give gives a position up because another hub asks for it. It ends the reader, writes the position, and returns where
// in the log the newest version of the position is. If free is set and there is a reader, it returns ErrElsewhere instead.
func (s *Set) Give(ctx context.Context, key string, free bool) (store.Seq, error) {
	for ctx.Err() == nil {
		s.mu.Lock()
		e := s.entries[key]
		if e == nil || !e.ours || !e.here && !e.dirty && !e.writing {
			at := s.lose(e)
			s.mu.Unlock()
			return at, nil
		}
		end := under(s.readers, key)
		here := e.here
		s.mu.Unlock()
		if here && free {
			return 0, ErrElsewhere
		}
		if here && end != nil {
			end(key)
		}
		s.leave(key)
		switch err := s.Flush(ctx, key); {
		case err == nil, errors.Is(err, ErrElsewhere):
		case errors.Is(err, store.ErrTooLarge):
			s.Remove(key)
		default:
			return 0, err
		}
	}
	return 0, ctx.Err()
}

// lose makes a position one of another hub, if it exists, and returns its newest version.
func (s *Set) lose(e *entry) store.Seq {
	if e == nil {
		return 0
	}
	if e.ours {
		p := e.decode()
		s.put(e, &p, e.value, false)
		s.arm()
	}
	return e.at
}

// Adopt takes over the positions whose readers were at hubs that do not live any more. The readers are away from now
// on. One of the hubs has to do that from time to time.
func (s *Set) Adopt() {
	s.mu.Lock()
	hubs := slices.Collect(maps.Keys(s.abroad))
	s.mu.Unlock()
	for _, hub := range hubs {
		if !s.shared.Hubs().Alive(hub) {
			s.adopt(hub)
		}
	}
}

func (s *Set) adopt(hub string) {
	self := s.self()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, e := range s.entries {
		if e.here && e.hub() == hub {
			s.change(e, self, func(p *Position) { p.Away = time.Now() })
		}
	}
}
