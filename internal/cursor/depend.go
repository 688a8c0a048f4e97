package cursor

import (
	"slices"
	"strings"
	"time"
)

// unnamedFor is how long a position that depends on others is kept while none names it. A hub may learn of it before
// it learns of those.
const unnamedFor = 10 * time.Second

// dependence says which positions are kept because others name them; see KeepFor.
type dependence struct {
	prefix, by string
	name       func(*Filter) string
	all        map[string]*named // by key
	names      map[*entry][]*named
}

// named is the key of a position, which need not exist, and how many others name it.
type named struct {
	key   string
	count int
}

// KeepFor makes the positions whose keys begin with prefix depend on those whose keys begin with by: such a position is
// kept while its reader is here, or while name returns its key for a filter of another position. It is removed when the last
// of these is, or soon after its reader has left if there are none. Its Expiry has to be ForEver, so that it is kept before
// KeepFor is called, and by hubs that do not call it. KeepFor is called once.
func (s *Set) KeepFor(prefix, by string, name func(*Filter) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.depends = &dependence{prefix, by, name, map[string]*named{}, map[*entry][]*named{}}
	for _, e := range s.entries {
		if p, ok := e.position(); ok {
			s.recount(e, p.Filters)
		}
	}
	for _, e := range s.entries {
		if s.dependent(e) && !e.here && !e.removed {
			s.schedule(e, s.unnamedUntil(e.key))
		}
	}
	s.arm()
}

// Named reports whether a position names another one, which is kept for it.
func (s *Set) Named(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.depends.has(key)
}

func (d *dependence) has(key string) bool { return d != nil && d.all[key] != nil }

// dependent reports whether a position is kept only for others.
func (s *Set) dependent(e *entry) bool {
	return s.depends != nil && strings.HasPrefix(e.key, s.depends.prefix)
}

// unnamedUntil returns when a dependent position expires whose reader is away; 0: it does not.
func (s *Set) unnamedUntil(key string) int64 {
	if s.depends.has(key) {
		return 0
	}
	return time.Now().Add(unnamedFor).UnixMilli()
}

// recount takes note of the filters that a position has from now on.
func (s *Set) recount(e *entry, filters []Filter) {
	d := s.depends
	if d == nil || !strings.HasPrefix(e.key, d.by) {
		return
	}
	var list []*named
	for i := range filters {
		if key := d.name(&filters[i]); key != "" {
			list = append(list, d.find(key))
		}
	}
	old := d.names[e]
	if slices.Equal(list, old) {
		return
	}
	if delete(d.names, e); len(list) > 0 {
		d.names[e] = list
	}
	for _, n := range list {
		if n.count++; n.count == 1 {
			s.keep(n.key)
		}
	}
	for _, n := range old {
		if n.count--; n.count == 0 {
			delete(d.all, n.key)
			s.unname(n.key)
		}
	}
}

// find returns the count of a key. It may be a new one.
func (d *dependence) find(key string) *named {
	n := d.all[key]
	if n == nil {
		n = &named{key: key}
		d.all[key] = n
	}
	return n
}

// keep keeps a position because another one names it.
func (s *Set) keep(key string) {
	if e := s.entries[key]; e != nil && !e.removed {
		s.schedule(e, 0)
	}
}

// unname removes a position that no other one names any more, unless its reader is here.
func (s *Set) unname(key string) {
	switch e := s.entries[key]; {
	case e == nil || e.here || e.removed:
		return
	case e.ours:
		s.remove(e)
	default:
		s.schedule(e, time.Now().UnixMilli())
	}
	s.arm()
}
