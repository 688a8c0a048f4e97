package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// problemType is the media type of an error.
const problemType = "application/problem+json"

// problem is an error in the form that clients get: application/problem+json (RFC 9457) with a stable code.
type problem struct {
	status    int
	code      string
	detail    string
	parameter string // the name of the invalid query parameter or header
	retry     bool   // the request may succeed in a few seconds

	after     time.Duration     // when to retry; 0: after retryAfter
	forbidden *access.Forbidden // what the grant does not allow
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
	{session.ErrClosed, http.StatusServiceUnavailable, "shutting-down", true},
	{store.ErrClosed, http.StatusServiceUnavailable, "shutting-down", true},
	{hub.ErrSessionEnded, http.StatusGone, "session-ended", false},
	{hub.ErrHubAway, http.StatusServiceUnavailable, "hub-away", true},
	{hub.ErrTooManyStreams, http.StatusServiceUnavailable, "too-many-streams", true},
	{hub.ErrOverloaded, http.StatusServiceUnavailable, "server-busy", true},
	{access.ErrMissing, http.StatusUnauthorized, "token-missing", false},
	{access.ErrInvalid, http.StatusUnauthorized, "token-invalid", false},
	{access.ErrExpired, http.StatusUnauthorized, "token-expired", false},
	{access.ErrRevoked, http.StatusUnauthorized, "token-revoked", false},
	{access.ErrRevocation, http.StatusUnprocessableEntity, "revocation-invalid", false},
	{access.ErrTooManyRevocations, http.StatusInsufficientStorage, "too-many-revocations", false},
	{access.ErrNoTokenFile, http.StatusNotFound, "no-token-file", false},
	{access.ErrTokenUnknown, http.StatusNotFound, "token-unknown", false},
	{access.ErrTokenExists, http.StatusConflict, "token-exists", false},
	{access.ErrTokenRefused, http.StatusUnprocessableEntity, "token-refused", false},
	{access.ErrTokenFile, http.StatusServiceUnavailable, "token-file-unusable", false},
	{hub.ErrNoAccess, http.StatusConflict, "authentication-off", false},
	{session.ErrOfAnother, http.StatusForbidden, "session-of-another", false},
	{hub.ErrTooManyLines, http.StatusRequestEntityTooLarge, "too-many-lines", false},
	{hub.ErrTooManyWills, http.StatusInsufficientStorage, "too-many-wills", false},
	{delivery.ErrTooManyChanges, http.StatusTooManyRequests, "too-many-changes", true},
	{session.ErrTooManySessions, http.StatusServiceUnavailable, "too-many-sessions", true},
	{store.ErrTooLarge, http.StatusRequestEntityTooLarge, "message-too-large", false},
	{hub.ErrMismatch, http.StatusUnprocessableEntity, "idempotency-mismatch", false},
	{hub.ErrForbidden, http.StatusForbidden, "filter-forbidden", false},
	{hub.ErrNobodyListens, http.StatusNotFound, "nobody-listens", false},
	{hub.ErrBusy, http.StatusServiceUnavailable, "program-busy", true},
	{hub.ErrProgram, http.StatusInternalServerError, "program-failed", false},
	{session.ErrUnknown, http.StatusNotFound, "session-unknown", false},
	{session.ErrNoStream, http.StatusConflict, "no-stream", false},
	{session.ErrTooManyFilters, http.StatusBadRequest, "too-many-filters", false},
	{session.ErrTooLarge, http.StatusRequestEntityTooLarge, "message-too-large", false}, // because of its will
	{session.ErrSecret, http.StatusBadRequest, "session-invalid", false},
	{store.ErrTooManyGroups, http.StatusInsufficientStorage, "too-many-groups", false},
	{store.ErrTooManyPolicies, http.StatusInsufficientStorage, "too-many-policies", false},
	{store.ErrAway, http.StatusServiceUnavailable, "store-away", true},
	{session.ErrConflict, http.StatusServiceUnavailable, "store-away", true}, // the newer document does not arrive
	{store.ErrUnknownOutcome, http.StatusServiceUnavailable, "unknown-outcome", true},
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
	if f, ok := errors.AsType[*access.Forbidden](err); ok {
		return &problem{status: http.StatusForbidden, code: "forbidden", detail: err.Error(), forbidden: f}
	}
	if _, ok := errors.AsType[*access.Denied](err); ok {
		return &problem{status: http.StatusForbidden, code: "forbidden", detail: err.Error()}
	}
	if l, ok := errors.AsType[*hub.LimitError](err); ok {
		return &problem{status: http.StatusTooManyRequests, code: l.Code, detail: l.Text, retry: true, after: l.Retry}
	}
	if _, ok := errors.AsType[*hub.Refusal](err); ok { // before the others, since it may wrap any error of the program
		return &problem{status: http.StatusForbidden, code: "refused", detail: err.Error()}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		// The client canceled and does not read this, or middleware canceled.
		return &problem{status: http.StatusServiceUnavailable, code: "given-up", retry: true,
			detail: "the request was canceled before it was complete; with an idempotency key, it is safe to send it again"}
	}
	if _, ok := errors.AsType[*group.Error](err); ok {
		return &problem{status: http.StatusBadRequest, code: "group-invalid", detail: err.Error()}
	}
	if _, ok := errors.AsType[*hub.BodyError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "body-invalid", detail: err.Error()}
	}
	if _, ok := errors.AsType[*hub.CursorError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "parameter-invalid", detail: "after: " + err.Error(), parameter: "after"}
	}
	if _, ok := errors.AsType[*hub.EventError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "event-invalid", detail: err.Error(), parameter: "event"}
	}
	if _, ok := errors.AsType[*hub.MetaError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "meta-invalid", detail: err.Error(), parameter: "meta"}
	}
	if _, ok := errors.AsType[*hub.ObjectError](err); ok {
		return &problem{status: http.StatusBadRequest, code: "body-invalid", detail: err.Error()}
	}
	if _, ok := errors.AsType[*hub.SizeError](err); ok {
		return &problem{status: http.StatusRequestEntityTooLarge, code: "message-too-large", detail: err.Error()}
	}
	return nil
}

// problemJSON is a problem in an answer.
type problemJSON struct {
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Code      string        `json:"code"`
	Detail    string        `json:"detail"`
	Parameter string        `json:"parameter,omitempty"`
	Action    access.Action `json:"action,omitempty"` // the action that a grant must allow
	Filter    string        `json:"filter,omitempty"` // for which groups
}

// retryAfter is the usual time after which a client may try again.
const retryAfter = 5 * time.Second

// challenge returns the value of WWW-Authenticate (RFC 6750, 3).
func challenge(code string) string {
	switch code {
	case "session-required":
		return sessionHeader
	case "token-missing":
		return "Bearer"
	}
	return `Bearer error="invalid_token"`
}

// writeProblem answers with an error and logs it. The answer does not contain the text of an unexpected error.
func (a *api) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p == nil {
		p = &problem{status: http.StatusInternalServerError, code: "internal", detail: "an unexpected error; the server's log has the details"}
	}
	a.logProblem(r, p, err)
	out := problemJSON{
		Title: http.StatusText(p.status), Status: p.status, Code: p.code, Detail: p.detail, Parameter: p.parameter,
	}
	if p.forbidden != nil {
		out.Action, out.Filter = p.forbidden.Action, p.forbidden.Filter
	}
	body, _ := json.Marshal(out) // strings and a number cannot fail
	h := w.Header()
	if p.retry {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(cmp.Or(p.after, retryAfter).Seconds()))))
	}
	if p.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(p.code))
	}
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(p.status)
	_, _ = w.Write(body) // an error means that the client is gone
}
