package session

import (
	"errors"
	"slices"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// Join adds a filter to this stream of the session, by calling join. A stream has at most maxFilters filters.
func (a *Attachment) Join(f group.Filter, maxFilters int, join func() error) error {
	a.session.take()
	defer a.session.give()
	return a.joinTurn(f, maxFilters, join)
}

// joinTurn is Join. If the session is too large with the filter, the stream leaves it again. The session's turn must be held.
func (a *Attachment) joinTurn(f group.Filter, maxFilters int, join func() error) error {
	s, added := a.session, false
	err := a.ifOpen(func() error {
		added = !slices.Contains(a.filters, f)
		return a.join(f, maxFilters, join)
	})
	if err != nil {
		return err
	}
	if err = s.change(cause{joins: true}); errors.Is(err, ErrTooLarge) && added {
		return errors.Join(tooManyFilters(err), a.ifOpen(func() error { return a.leave(f) }))
	}
	return err
}

// Leave removes a filter from this stream of the session.
func (a *Attachment) Leave(f group.Filter) error {
	s := a.session
	s.take()
	defer s.give()
	if err := a.ifOpen(func() error { return a.leave(f) }); err != nil {
		return err
	}
	return s.change(cause{left: reasons{f: ""}})
}

// ifOpen calls f with the session's mu, if the stream is open.
func (a *Attachment) ifOpen(f func() error) error {
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	if !slices.Contains(a.session.streams, a) {
		return ErrNoStream
	}
	return f()
}

// join adds a filter to the stream. The session's mu must be held.
func (a *Attachment) join(f group.Filter, maxFilters int, join func() error) error {
	if !a.grant.Covers(f) {
		return &access.Forbidden{Action: access.Subscribe, Filter: f.String()}
	}
	if slices.Contains(a.filters, f) {
		return join() // joining again delivers the retained messages again
	}
	s := a.session
	if limit := s.registry.MaxFilters; len(a.filters) >= maxFilters || limit > 0 && len(s.members) >= limit && s.member(f) < 0 {
		return ErrTooManyFilters
	}
	if err := join(); err != nil {
		return err
	}
	a.filters = append(slices.Clip(a.filters), f)
	return nil
}

// leave removes a filter from the stream, if it has it. The session's mu must be held.
func (a *Attachment) leave(f group.Filter) error {
	k := slices.Index(a.filters, f)
	if k < 0 {
		return nil
	}
	if err := a.stream.Leave(f); err != nil {
		return err
	}
	a.filters = slices.Delete(slices.Clone(a.filters), k, k+1)
	return nil
}
