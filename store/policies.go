package store

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/watchbox-go/watchbox/internal/group"
)

// MaxPolicies is the most policies that a table holds. Filters have at most 255 bytes, so that it
// bounds the table's memory, too.
const MaxPolicies = 10_000

// Policies is a table of policies by filter. Its zero value has none. It is not safe for
// concurrent use.
//
// It is a tree of levels in which "+" and "#" are levels like others. A lookup visits only the
// policies that cover the filter, and not all of them.
type Policies struct {
	root policyNode
	n    int
}

type policyNode struct {
	levels map[string]*policyNode
	filter group.Filter // the filter that ends at this node
	policy Policy       // its policy; the zero value if there is none
}

// Set replaces the policy of a filter; the zero Policy removes it. If there are MaxPolicies already,
// it changes nothing and returns ErrTooManyPolicies.
func (t *Policies) Set(f group.Filter, p Policy) error {
	if p != (Policy{}) && t.n >= MaxPolicies && t.at(f) == nil {
		return ErrTooManyPolicies
	}
	t.Restore(f, p)
	return nil
}

// Restore is Set without the limit, for policies that were accepted before.
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

// remove removes the policy of a filter, and the nodes that lead only to it.
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

// All yields the policies, the narrowest filter first.
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

// Effective returns the policy in force for a filter: each property from the narrowest policy that
// covers the filter and sets the property. A bound of 0 means none.
func (t *Policies) Effective(f group.Filter, server Policy) Policy { return t.find(f, nil, server) }

// Own returns the policy that was set for a filter, and what would be in force without it.
func (t *Policies) Own(f group.Filter, server Policy) (own, inherited Policy) {
	n := t.at(f)
	if n != nil {
		own = n.policy
	}
	return own, t.find(f, n, server)
}

func (t *Policies) find(f group.Filter, except *policyNode, server Policy) Policy {
	x := lookup{except: except}
	if f.String() == "#" { // also covered by +/#, since every name has a level
		x.below(t.root.levels["+"])
	}
	x.cover(&t.root, f.String(), strings.HasPrefix(f.String(), "$"))
	return x.found.Or(server).settled()
}

// lookup collects the policies that cover a filter, all but one.
type lookup struct {
	found  Policy
	except *policyNode // or nil
}

// cover adds the policies below n whose filter covers the levels in rest, by the rules of
// group.Filter.Covers, the narrowest first. A wildcard in the first level covers no system group.
func (x *lookup) cover(n *policyNode, rest string, system bool) {
	level, rest, more := strings.Cut(rest, "/")
	if level != "#" {
		x.descend(n.levels[level], rest, more)
	}
	if level != "+" && level != "#" && !system {
		x.descend(n.levels["+"], rest, more)
	}
	if !system {
		x.below(n)
	}
}

// below adds the policy for everything below n ("#"). n may be nil.
func (x *lookup) below(n *policyNode) {
	if n != nil {
		x.add(n.levels["#"])
	}
}

// descend continues at a node that covers the levels before rest. The node may be nil.
func (x *lookup) descend(n *policyNode, rest string, more bool) {
	switch {
	case n == nil:
	case more:
		x.cover(n, rest, false)
	default:
		x.add(n)
		x.below(n) // home/# covers home
	}
}

// add fills the properties that are not set yet. The node may be nil.
func (x *lookup) add(n *policyNode) {
	if n != nil && n != x.except {
		x.found = x.found.Or(n.policy)
	}
}
