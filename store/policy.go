package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
)

// Unbounded, as a number in a policy, overrides an inherited bound with none.
const Unbounded = -1

// The durations that a policy may have. They are never changed.
var (
	Ages      = duration.Range{Most: 520 * duration.Week} // ten years
	Coalesces = duration.Range{Most: time.Hour}
)

// Choice is yes, no, or inherited.
type Choice int8

// The choices.
const (
	Inherit Choice = iota
	Yes
	No
)

// Slow says what happens to a stream whose client reads too slowly.
type Slow string

// The ways to treat a slow stream.
const (
	SlowCatchUp    Slow = "catch-up"   // continue from its position in the log
	SlowSkip       Slow = "skip"       // skip to the newest message, with a gap
	SlowDisconnect Slow = "disconnect" // end the stream
)

// Kind is where messages are kept.
type Kind string

// The kinds of store.
const (
	Memory Kind = "memory"
	Disk   Kind = "disk"
)

// Policy says what a group keeps and for how long. A zero field inherits from the next wider policy
// and finally from the server's.
type Policy struct {
	MaxMessages int64         // most messages to keep; the oldest are evicted
	MaxBytes    int64         // most bytes of frames to keep
	MaxAge      time.Duration // how long to keep a message; see Ages
	Store       Kind
	Compress    Choice        // compress history: less memory, more CPU to read
	Slow        Slow          // how to treat streams that do not keep up
	Coalesce    time.Duration // least time between two writes to a stream; messages in between are sent together; see Coalesces
}

// Check returns an error if a field has an invalid value. The store need not be available.
func (p Policy) Check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"max_messages", p.MaxMessages}, {"max_bytes", p.MaxBytes},
	} {
		if f.value < Unbounded {
			return fmt.Errorf("%s is below 0", f.name)
		}
	}
	for _, f := range []struct {
		name   string
		value  time.Duration
		limits duration.Range
	}{
		{"max_age", p.MaxAge, Ages}, {"coalesce", p.Coalesce, Coalesces},
	} {
		if err := f.limits.Check(f.value); err != nil && f.value != Unbounded {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	switch {
	case !slices.Contains([]Kind{"", Memory, Disk}, p.Store):
		return fmt.Errorf("store: %.64q is neither memory nor disk", p.Store)
	case !slices.Contains([]Slow{"", SlowCatchUp, SlowSkip, SlowDisconnect}, p.Slow):
		return fmt.Errorf("slow: %.64q is none of catch-up, skip and disconnect", p.Slow)
	case p.Compress < Inherit || p.Compress > No:
		return fmt.Errorf("compress: %d is none of Inherit, Yes and No", p.Compress)
	}
	return nil
}

// Or fills p's zero fields from q.
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

// settled resolves fields that are Unbounded or still zero to the values that a store works with, 0
// for no bound.
func (p Policy) settled() Policy {
	p = p.Or(Policy{Store: Memory, Compress: No, Slow: SlowCatchUp})
	p.MaxMessages, p.MaxBytes = max(p.MaxMessages, 0), max(p.MaxBytes, 0)
	p.MaxAge, p.Coalesce = max(p.MaxAge, 0), max(p.Coalesce, 0)
	return p
}
