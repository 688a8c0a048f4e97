package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// SessionPositions begins the keys of the positions of sessions. Their uid follows.
const SessionPositions = "mqtt/"

// Away describes a session that is gone, but whose position in the log is kept until its client returns.
type Away struct {
	UID               string
	Subject, ClientID string
	Since             time.Time // when its client left
	Expires           time.Time // zero: it does not
	Filters           []string
	Position          store.ID // up to which the client has everything
	Unacked           int      // messages behind it that were sent and not acknowledged
	Lag               Amount   // messages behind it
}

// AwaySessions yields the sessions that are away, in the order of their uids, after a uid. It stops at the first error of yield
// and returns it. If there are more than the limit (0: none), it returns the last uid.
func (h *Hub) AwaySessions(after string, limit int, yield func(*Away) error) (next string, err error) {
	h.cluster.catchUpToShow()
	n := 0
	for p := range h.cursors.Each(SessionPositions) {
		uid := p.Key[len(SessionPositions):]
		if uid <= after || p.Away.IsZero() {
			continue
		}
		if _, err := h.sessions.Get(uid); err == nil {
			continue // it is only lost
		}
		if limit > 0 && n == limit {
			return next, nil
		}
		n++
		next = uid
		a := h.away(&p)
		if err := yield(&a); err != nil {
			return "", err
		}
	}
	return "", nil
}

// AwaySession returns a session that is away, or session.ErrUnknown. It is called when Session has returned an error, which has
// caught up with the other hubs if it could.
func (h *Hub) AwaySession(uid string) (Away, error) {
	p, ok := h.cursors.Get(SessionPositions + uid)
	if !ok || p.Away.IsZero() {
		return Away{}, session.ErrUnknown
	}
	return h.away(&p), nil
}

func (h *Hub) away(p *cursor.Position) Away {
	a := Away{
		UID: p.Key[len(SessionPositions):], Subject: p.Subject, ClientID: p.Name, Since: p.Away,
		Position: p.ID(), Unacked: len(p.Window),
	}
	if p.Expiry >= 0 {
		a.Expires = p.Away.Add(p.Expiry)
	}
	var set group.Set
	for _, f := range p.Filters {
		if slices.Contains(a.Filters, f.Filter) {
			continue // of a shared subscription, too
		}
		a.Filters = append(a.Filters, f.Filter)
		if parsed, err := group.ParseFilter(f.Filter); err == nil {
			set = append(set, parsed)
		}
	}
	after := p.Done
	if p.Epoch != h.Epoch() { // all messages are new to the client
		after = 0
	}
	a.Lag = h.lag(set, after)
	return a
}

// endPosition removes the position of a session, here and at the hubs that share the log. It returns
// session.ErrUnknown if there is none.
func (h *Hub) endPosition(uid string) error {
	key := SessionPositions + uid
	if _, ok := h.cursors.Get(key); !ok {
		return session.ErrUnknown
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, _, err := h.cursors.Claim(ctx, key)
	switch {
	case errors.Is(err, cursor.ErrClosed):
		return ErrClosed
	case errors.Is(err, ErrHubAway), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: the hub that has the session's position: %v", store.ErrAway, err)
	case err != nil:
		return err
	}
	h.cursors.Remove(key)
	return errors.Join(h.cursors.Flush(ctx, key), h.SetClientNote(ctx, uid, nil))
}
