package group

import "strings"

// Filter selects groups. The zero value selects none.
type Filter struct {
	text string
	wild bool
}

// ParseFilter parses a filter. Its error is an *Error.
func ParseFilter(s string) (Filter, error) {
	if err := check(s); err != nil {
		return Filter{}, err
	}
	wild := false
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#" && more:
			return Filter{}, &Error{s, "has # before its end: # stands for all that follows and comes last"}
		case level == "#" || level == "+":
			wild = true
		case strings.ContainsAny(level, "+#"):
			return Filter{}, &Error{s, "has + or # within a level: each stands alone, as a/+/c or a/#"}
		}
	}
	return Filter{strings.Clone(s), wild}, nil
}

// Exact returns the filter that selects one group. The name must be valid.
func Exact(name string) Filter { return Filter{text: name} }

// String returns the filter as it was written.
func (f Filter) String() string { return f.text }

// Wild reports whether the filter is a pattern. If not, it matches the one group of its name.
func (f Filter) Wild() bool { return f.wild }

// Match reports whether the filter selects the group.
func (f Filter) Match(name string) bool {
	if !f.wild {
		return f.text == name
	}
	if strings.HasPrefix(name, "$") && (f.text[0] == '+' || f.text[0] == '#') {
		return false // MQTT 5.0, 4.7.2
	}
	return covers(f.text, name)
}

// Prefix returns a common prefix of the names that the filter selects.
func (f Filter) Prefix() string {
	if !f.wild {
		return f.text
	}
	i := strings.IndexAny(f.text, "+#")
	if i > 0 && f.text[i] == '#' {
		i-- // home/# selects home
	}
	return f.text[:i]
}

// Covers reports whether f selects every group that g selects.
func (f Filter) Covers(g Filter) bool {
	if f.text == "" || g.text == "" {
		return false
	}
	if strings.HasPrefix(g.text, "$") && (f.text[0] == '+' || f.text[0] == '#') {
		return false
	}
	if g.text == "#" {
		return f.text == "#" || f.text == "+/#" // both select the same groups, since every name has a level
	}
	return covers(f.text, g.text)
}

// covers compares filter and name level by level. The name may itself be a pattern: a wildcard in it
// is covered only by a wildcard that is at least as wide.
func covers(filter, name string) bool {
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		n, nrest, nmore := strings.Cut(name, "/")
		switch {
		case f == "#":
			return true
		case n == "#" || f != "+" && f != n:
			return false
		case !fmore && !nmore:
			return true
		case !nmore:
			return frest == "#" // home/# selects home
		case !fmore:
			return false
		}
		filter, name = frest, nrest
	}
}

// Overlaps reports whether some group is selected by both f and g.
func (f Filter) Overlaps(g Filter) bool {
	if f.text == "" || g.text == "" || f.system() != g.system() && (f.open() || g.open()) {
		return false
	}
	a, b := f.text, g.text
	for {
		x, arest, amore := strings.Cut(a, "/")
		y, brest, bmore := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != "+" && y != "+" && x != y:
			return false
		case !amore && !bmore:
			return true
		case !amore:
			return brest == "#" // home/# selects home
		case !bmore:
			return arest == "#"
		}
		a, b = arest, brest
	}
}

// system reports whether the filter selects system groups, whose names begin with $.
func (f Filter) system() bool { return f.text[0] == '$' }

// open reports whether the filter's first level is a wildcard.
func (f Filter) open() bool { return f.text[0] == '+' || f.text[0] == '#' }

// Narrower orders the filters that match a group, the most specific first. It compares level by
// level: a name is narrower than +, and + is narrower than #. A filter that ends is narrower than one
// that continues, so that home comes before home/#. Filters that share no group are ordered, too.
func (f Filter) Narrower(g Filter) bool {
	a, b := f.text, g.text
	for {
		x, arest, amore := strings.Cut(a, "/")
		y, brest, bmore := strings.Cut(b, "/")
		if width(x) != width(y) {
			return width(x) < width(y)
		}
		if !amore || !bmore {
			return !amore && bmore
		}
		a, b = arest, brest
	}
}

func width(level string) int {
	switch level {
	case "#":
		return 2
	case "+":
		return 1
	}
	return 0
}

// Set is the filters of a stream. It selects the groups that any of them selects.
type Set []Filter

// Match reports whether any filter of the set selects the group.
func (s Set) Match(name string) bool {
	for _, f := range s {
		if f.Match(name) {
			return true
		}
	}
	return false
}

// Wild reports whether any filter of the set is a pattern.
func (s Set) Wild() bool {
	for _, f := range s {
		if f.wild {
			return true
		}
	}
	return false
}

// Strings returns the filters as they were written.
func (s Set) Strings() []string {
	out := make([]string, len(s))
	for i, f := range s {
		out[i] = f.text
	}
	return out
}

// Names returns the filters that are names of single groups, each once.
func (s Set) Names() []string {
	var out []string
	for _, f := range s {
		if !f.wild && !contains(out, f.text) {
			out = append(out, f.text)
		}
	}
	return out
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
