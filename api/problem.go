package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// problem is an error as the client gets it: application/problem+json (RFC 9457) with a stable code.
type problem struct {
	status    int
	code      string
	detail    string
	parameter string // the name of the query parameter or header that is wrong
	retry     bool   // the request may succeed in a few seconds
}

func (p *problem) Error() string { return p.code + ": " + p.detail }

// badParameter returns the problem of a query parameter.
func badParameter(name, format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, code: "parameter-invalid",
		detail: name + ": " + fmt.Sprintf(format, args...), parameter: name}
}

// known maps errors of the packages below to problems.
var known = []struct {
	err    error
	status int
	code   string
	retry  bool
}{
	{hub.ErrClosed, http.StatusServiceUnavailable, "shutting-down", true},
	{hub.ErrTooManyStreams, http.StatusServiceUnavailable, "too-many-streams", true},
	{hub.ErrOverloaded, http.StatusServiceUnavailable, "server-busy", true},
	{hub.ErrTooManyLines, http.StatusRequestEntityTooLarge, "too-many-lines", false},
	{hub.ErrTooManyWills, http.StatusInsufficientStorage, "too-many-wills", false},
	{delivery.ErrTooManyChanges, http.StatusTooManyRequests, "too-many-changes", true},
	{session.ErrTooManySessions, http.StatusServiceUnavailable, "too-many-sessions", true},
	{hub.ErrMismatch, http.StatusUnprocessableEntity, "idempotency-mismatch", false},
	{hub.ErrForbidden, http.StatusForbidden, "filter-forbidden", false},
	{hub.ErrNobody, http.StatusNotFound, "nobody-listens", false},
	{hub.ErrBusy, http.StatusServiceUnavailable, "program-busy", true},
	{hub.ErrProgram, http.StatusInternalServerError, "program-failed", false},
	{session.ErrUnknown, http.StatusNotFound, "session-unknown", false},
	{session.ErrNoStream, http.StatusConflict, "no-stream", false},
	{session.ErrTooManyFilters, http.StatusBadRequest, "too-many-filters", false},
	{session.ErrSecret, http.StatusBadRequest, "session-invalid", false},
	{store.ErrTooManyGroups, http.StatusInsufficientStorage, "too-many-groups", false},
	{store.ErrTooManyPolicies, http.StatusInsufficientStorage, "too-many-policies", false},
	{store.ErrReadOnly, http.StatusServiceUnavailable, "store-read-only", false},
	{store.ErrFull, http.StatusInsufficientStorage, "store-full", false},
}

// problemOf returns the problem for an error, or nil for an unexpected error.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return &problem{status: k.status, code: k.code, detail: err.Error(), retry: k.retry}
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		// The client canceled, and does not read this; or middleware did.
		return &problem{status: http.StatusServiceUnavailable, code: "given-up", retry: true,
			detail: "the request was canceled before it was complete; with an idempotency key, it is safe to send it again"}
	}
	if _, ok := errors.AsType[*group.Error](err); ok {
		return &problem{status: http.StatusBadRequest, code: "group-invalid", detail: err.Error()}
	}
	if _, ok := errors.AsType[*hub.BodyError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "body-invalid", detail: err.Error()}
	}
	if _, ok := errors.AsType[*hub.EventError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "event-invalid", detail: err.Error(), parameter: "event"}
	}
	if _, ok := errors.AsType[*hub.ObjectError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "body-invalid", detail: err.Error()}
	}
	if _, ok := errors.AsType[*hub.Refusal](err); ok {
		return &problem{status: http.StatusForbidden, code: "refused", detail: err.Error()}
	}
	if _, ok := errors.AsType[*hub.SizeError](err); ok {
		return &problem{status: http.StatusRequestEntityTooLarge, code: "message-too-large", detail: err.Error()}
	}
	return nil
}

// writeProblem answers with an error and logs it. Unexpected errors are only logged.
func (a *api) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p == nil {
		p = &problem{status: http.StatusInternalServerError, code: "internal", detail: "an unexpected error; the server's log has the details"}
	}
	a.logProblem(r, p, err)
	body, _ := json.Marshal(struct { // strings and a number cannot fail
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Detail    string `json:"detail"`
		Parameter string `json:"parameter,omitempty"`
	}{http.StatusText(p.status), p.status, p.code, p.detail, p.parameter})
	h := w.Header()
	if p.retry {
		h.Set("Retry-After", "5")
	}
	if p.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", sessionHeader)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(p.status)
	_, _ = w.Write(body) // an error means that the client is gone
}
