package remote

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Refusal is a response that is not a success: a problem (RFC 9457) of the hub's own, or the response of a proxy or
// another server.
type Refusal struct {
	Status     int
	Code       string // of the hub's problem; "" if the response is not a problem
	Detail     string
	RetryAfter time.Duration // how long to wait before a retry; 0 if the response does not say
}

// NewRefusal returns the refusal for a response.
func NewRefusal(status int, header http.Header, body []byte) *Refusal {
	r := &Refusal{Status: status}
	var p struct{ Code, Detail string }
	if MediaType(header) == "application/problem+json" && json.Unmarshal(body, &p) == nil {
		r.Code, r.Detail = p.Code, p.Detail
	}
	switch location := header.Get("Location"); {
	case r.Detail != "":
	case status >= 300 && status <= 399 && location != "":
		r.Detail = fmt.Sprintf("the answer is a redirect to %s: use the address that it leads to", location)
	case status >= 200 && status <= 299 && status != http.StatusNoContent:
		r.Detail = fmt.Sprintf("the answer is %d with %q and not a hub's: is the address right?", status, MediaType(header))
	default:
		r.Detail = fmt.Sprintf("the answer is %d %s", status, http.StatusText(status))
	}
	if s, err := strconv.ParseUint(header.Get("Retry-After"), 10, 16); err == nil {
		r.RetryAfter = time.Duration(s) * time.Second
	}
	return r
}

// Error returns the detail and the code.
func (r *Refusal) Error() string {
	if r.Code == "" {
		return r.Detail
	}
	return fmt.Sprintf("%s (%s)", r.Detail, r.Code)
}

// Temporary reports whether a retry may succeed.
func (r *Refusal) Temporary() bool {
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return true
	case http.StatusTooManyRequests:
		return r.Code != "batch-over-rate" // the next attempt would have as many messages
	case http.StatusInternalServerError:
		return r.Code != "program-failed" // BeforePublish panicked: it would again
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return false
	}
	return r.Status >= 500
}

// Final reports whether the client should give up. met is set once the hub itself has responded to the client. After
// that, a response that is not the hub's own is temporary: it comes from a proxy while the hub is replaced, or from a
// network that requires a login.
func (r *Refusal) Final(met bool) bool {
	switch r.Status {
	case http.StatusNoContent, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return !r.Temporary() && (r.Code != "" || !met)
}

// MediaType returns the type of a body, without parameters and in lower case.
func MediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}
