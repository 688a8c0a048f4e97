package remote

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Refusal is an answer that is not the success which a client asked for: a problem (RFC 9457) of the hub's own, or what
// something between the client and the hub has answered.
type Refusal struct {
	Status     int
	Code       string // of the hub's problem; "" if it is none
	Detail     string
	RetryAfter time.Duration // how long to wait before a retry; 0 if the answer does not say
}

// NewRefusal returns the refusal that an answer is.
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
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusInternalServerError:
		return r.Code != "program-failed" // BeforePublish panicked: it would again
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return false
	}
	return r.Status >= 500
}

// Final reports whether an answer ends what it answers. Once the client has met the hub, another answer that is not
// the hub's own comes from a proxy while the hub is replaced, or from a network that wants a login: it is temporary.
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
