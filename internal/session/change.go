package session

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Change is a change of a session's document, with the events that it means. A registry commits it: with
// the log that several hubs share, it either happens as a whole, or not at all because another hub has
// changed the document first.
type Change struct {
	UID    string
	Events []Event

	session *Session
	cause   cause
	doc     document
	copied  bool     // doc.members may be changed
	gone    Reason   // why the session ends; "": it does not
	tell    bool     // the client has to be told that it ends
	omits   omission // what is left out of the document, since it is too large
	applied bool

	// With several hubs.
	version uint64         // of the document that the change is based on; 0: there is none
	news    uint32         // what was heard of other hubs' documents before
	rewrite bool           // the document has to be written though there may be no event
	here    []group.Filter // filters of the streams that are open here
	beat    time.Duration  // the shortest heartbeat that they have promised; 0: none
	streams bool           // streams are open here
	polls   bool           // one of them is a poll
	newest  uint32         // the highest number of them
	nodes   []node         // streams that are open at other hubs
	next    uint64         // the version that the document has with the change, once it is committed
	self    string         // the id of this hub
	number  uint64         // tells apart the changes of this hub
}

// ErrConflict is returned by the function that commits changes if the document has another version than the
// change is based on. The newer document reaches Registry.Adopt.
var ErrConflict = errors.New("the session was changed by another hub meanwhile")

// ErrTooLarge is returned by the function that commits changes if the document is too large for the log.
var ErrTooLarge = errors.New("the session with its filters and its last will is too large for the store: use fewer filters, or wildcards")

// ErrNotStored is returned by the function that commits changes, with another error, if the change is certain not to happen.
var ErrNotStored = errors.New("the session was not changed")

// tooManyFilters is ErrTooManyFilters because of an ErrTooLarge.
func tooManyFilters(err error) error { return fmt.Errorf("%w: %w", ErrTooManyFilters, err) }

// changes keeps the memory of changes for the next ones.
var changes = sync.Pool{New: func() any { return new(Change) }}

// begin prepares x for another attempt at its cause.
func (x *Change) begin(s *Session) {
	clear(x.Events)
	*x = Change{UID: s.uid, session: s, doc: s.document, cause: x.cause, omits: x.omits, Events: x.Events[:0]}
}

// change brings the document in line with the open streams and the cause, and commits that. If another hub
// has changed the document meanwhile, it starts again from the newer one. The session's turn must be held.
func (s *Session) change(c cause) error {
	x := changes.Get().(*Change)
	x.cause = c
	s.resume(&x.cause)
	err := s.try(x)
	if err == nil || s.shared == nil {
		clear(x.Events)
		*x = Change{Events: x.Events[:0]}
		changes.Put(x)
	}
	return err
}

func (s *Session) try(x *Change) error {
	for {
		needed, err := s.prepare(x)
		if err != nil || !needed {
			if err == nil && s.isGone() {
				s.registry.forget(s)
			}
			return err
		}
		err = s.registry.commit(x)
		switch {
		case err == nil:
			if x.gone != "" {
				s.registry.forget(s)
			}
			return nil
		case errors.Is(err, ErrConflict) && s.shared.await(s, x.news):
			if s.shared.ended(s) {
				return nil
			}
			x.omits = nothing // the newer document may have room for it
		case errors.Is(err, ErrTooLarge) && x.leaveOut():
		case unsure(err) && s.shared.happened(s, x):
			return nil
		default:
			s.postpone(&x.cause, err)
			return err
		}
	}
}

// unsure reports whether a change may have happened though its commit failed.
func unsure(err error) bool {
	return !errors.Is(err, ErrNotStored) && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrTooLarge)
}

// prepare plans a change, and reports whether there is something to commit.
func (s *Session) prepare(x *Change) (needed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone:
		return false, ErrUnknown
	case x.cause.opened != nil && !s.belongsTo(x.cause.by.Grant.Subject):
		return false, ErrOfAnother
	}
	now := monotonicNow()
	s.plan(x, now)
	if s.shared != nil {
		s.shared.ending, s.shared.number, s.shared.stored = x.gone, x.number, 0
	}
	if len(x.Events) > 0 || x.cause.newWill || x.rewrite {
		return true, nil
	}
	s.set(&x.doc) // a session without filters may be lost, and its client may be another
	s.shared.repaired()
	if s.shared.doubtful(now, s.registry.timeout) { // otherwise nothing would be left to say if it has happened
		s.shared.pending, s.shared.retry = s.rest(&x.cause), now.add(retryAfter)
	} else {
		s.gone = !s.begun // its first stream has closed before a change could be committed
	}
	s.schedule()
	return false, nil
}

// Apply makes the change visible. The registry applies a committed change itself, unless it was applied before.
func (x *Change) Apply() {
	s := x.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.applied || s.gone {
		return
	}
	x.applied = true
	if a := x.cause.opened; a != nil && x.reconnects() {
		a.missed = &missed{reached: x.doc.reached}
	}
	if !s.shared.apply(s, x) {
		return // a newer document was adopted already
	}
	if x.gone != "" {
		if x.tell {
			s.registry.kicked(x)
		}
		s.finish(x.gone)
		return
	}
	s.set(&x.doc)
	s.schedule()
}

// reconnects reports whether the session was lost before the change.
func (x *Change) reconnects() bool {
	return slices.ContainsFunc(x.Events, func(e Event) bool { return e.Kind == Reconnect })
}

// set replaces the document. mu must be held.
func (s *Session) set(d *document) {
	switch {
	case s.lost == 0 && d.lost != 0:
		s.registry.lost.Add(1)
	case s.lost != 0 && d.lost == 0:
		s.registry.lost.Add(-1)
	}
	if s.will != d.will && s.registry.willChanged != nil {
		s.registry.willChanged(s.will, d.will)
	}
	s.document = *d
}

// finish makes the session gone and ends its streams, unless why is a reason for which it was lost before.
// mu must be held.
func (s *Session) finish(why Reason) {
	for _, a := range s.streams {
		a.stream.End(why)
	}
	s.gone, s.streams = true, nil
	s.set(&document{})
	s.registry.clock.set(s, 0, s.registry.onTimer)
}

// open returns the filters that are open, at this hub or another. A filter may be there twice. The result
// must not be changed.
func (s *Session) open() []group.Filter {
	others := s.shared.others()
	if len(s.streams) == 1 && len(others) == 0 {
		return s.streams[0].filters
	}
	var list []group.Filter
	for _, a := range s.streams {
		list = append(list, a.filters...)
	}
	return append(list, others...)
}

// omission is what is left out of a document that is too large.
type omission int

const (
	nothing     omission = iota
	lostMembers          // memberships without a stream end at once
	everything           // the session ends, if it has no stream here
)

// leaveOut makes the next attempt at a change leave out more of a document that is too large. It reports false if nothing more can
// be left out, or if the caller of the change is told and takes back what was new.
func (x *Change) leaveOut() bool {
	if x.cause.refusable() || x.omits == everything || x.omits == lostMembers && x.streams {
		return false
	}
	x.omits++
	return true
}

// refusable reports whether the change is a wish that is refused if the document is too large with it.
func (c *cause) refusable() bool { return c.opened != nil || c.newWill || c.joins }

// retryAfter is the time after which a change that failed is tried again.
const retryAfter = time.Second

// postpone keeps what a change that could not be committed was to say of streams that have opened or closed, so that a
// timer tries again. If the document is too large, it is tried again with the next change.
func (s *Session) postpone(c *cause, err error) {
	if s.shared == nil || errors.Is(err, ErrClosed) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tooLarge := errors.Is(err, ErrTooLarge)
	if tooLarge && c.opened != nil { // it is refused
		s.remove(c.opened)
		c.client = nil
	}
	s.shared.ending = "" // until it is tried again
	s.shared.pending, s.shared.retry = s.rest(c), monotonicNow().add(retryAfter)
	if tooLarge && !c.refusable() {
		s.shared.retry = never
	}
	s.schedule()
}

// rest returns what a cause that could not be committed leaves to be said. mu must be held.
func (s *Session) rest(c *cause) *cause {
	p := &cause{
		why: c.why, reached: c.reached, keep: c.keep, bye: c.bye, client: c.client, from: c.from,
		left: s.stillLeft(c), lost: s.stillLost(c), back: s.stillBack(c), again: c.again, upTo: c.upTo,
	}
	if len(s.streams) > 0 {
		p.again, p.upTo = time.Now().UnixNano(), monotonicNow()
	}
	return p
}

// stillLeft returns what a cause leaves, without the filters that a stream here has: it has joined them again, or will lose them.
func (s *Session) stillLeft(c *cause) reasons {
	if c.left != nil {
		for _, f := range s.openHere() {
			delete(c.left, f)
		}
	}
	return c.left
}

// stillLost returns why filters are lost because of a cause, without those that are open again. They need not be members: the change by
// which they became so may have happened.
func (s *Session) stillLost(c *cause) reasons {
	if c.lost != nil {
		for _, f := range s.open() {
			delete(c.lost, f)
		}
	}
	return c.lost
}

// stillBack returns until when streams here have had filters. A loss before that is not the last one.
func (s *Session) stillBack(c *cause) times {
	list := s.openHere()
	if c.back == nil && len(list) > 0 {
		c.back = times{}
	}
	now := time.Now().UnixNano()
	for _, f := range list {
		c.back[f] = now
	}
	return c.back
}

// with adds a filter, unless it has a reason: the first one counts.
func (r reasons) with(f group.Filter, why Reason) reasons {
	if r == nil {
		r = reasons{}
	}
	if _, ok := r[f]; !ok {
		r[f] = why
	}
	return r
}

// resume adds to a cause what was postponed.
func (s *Session) resume(c *cause) {
	if s.shared == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.shared.pending
	s.shared.pending, s.shared.retry = nil, 0
	if old == nil {
		return
	}
	if c.why == "" {
		c.why, c.reached, c.keep = old.why, old.reached, old.keep
	}
	c.bye, c.client, c.from = append(slices.Clip(old.bye), c.bye...), cmp.Or(c.client, old.client), cmp.Or(old.from, c.from)
	for f, why := range c.left {
		old.left = old.left.with(f, why)
	}
	for f, why := range old.lost {
		c.lost = c.lost.with(f, why)
	}
	c.left, c.back, c.again, c.upTo = old.left, old.back, old.again, old.upTo
}
