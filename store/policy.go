package store

import (
	"iter"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Unbounded, as a number in a policy, overrides an inherited bound with none.
const Unbounded = -1

// Choice is a yes or no that may be left open.
type Choice int8

// The choices.
const (
	Inherit Choice = iota
	Yes
	No
)

// Slow says what happens to a stream whose socket does not take what it is sent.
type Slow string

// The ways to treat a slow stream.
const (
	SlowCatchUp    Slow = "catch-up"   // it reads on from the log when it can
	SlowSkip       Slow = "skip"       // it goes on with the newest, with a gap
	SlowDisconnect Slow = "disconnect" // it is ended
)

// Kind names a place to keep messages.
type Kind string

// The kinds of store.
const (
	Memory Kind = "memory"
	Disk   Kind = "disk"
)

// Policy is what a group keeps and for how long. A zero field inherits from the next wider policy
// and finally from the server's.
type Policy struct {
	MaxMessages int64         // keep the newest so many
	MaxBytes    int64         // keep the newest so many bytes of frames
	MaxAge      time.Duration // keep what is younger
	Store       Kind
	Compress    Choice        // history takes a fraction of the memory, and more CPU to read
	Slow        Slow          // what to do with a stream that does not keep up
	Coalesce    time.Duration // send to a stream at most every so often, several messages at once
}

// Or fills p's open fields from q.
func (p Policy) Or(q Policy) Policy {
	pick(&p.MaxMessages, q.MaxMessages)
	pick(&p.MaxBytes, q.MaxBytes)
	pick(&p.MaxAge, q.MaxAge)
	pick(&p.Store, q.Store)
	pick(&p.Compress, q.Compress)
	pick(&p.Slow, q.Slow)
	pick(&p.Coalesce, q.Coalesce)
	return p
}

func pick[T comparable](v *T, other T) {
	var open T
	if *v == open {
		*v = other
	}
}

// settled turns what is Unbounded or still open into what a store works with: 0 for no bound.
func (p Policy) settled() Policy {
	p = p.Or(Policy{Store: Memory, Compress: No, Slow: SlowCatchUp})
	p.MaxMessages, p.MaxBytes = max(p.MaxMessages, 0), max(p.MaxBytes, 0)
	p.MaxAge, p.Coalesce = max(p.MaxAge, 0), max(p.Coalesce, 0)
	return p
}

// Policies is a table of policies by filter. Its zero value has none. It is not safe for use at
// once.
type Policies struct {
	rows []policyRow // the narrowest first
}

type policyRow struct {
	filter group.Filter
	policy Policy
}

// Set replaces the policy of a filter; an empty one removes it.
func (t *Policies) Set(f group.Filter, p Policy) {
	t.rows = slices.DeleteFunc(t.rows, func(r policyRow) bool { return r.filter.String() == f.String() })
	if p == (Policy{}) {
		return
	}
	at := 0
	for at < len(t.rows) && t.rows[at].filter.Narrower(f) {
		at++
	}
	t.rows = slices.Insert(t.rows, at, policyRow{f, p})
}

// All yields the policies by their filters.
func (t *Policies) All() iter.Seq2[group.Filter, Policy] {
	return func(yield func(group.Filter, Policy) bool) {
		for _, r := range t.rows {
			if !yield(r.filter, r.policy) {
				return
			}
		}
	}
}

// Effective returns what applies to a filter: each property from the narrowest policy that
// covers it and says something, the bounds as 0 where there is none.
func (t *Policies) Effective(f group.Filter, server Policy) Policy {
	var p Policy
	for _, r := range t.rows {
		if r.filter.Covers(f) {
			p = p.Or(r.policy)
		}
	}
	return p.Or(server).settled()
}
