package delivery

import (
	"slices"
	"strings"
)

// index finds the streams whose filters match a group. It is a tree of the filters' levels, in which "+" and
// "#" are ordinary levels. Each shard has its own index.
type index struct {
	root     node
	sessions map[string]*Stream // by uid: the first of its streams
}

type node struct {
	levels   map[string]*node
	audience *audience // of the filter that ends here
}

// audience holds the streams of one filter.
type audience struct {
	filter  string
	streams []*Stream
	frames  []int // indexes of the frames of the current batch that the filter matches
}

// place is the index of a stream in an audience.
type place struct {
	audience *audience
	at       int
}

// add puts a stream into the audience of each of its filters.
func (x *index) add(s *Stream) {
	x.addOwn(s)
	for _, f := range s.filters {
		n := &x.root
		for level := range strings.SplitSeq(f.String(), "/") {
			n = n.child(level)
		}
		if n.audience == nil {
			n.audience = &audience{filter: f.String()}
		}
		s.places = append(s.places, place{n.audience, len(n.audience.streams)})
		n.audience.streams = append(n.audience.streams, s)
	}
}

func (n *node) child(level string) *node {
	c := n.levels[level]
	if c == nil {
		if n.levels == nil {
			n.levels = map[string]*node{}
		}
		c = &node{}
		n.levels[strings.Clone(level)] = c
	}
	return c
}

// remove takes a stream out of its audiences.
func (x *index) remove(s *Stream) {
	x.removeOwn(s)
	for _, p := range s.places {
		last := len(p.audience.streams) - 1
		moved := p.audience.streams[last]
		p.audience.streams[p.at] = moved
		p.audience.streams[last] = nil
		p.audience.streams = p.audience.streams[:last]
		moved.moved(p.audience, last, p.at)
		if last == 0 {
			x.root.prune(p.audience.filter)
		}
	}
	s.places = s.places[:0]
}

// moved updates the stream's place in an audience.
func (s *Stream) moved(in *audience, from, to int) {
	i := slices.Index(s.places, place{in, from})
	if i >= 0 {
		s.places[i].at = to
	}
}

// prune removes the audience of a filter, and the nodes that lead only there.
func (n *node) prune(filter string) (empty bool) {
	level, rest, more := strings.Cut(filter, "/")
	c := n.levels[level]
	if !more {
		c.audience = nil
	} else {
		c.prune(rest)
	}
	if c.audience == nil && len(c.levels) == 0 {
		delete(n.levels, level)
	}
	return len(n.levels) == 0
}

func (x *index) addOwn(s *Stream) {
	if x.sessions == nil {
		x.sessions = map[string]*Stream{}
	}
	s.next = x.sessions[s.uid]
	x.sessions[s.uid] = s
}

func (x *index) removeOwn(s *Stream) {
	first := x.sessions[s.uid]
	switch {
	case first != s:
		for first.next != s {
			first = first.next
		}
		first.next = s.next
	case s.next == nil:
		delete(x.sessions, s.uid)
	default:
		x.sessions[s.uid] = s.next
	}
	s.next = nil
}

// ownOf returns the first stream of the session that a $session group belongs to, or nil.
func (x *index) ownOf(name string) *Stream {
	uid, ok := strings.CutPrefix(name, SessionPrefix)
	if !ok {
		return nil
	}
	return x.sessions[uid]
}

// Match implements store.Selector: a shard reads only messages that match one of its streams.
func (x *index) Match(name string) bool {
	if x.ownOf(name) != nil {
		return true
	}
	found := false
	x.lookup(name, func(*audience) { found = true })
	return found
}

// lookup calls yield with the audience of each filter that matches the group.
func (x *index) lookup(name string, yield func(*audience)) {
	x.root.lookup(name, strings.HasPrefix(name, "$"), yield)
}

// lookup descends the levels. A wildcard in the first level does not match a $ group. A $presence group
// may itself contain a wildcard, because it is named after a filter: "+" is an ordinary level there, and
// "#" ends the name.
func (n *node) lookup(rest string, system bool, yield func(*audience)) {
	if !system {
		if c := n.levels["#"]; c != nil {
			yield(c.audience)
		}
	}
	level, rest, more := strings.Cut(rest, "/")
	if level == "#" {
		return
	}
	n.descend(n.levels[level], rest, more, yield)
	if !system && level != "+" {
		n.descend(n.levels["+"], rest, more, yield)
	}
}

func (n *node) descend(c *node, rest string, more bool, yield func(*audience)) {
	switch {
	case c == nil:
	case more:
		c.lookup(rest, false, yield)
	default:
		if c.audience != nil {
			yield(c.audience)
		}
		if parent := c.levels["#"]; parent != nil { // home/# matches home
			yield(parent.audience)
		}
	}
}

// size returns how many streams have a filter that matches the group. A stream with two such filters counts
// twice.
func (x *index) size(name string) (n int) {
	x.lookup(name, func(in *audience) { n += len(in.streams) })
	return n
}

// count returns how many streams would get a message to the group.
func (x *index) count(name string) int {
	n := 0
	seen := map[*Stream]bool{} // streams with several filters, which count once
	x.lookup(name, func(in *audience) {
		for _, s := range in.streams {
			if len(s.places) > 1 {
				seen[s] = true
			} else {
				n++
			}
		}
	})
	return n + len(seen)
}
