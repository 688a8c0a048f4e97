package store

import (
	"fmt"
	"slices"
	"time"
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

// Check returns an error for what no field may be. A store need not be there.
func (p Policy) Check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"max_messages", p.MaxMessages}, {"max_bytes", p.MaxBytes}, {"max_age", int64(p.MaxAge)}, {"coalesce", int64(p.Coalesce)},
	} {
		if f.value < Unbounded {
			return fmt.Errorf("%s is below 0", f.name)
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
