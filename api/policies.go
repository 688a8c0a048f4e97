package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
)

// policyJSON is a policy in a request or an answer. Absent members inherit.
type policyJSON struct {
	MaxMessages *int64      `json:"max_messages,omitempty"`
	MaxBytes    *int64      `json:"max_bytes,omitempty"`
	MaxAge      *string     `json:"max_age,omitempty"`
	Store       *store.Kind `json:"store,omitempty"`
	Compress    *bool       `json:"compress,omitempty"`
	Slow        *store.Slow `json:"slow,omitempty"`
	Coalesce    *string     `json:"coalesce,omitempty"`
}

// The parts of a filter's policy.
const (
	effectivePolicy = "effective" // what is in force
	ownPolicy       = "own"       // what was set for the filter itself
	inheritedPolicy = "inherited" // what would be in force without that
)

var policyParts = []string{effectivePolicy, ownPolicy, inheritedPolicy}

// policy answers with the policy of a filter, or a part of it.
func (a *api) policy(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	q, err := parameters(r, "part")
	if err != nil {
		return err
	}
	part, err := choice(q, "part", policyParts)
	if err != nil {
		return err
	}
	own, inherited := a.hub.OwnPolicy(f)
	switch part {
	case ownPolicy:
		return writePolicy(w, f, unresolved(own))
	case inheritedPolicy:
		return writePolicy(w, f, resolved(inherited))
	}
	return writePolicy(w, f, resolved(a.hub.Policy(f)))
}

// setPolicy replaces the policy of a filter. An empty one removes it.
func (a *api) setPolicy(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	if err := a.hub.Readable(f); err != nil {
		return err // the messages of sessions have no policies of clients
	}
	var in policyJSON
	err = a.readObject(w, r, policyShape, &in)
	if wrong, ok := errors.AsType[*hub.ObjectError](err); ok {
		return badPolicy("%s", wrong)
	} else if err != nil {
		return err
	}
	p, err := in.policy()
	if err != nil {
		return err
	}
	if p.Store != "" && !a.hub.Keeps(p.Store) {
		return badPolicy("store: this server does not have %.64q", p.Store)
	}
	if err := a.hub.SetPolicy(f, p); err != nil {
		return err
	}
	return writePolicy(w, f, resolved(a.hub.Policy(f)))
}

func writePolicy(w http.ResponseWriter, f group.Filter, p policyJSON) error {
	return writeValue(w, struct {
		Filter string `json:"filter"`
		policyJSON
	}{f.String(), p})
}

// resolved returns an effective policy, where 0 is no limit.
func resolved(p store.Policy) policyJSON {
	compress, maxAge, coalesce := p.Compress == store.Yes, p.MaxAge.String(), p.Coalesce.String()
	return policyJSON{&p.MaxMessages, &p.MaxBytes, &maxAge, &p.Store, &compress, &p.Slow, &coalesce}
}

// unresolved returns a policy as it was set. Members that inherit are absent.
func unresolved(p store.Policy) policyJSON {
	noLimit := p
	noLimit.MaxMessages, noLimit.MaxBytes = max(p.MaxMessages, 0), max(p.MaxBytes, 0)
	noLimit.MaxAge, noLimit.Coalesce = max(p.MaxAge, 0), max(p.Coalesce, 0)
	out := resolved(noLimit)
	omitZero(&out.MaxMessages, p.MaxMessages)
	omitZero(&out.MaxBytes, p.MaxBytes)
	omitZero(&out.MaxAge, p.MaxAge)
	omitZero(&out.Store, p.Store)
	omitZero(&out.Compress, p.Compress)
	omitZero(&out.Slow, p.Slow)
	omitZero(&out.Coalesce, p.Coalesce)
	return out
}

// omitZero removes a member whose value is the zero value.
func omitZero[M any, V comparable](member **M, value V) {
	var zero V
	if value == zero {
		*member = nil
	}
}

var policyShape = shape{"a policy", 16 << 10,
	`a policy has max_messages and max_bytes (numbers), max_age and coalesce (durations such as "10m" or "7d"), store, compress (true or false) and slow`}

func badPolicy(format string, args ...any) error {
	return &problem{status: http.StatusUnprocessableEntity, code: "policy-invalid", detail: fmt.Sprintf(format, args...)}
}

// policy checks and converts a request's policy. A 0 means no limit, while an absent member inherits.
func (p *policyJSON) policy() (out store.Policy, err error) {
	bound := func(name string, n *int64) (v int64) {
		switch {
		case n == nil:
		case *n < 0:
			err = badPolicy("%s is below 0; 0 means no limit", name)
		case *n == 0:
			v = store.Unbounded
		default:
			v = *n
		}
		return v
	}
	period := func(name string, s *string, limits duration.Range) time.Duration {
		if s == nil {
			return 0
		}
		d, wrong := limits.Parse(*s)
		switch {
		case wrong != nil:
			err = badPolicy("%s: %s; 0s means no limit", name, wrong)
		case d == 0:
			d = store.Unbounded
		}
		return d
	}
	out.MaxMessages, out.MaxBytes = bound("max_messages", p.MaxMessages), bound("max_bytes", p.MaxBytes)
	out.MaxAge, out.Coalesce = period("max_age", p.MaxAge, store.Ages), period("coalesce", p.Coalesce, store.Coalesces)
	if p.Store != nil {
		if out.Store = *p.Store; out.Store == "" {
			err = badPolicy("store: \"\" is neither memory nor disk")
		}
	}
	if p.Slow != nil {
		if out.Slow = *p.Slow; out.Slow == "" {
			err = badPolicy("slow: \"\" is not one of catch-up, skip and disconnect")
		}
	}
	if p.Compress != nil {
		out.Compress = store.No
		if *p.Compress {
			out.Compress = store.Yes
		}
	}
	if wrong := out.Check(); err == nil && wrong != nil {
		err = badPolicy("%s", wrong)
	}
	return out, err
}
