package session

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// A stream ends before its token expires, at a moment chosen at random in the last part of the token's
// life. Otherwise thousands of streams whose tokens expire together would reconnect together.
const (
	spreadPart = 20 // the last twentieth of the token's life
	maxSpread  = 30 * time.Second
)

// setGrant sets what the stream may receive, and when it has to end.
func (a *Attachment) setGrant(g *access.Grant, now moment) {
	a.grant, a.expires = g, 0
	if g.Expires.IsZero() {
		return
	}
	left := max(0, time.Until(g.Expires))
	life := left
	if !g.Issued.IsZero() {
		life = max(left, g.Expires.Sub(g.Issued))
	}
	spread := min(life/spreadPart, maxSpread, left)
	a.expires = now.add(left - time.Duration(rand.Int64N(int64(spread)+1)))
}

// endExpiredStreams ends the streams whose token expires.
func (s *Session) endExpiredStreams(now moment) {
	for _, a := range s.streams {
		if a.expires != 0 && now >= a.expires {
			a.expires = 0 // end the stream only once
			a.stream.End(Expired)
		}
	}
}

// Renew replaces the grant of all streams of a session. They leave the filters that it does not cover. A
// stream without any filter left ends with the reason Forbidden, unless it has a function Regranted.
func (r *Registry) Renew(uid string, g *access.Grant) error {
	return r.do(uid, func(s *Session) error {
		if !s.belongsTo(g.Subject) {
			return ErrOfAnother
		}
		return s.regrant(func(a *Attachment) (*access.Grant, error) { return g, nil })
	})
}

// Recheck asks current for the grant that each open stream has now. On an error, the stream ends.
func (r *Registry) Recheck(current func(*access.Grant) (*access.Grant, error)) {
	for s := range r.all() {
		s.recheck(current)
	}
}

func (s *Session) recheck(current func(*access.Grant) (*access.Grant, error)) {
	s.take()
	defer s.give()
	_ = s.regrant(func(a *Attachment) (*access.Grant, error) {
		g, err := current(a.grant)
		if err != nil || g == a.grant {
			return nil, err
		}
		return g.For(s.uid), nil
	}) // ErrNoStream: there is nothing to check
}

// regrant asks for the grant that each stream has now; nil: the same. On an error, the stream ends.
func (s *Session) regrant(current func(*Attachment) (*access.Grant, error)) error {
	var left reasons
	s.mu.Lock()
	n, now := len(s.streams), monotonicNow()
	for _, a := range s.streams {
		switch g, err := current(a); {
		case err != nil:
			a.stream.End(ReasonOf(err))
		case g != nil:
			for _, f := range a.renew(g, now) {
				left = left.with(f, Forbidden)
			}
		}
	}
	s.mu.Unlock()
	if n == 0 {
		return ErrNoStream
	}
	return s.change(cause{left: left})
}

// ReasonOf returns the reason for which a stream ends whose token is refused with an error.
func ReasonOf(err error) Reason {
	if errors.Is(err, access.ErrExpired) {
		return Expired
	}
	return Revoked
}

// renew replaces the grant of one stream. It returns the filters that the stream has left.
func (a *Attachment) renew(g *access.Grant, now moment) (left []group.Filter) {
	a.setGrant(g, now)
	if a.regranted != nil {
		a.regranted(g)
	}
	for _, f := range a.filters {
		if g.Covers(f) {
			continue
		}
		if a.stream.Leave(f) != nil { // too many changes are waiting: the client resumes with what it may receive
			a.stream.End(Forbidden)
			return left
		}
		k := slices.Index(a.filters, f)
		a.filters = slices.Delete(slices.Clone(a.filters), k, k+1)
		left = append(left, f)
	}
	if len(a.filters) == 0 && len(left) > 0 && a.regranted == nil { // otherwise its client knows, and can do without any
		a.stream.End(Forbidden)
	}
	return left
}
