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
	MaxMessages *int64      `json:"max_messages"`
	MaxBytes    *int64      `json:"max_bytes"`
	MaxAge      *string     `json:"max_age"`
	Store       *store.Kind `json:"store"`
	Compress    *bool       `json:"compress"`
	Slow        *store.Slow `json:"slow"`
	Coalesce    *string     `json:"coalesce"`
}

// policy answers with the effective policy of a filter.
func (a *api) policy(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	return a.writePolicy(w, f)
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
	return a.writePolicy(w, f)
}

func (a *api) writePolicy(w http.ResponseWriter, f group.Filter) error {
	p := a.hub.Policy(f)
	compress, maxAge, coalesce := p.Compress == store.Yes, p.MaxAge.String(), p.Coalesce.String()
	return writeValue(w, struct {
		Filter string `json:"filter"`
		policyJSON
	}{f.String(), policyJSON{&p.MaxMessages, &p.MaxBytes, &maxAge, &p.Store, &compress, &p.Slow, &coalesce}})
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
