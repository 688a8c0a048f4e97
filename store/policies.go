package store

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/watchbox-go/watchbox/internal/group"
)

// MaxPolicies is how many policies a table holds. With filters of at most 255 bytes it bounds the
// table's memory, too.
const MaxPolicies = 10_000

// Policies is a table of policies by filter. Its zero value has none. It is not safe for
// concurrent use.
//
// It is a tree of levels in which "+" and "#" are levels like others, so that what covers a filter
// is found without looking at the rest.
type Policies struct {
	root policyNode
	n    int
}

type policyNode struct {
	levels map[string]*policyNode
	filter group.Filter // that ends here
	policy Policy       // of it; the zero value if there is none
}

// Set replaces the policy of a filter; an empty one removes it. It returns ErrTooManyPolicies for
// one too many, and changes nothing then.
func (t *Policies) Set(f group.Filter, p Policy) error {
	if p != (Policy{}) && t.n >= MaxPolicies && t.at(f) == nil {
		return ErrTooManyPolicies
	}
	t.Restore(f, p)
	return nil
}

// Restore is Set for policies that were accepted before: it refuses none.
func (t *Policies) Restore(f group.Filter, p Policy) {
	had := t.at(f) != nil
	switch {
	case p != (Policy{}):
		n := &t.root
		for level := range strings.SplitSeq(f.String(), "/") {
			n = n.child(level)
		}
		n.filter, n.policy = f, p
		if !had {
			t.n++
		}
	case had:
		t.root.remove(f.String())
		t.n--
	}
}

// at returns the node of a filter that has a policy, or nil.
func (t *Policies) at(f group.Filter) *policyNode {
	n := &t.root
	for level := range strings.SplitSeq(f.String(), "/") {
		if n = n.levels[level]; n == nil {
			return nil
		}
	}
	if n.policy == (Policy{}) {
		return nil
	}
	return n
}

func (n *policyNode) child(level string) *policyNode {
	c := n.levels[level]
	if c == nil {
		if n.levels == nil {
			n.levels = map[string]*policyNode{}
		}
		c = &policyNode{}
		n.levels[strings.Clone(level)] = c
	}
	return c
}

// remove removes the policy of a filter, and the nodes that lead only there.
func (n *policyNode) remove(filter string) {
	level, rest, more := strings.Cut(filter, "/")
	c := n.levels[level]
	if more {
		c.remove(rest)
	} else {
		c.filter, c.policy = group.Filter{}, Policy{}
	}
	if c.policy == (Policy{}) && len(c.levels) == 0 {
		delete(n.levels, level)
	}
}

// All yields the policies by their filters, the narrowest first.
func (t *Policies) All() iter.Seq2[group.Filter, Policy] {
	var all []*policyNode
	t.root.collect(&all)
	slices.SortFunc(all, func(a, b *policyNode) int {
		switch {
		case a.filter.Narrower(b.filter):
			return -1
		case b.filter.Narrower(a.filter):
			return 1
		}
		return cmp.Compare(a.filter.String(), b.filter.String())
	})
	return func(yield func(group.Filter, Policy) bool) {
		for _, n := range all {
			if !yield(n.filter, n.policy) {
				return
			}
		}
	}
}

func (n *policyNode) collect(all *[]*policyNode) {
	if n.policy != (Policy{}) {
		*all = append(*all, n)
	}
	for _, c := range n.levels {
		c.collect(all)
	}
}

// Effective returns what applies to a filter: each property from the narrowest policy that
// covers it and says something, the bounds as 0 where there is none.
func (t *Policies) Effective(f group.Filter, server Policy) Policy {
	var p Policy
	if f.String() == "#" { // covered by +/# as well: no name has no level
		t.root.levels["+"].below(&p)
	}
	t.root.cover(f.String(), strings.HasPrefix(f.String(), "$"), &p)
	return p.Or(server).settled()
}

// cover fills p's open fields from the policies below n whose filter covers the levels in rest, as
// group.Filter.Covers says, the narrowest first. A wildcard in the first level covers no name of
// the server's own.
func (n *policyNode) cover(rest string, system bool, p *Policy) {
	level, rest, more := strings.Cut(rest, "/")
	if level != "#" {
		n.levels[level].descend(rest, more, p)
	}
	if level != "+" && level != "#" && !system {
		n.levels["+"].descend(rest, more, p)
	}
	if !system {
		n.below(p)
	}
}

// below fills p's open fields from the policy of all levels below n, which may be nil.
func (n *policyNode) below(p *Policy) {
	if n == nil {
		return
	}
	if all := n.levels["#"]; all != nil {
		*p = p.Or(all.policy)
	}
}

// descend goes on at a node that covers what comes before rest. The node may be nil.
func (n *policyNode) descend(rest string, more bool, p *Policy) {
	switch {
	case n == nil:
	case more:
		n.cover(rest, false, p)
	default:
		*p = p.Or(n.policy)
		n.below(p) // home/# covers home
	}
}
