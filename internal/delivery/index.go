package delivery

import (
	"slices"
	"strings"
)

// index leads from a group to the sets of streams whose filter matches it: a tree of levels, in
// which "+" and "#" are levels like others. It is a shard's own.
type index struct {
	root     node
	sessions map[string]*Stream // by uid: the first of its streams
}

type node struct {
	levels map[string]*node
	set    *set // of the filter that ends here
}

// set is the streams of one filter.
type set struct {
	filter  string
	streams []*Stream
	frames  []int // of the batch being delivered: what the filter matched
}

// place is where a stream is in a set.
type place struct {
	set *set
	at  int
}

// add puts a stream into the set of each of its filters.
func (x *index) add(s *Stream) {
	x.addOwn(s)
	for _, f := range s.filters {
		n := &x.root
		for level := range strings.SplitSeq(f.String(), "/") {
			n = n.child(level)
		}
		if n.set == nil {
			n.set = &set{filter: f.String()}
		}
		s.places = append(s.places, place{n.set, len(n.set.streams)})
		n.set.streams = append(n.set.streams, s)
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

// remove takes a stream out of its sets.
func (x *index) remove(s *Stream) {
	x.removeOwn(s)
	for _, p := range s.places {
		last := len(p.set.streams) - 1
		moved := p.set.streams[last]
		p.set.streams[p.at] = moved
		p.set.streams[last] = nil
		p.set.streams = p.set.streams[:last]
		moved.moved(p.set, last, p.at)
		if last == 0 {
			x.root.prune(p.set.filter)
		}
	}
	s.places = s.places[:0]
}

// moved is told that the stream is elsewhere in a set now.
func (s *Stream) moved(in *set, from, to int) {
	i := slices.Index(s.places, place{in, from})
	if i >= 0 {
		s.places[i].at = to
	}
}

// prune forgets the set of a filter, and the nodes that lead only there.
func (n *node) prune(filter string) (empty bool) {
	level, rest, more := strings.Cut(filter, "/")
	c := n.levels[level]
	if !more {
		c.set = nil
	} else {
		c.prune(rest)
	}
	if c.set == nil && len(c.levels) == 0 {
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

// ownOf returns the first stream of the session that a group is for, if it is for one.
func (x *index) ownOf(name string) *Stream {
	uid, ok := strings.CutPrefix(name, SessionPrefix)
	if !ok {
		return nil
	}
	return x.sessions[uid]
}

// Match implements store.Selector: a shard reads only what somebody listens to.
func (x *index) Match(name string) bool {
	if x.ownOf(name) != nil {
		return true
	}
	found := false
	x.lookup(name, func(*set) { found = true })
	return found
}

// lookup calls yield with each set whose filter matches the group.
func (x *index) lookup(name string, yield func(*set)) {
	x.root.lookup(name, strings.HasPrefix(name, "$"), yield)
}

// lookup goes down the levels. A wildcard in the first one matches no name of the server's own. A
// name may hold a wildcard, where the server's own are about a filter: it is one of its level, and
// "#" all of them.
func (n *node) lookup(rest string, system bool, yield func(*set)) {
	if !system {
		if c := n.levels["#"]; c != nil {
			yield(c.set)
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

func (n *node) descend(c *node, rest string, more bool, yield func(*set)) {
	switch {
	case c == nil:
	case more:
		c.lookup(rest, false, yield)
	default:
		if c.set != nil {
			yield(c.set)
		}
		if parent := c.levels["#"]; parent != nil { // home/# matches home
			yield(parent.set)
		}
	}
}

// size returns how many streams have a filter that matches the group; one with two counts twice.
func (x *index) size(name string) (n int) {
	x.lookup(name, func(in *set) { n += len(in.streams) })
	return n
}

// count returns how many streams get a message of the group.
func (x *index) count(name string) int {
	n := 0
	seen := map[*Stream]bool{} // those with several filters
	x.lookup(name, func(in *set) {
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
