package fallback

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// way is how a stream is opened.
type way int

// The ways, the best first.
const (
	byGet way = iota
	byPost
	byPoll
)

const (
	// patience is how long a way that is not known to work may take until the first byte. A hub sends the first bytes
	// at once. The best way that works is found within three seconds, and a network that is slower is recognised.
	patience = time.Second

	// longPatience is the same for a way that has worked: one and a half of a hub's usual heartbeats.
	longPatience = 22500 * time.Millisecond

	// slowFactor is how many times longer than a short request a stream may take to begin where that takes longer
	// than patience.
	slowFactor = 4

	// memory is how long a way other than the best is used before the better ones are tried again.
	memory = time.Hour
)

// Transport makes the requests of one session with one hub. Its methods may be called concurrently.
type Transport struct {
	// Base makes the requests; nil is http.DefaultTransport.
	Base http.RoundTripper

	// Authorize sets the credentials of a poll. It is nil if those of the stream's request stay valid.
	Authorize func(*http.Request) error

	mu       sync.Mutex // guards what follows
	way      way
	worked   bool          // way is known to work
	until    time.Time     // when to try the better ways again
	patience time.Duration // on a slow network; 0: the usual one
	poller   *poller       // of the open stream, if it polls
}

// RoundTrip implements http.RoundTripper. The GET of a stream may become another request.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, eventsPath) {
		return t.stream(r)
	}
	t.mu.Lock()
	p := t.poller
	t.mu.Unlock()
	if filter, ok := changedFilter(r); ok && p != nil {
		return p.change(r, filter)
	}
	return t.base().RoundTrip(r)
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

const (
	eventsPath  = "/v1/events"
	historyPath = "/v1/history"
)

// changedFilter returns the filter that a request adds to or removes from the session's stream.
func changedFilter(r *http.Request) (filter string, ok bool) {
	_, rest, ok := strings.Cut(r.URL.EscapedPath(), "/v1/sessions/")
	if !ok || r.Method != http.MethodPut && r.Method != http.MethodDelete {
		return "", false
	}
	_, rest, ok = strings.Cut(rest, "/groups/")
	filter, err := url.PathUnescape(rest)
	return filter, ok && err == nil
}

// stream opens a stream in the first way that works.
func (t *Transport) stream(r *http.Request) (*http.Response, error) {
	// Silent attempts end when the next one has succeeded. Otherwise the session would be lost in between.
	var silent attempts
	defer func() { silent.end() }()
	w, wait := t.plan()
	for ; w < byPoll; w, wait = w+1, t.shortest() {
		resp, err := t.attempt(r, w, wait, &silent)
		if err == errSilent || err == nil && w != byGet && isForeign(resp) {
			closeBody(resp)
			continue
		}
		if err == nil && isStream(resp) {
			t.remember(w)
		}
		return resp, err
	}
	begun := time.Now()
	p, resp, err := t.openPoll(r)
	took := time.Since(begun)
	switch {
	case err != nil:
		return nil, err
	case p == nil && (resp.StatusCode == http.StatusOK || isForeign(resp)): // an older hub
		closeBody(resp)
		t.remember(byGet)
		return t.base().RoundTrip(r)
	case p != nil && took > t.shortest() && t.slow(took): // the network is slow, and no proxy holds streams back
		p.stop()
		silent.end()
		silent = nil
		return t.stream(r)
	case p == nil:
		return resp, nil
	}
	t.remember(byPoll)
	return p.serve(), nil
}

// plan returns the way to begin with, and how long it may take.
func (t *Transport) plan() (way, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.way != byGet && time.Now().After(t.until) {
		t.way, t.worked = byGet, false
	}
	if t.worked {
		return t.way, max(longPatience, t.patience)
	}
	return t.way, max(patience, t.patience)
}

func (t *Transport) shortest() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(patience, t.patience)
}

// slow makes the Transport more patient, because a short request took this long, and try all ways again. It returns
// false if it is patient enough.
func (t *Transport) slow(took time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.patience >= longPatience {
		return false
	}
	t.patience = min(slowFactor*took, longPatience)
	t.way, t.worked = byGet, false
	return true
}

// remember records that a way worked.
func (t *Transport) remember(w way) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.way != w || !t.worked {
		t.way, t.worked, t.until = w, true, time.Now().Add(memory)
	}
}

// doubt makes the Transport less patient with the way that worked.
func (t *Transport) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.worked = false
}

// forsake makes the next stream begin with the way after w, because a proxy let only the first bytes through.
func (t *Transport) forsake(w way) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.way == w {
		t.way, t.worked, t.until = w+1, false, time.Now().Add(memory)
	}
}

// errSilent ends an attempt on which nothing came back.
var errSilent = errors.New("nothing came back in time")

// attempts are functions that end attempts.
type attempts []func()

func (a attempts) end() {
	for _, end := range a {
		end()
	}
}

// attempt opens a stream by GET or POST. If no byte of it comes back within the time, it returns errSilent and adds the
// attempt, which goes on, to silent.
func (t *Transport) attempt(r *http.Request, w way, wait time.Duration, silent *attempts) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.Clone(ctx)
	if w == byPost {
		form := r.URL.RawQuery
		r.Method, r.URL.RawQuery = http.MethodPost, ""
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
	}
	type result struct {
		resp  *http.Response
		first []byte
		err   error
	}
	came := make(chan result, 1)
	go func() {
		resp, err := t.base().RoundTrip(r)
		if err != nil || !isStream(resp) {
			came <- result{resp, nil, err}
			return
		}
		first := make([]byte, 4<<10)
		n, err := resp.Body.Read(first)
		if ctx.Err() == nil {
			err = nil // the next Read returns it again
		}
		came <- result{resp, first[:n], err}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var got result
	select {
	case got = <-came:
	case <-timer.C:
		*silent = append(*silent, func() {
			cancel(nil)
			closeBody((<-came).resp)
		})
		return nil, errSilent
	}
	if got.err != nil {
		closeBody(got.resp)
		if ctx.Err() != nil { // the caller is less patient
			t.doubt()
		}
		cancel(nil)
		return nil, got.err
	}
	got.resp.Body = newBody(ctx, cancel, got.resp.Body, got.first, func() { t.forsake(w) })
	return got.resp, nil
}

func closeBody(resp *http.Response) {
	if resp != nil {
		_ = resp.Body.Close()
	}
}

func media(resp *http.Response) string {
	m, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return m
}

func isStream(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK && media(resp) == "text/event-stream"
}

// isForeign reports whether an answer to a POST or a poll is not that of a hub that knows the request: a proxy may
// refuse it, and an older hub does. An answer that would be the same for a GET is the hub's.
func isForeign(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusOK:
		return !isStream(resp)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return true
	case http.StatusBadRequest, http.StatusForbidden:
		return media(resp) != "application/problem+json"
	}
	return resp.StatusCode < http.StatusBadRequest
}
