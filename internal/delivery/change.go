package delivery

import (
	"cmp"
	"errors"
	"slices"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// change adds or removes filters of a stream, from a position on. The stream keeps its old filters until it
// has sent all messages up to that position, so that nothing is lost or repeated, however far behind it is.
type change struct {
	from    store.Seq
	epoch   string // of from
	filters group.Set
	leave   bool
	opening *opening // of filters that are added
}

// MaxChanges is how many changes of a stream's filters may wait until the stream reaches their positions.
// It also bounds the cost of a change, which copies the list.
const MaxChanges = 256

// ErrTooManyChanges says that MaxChanges are waiting.
var ErrTooManyChanges = errors.New("the stream does not keep up with the changes of its filters: read from it, then send the change again")

// Join adds a filter from the current end of the log on. The filter's retained messages are sent first. Join, JoinFrom and
// Leave must not be called at the same time for one stream.
func (s *Stream) Join(f group.Filter) error { return s.JoinFrom(f, JoinOptions{Retained: true}) }

// JoinOptions says what a stream is sent when it has joined a filter.
type JoinOptions struct {
	Retained bool // the retained messages that the filter matches

	// After is an earlier position: the messages since then that the filter matches, and that are held, are sent, too,
	// even if other filters match them. Only a stream with a codec can tell them from those of the log.
	After *store.Seq

	// At is the position from which the stream has the filter, if that is not the end of the log: the filter of a stream that
	// has not run yet was joined there by an earlier stream, which did not send all that the other options say. Messages
	// since After that were evicted meanwhile are a gap.
	At store.Seq
}

// JoinFrom adds a filter from the current end of the log on. Before that, the stream sends what the options say.
func (s *Stream) JoinFrom(f group.Filter, o JoinOptions) error {
	set := group.Set{f}
	end := s.end()
	c := change{from: cmp.Or(o.At, end.Seq), epoch: end.Epoch, filters: set, opening: &opening{}}
	if o.Retained {
		c.opening.retained = span{set: set, to: c.from}
	}
	if o.After != nil {
		c.opening.earlier = span{set: set, at: *o.After, to: c.from}
		c.opening.asked = o.At > 0 && *o.After > 0 // from 0 on, what is held is wanted
	}
	return s.change(c)
}

// Leave removes a filter from the current end of the log on.
func (s *Stream) Leave(f group.Filter) error {
	end := s.end()
	return s.change(change{from: end.Seq, epoch: end.Epoch, filters: group.Set{f}, leave: true})
}

// end returns the position of the end of the log.
func (s *Stream) end() store.ID {
	_, newest := s.shard.set.log.Bounds()
	return newest
}

func (s *Stream) change(c change) error {
	full := false
	s.edit(func(list []change) []change {
		if full = len(list) >= MaxChanges; full {
			return list
		}
		return append(list, c)
	})
	if full {
		return ErrTooManyChanges
	}
	wants := c.apply(*s.wants.Load())
	s.wants.Store(&wants)
	s.shard.post(func() { s.shard.recall(s) })
	s.shard.changed.Store(true)
	s.Resume() // the codec may take more with other filters
	return nil
}

// DeliverMissed makes the stream start at the position that its session had reached when it was lost. Up to
// the stream's own start it then gets only the messages to its session. Call DeliverMissed before Run.
func (s *Stream) DeliverMissed(reached store.Seq) {
	if reached >= s.pos {
		return
	}
	whole := change{from: s.pos, epoch: s.Epoch(), filters: s.filters, opening: s.opening}
	s.edit(func(list []change) []change { return append([]change{whole}, list...) })
	s.filters, s.opening, s.live, s.pos = nil, nil, false, reached
	s.mark.Store(uint64(reached))
}

// edit replaces the list of changes with the result of f, which gets a copy.
func (s *Stream) edit(f func([]change) []change) {
	for {
		old := s.changes.Load()
		var list []change
		if old != nil {
			list = slices.Clone(*old)
		}
		next := &list
		if list = f(list); len(list) == 0 {
			next = nil
		}
		if s.changes.CompareAndSwap(old, next) {
			return
		}
	}
}

// pending returns the next change, if there is one.
func (s *Stream) pending() (c change, ok bool) {
	list := s.changes.Load()
	if list == nil {
		return change{}, false
	}
	if c = (*list)[0]; c.epoch != s.Epoch() {
		c.from = 0 // one of both has to change epochs first, and then gets everything
	}
	return c, true
}

// apply makes the changes whose positions the stream has reached. It stops after one that has messages to send first. The
// stream's owner calls it.
func (s *Stream) apply() {
	for s.begun() {
		c, ok := s.pending()
		if !ok || s.pos < c.from {
			return
		}
		s.edit(func(list []change) []change { return list[1:] })
		before := s.filters
		s.filters = c.apply(s.filters)
		if wants := *s.wants.Load(); slices.Equal(wants, s.filters) {
			s.filters = wants // need not be in memory twice
		}
		if !c.leave {
			s.begin(&c, before)
		}
	}
}

// apply returns the filters of a stream after the change.
func (c *change) apply(to group.Set) group.Set {
	to = slices.DeleteFunc(slices.Clone(to), func(f group.Filter) bool { return slices.Contains(c.filters, f) })
	if !c.leave {
		to = append(to, c.filters...)
	}
	return to
}

// begin begins filters that a change has added to those before.
func (s *Stream) begin(c *change, before group.Set) {
	o := c.opening
	if o == nil {
		o = &opening{}
	}
	o.joined = slices.DeleteFunc(slices.Clone(c.filters), func(f group.Filter) bool { return slices.Contains(before, f) })
	if s.opening != nil {
		o.joined, o.lost = append(o.joined, s.opening.joined...), s.opening.lost
	}
	s.opening = o
	// The stream may have moved on meanwhile.
	o.retained.to = max(o.retained.to, s.pos)
	o.earlier.to = max(o.earlier.to, s.pos)
}
