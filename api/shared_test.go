package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
)

// unreachable is a log that several hubs share. Its calls that change something return the error, if there is one.
type unreachable struct {
	*sharedtest.Log
	err atomic.Pointer[error]
}

func (l *unreachable) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	return l.AppendNoted(ctx, entries)
}

func (l *unreachable) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	if err := l.err.Load(); err != nil {
		return store.ID{}, *err
	}
	return l.Log.AppendNoted(ctx, entries, notes...)
}

func (l *unreachable) Reach(ctx context.Context, id store.ID) (bool, error) {
	if err := l.err.Load(); err != nil {
		return false, *err
	}
	return l.Log.Reach(ctx, id)
}

// CatchUp appends nothing, so its outcome cannot be unknown.
func (l *unreachable) CatchUp(ctx context.Context) error {
	if err := l.err.Load(); err != nil && *err != store.ErrUnknownOutcome {
		return *err
	}
	return l.Log.CatchUp(ctx)
}

func (l *unreachable) Err() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *unreachable) Unblock() {}

// serveShared runs a hub on a log that several hubs share.
func serveShared(t *testing.T, log store.Store) *server {
	t.Helper()
	o := hub.Defaults()
	auth, err := access.New(t.Context(), access.Options{Logger: o.Logger})
	if err != nil {
		t.Fatal(err)
	}
	o.Access = auth
	h, err := hub.New(log, o)
	if err != nil {
		t.Fatal(err)
	}
	everyone := func(*http.Request) (*access.Grant, error) { return access.Everything, nil }
	srv := httptest.NewServer(api.New(h, api.Options{Logger: o.Logger, Authorize: everyone}))
	t.Cleanup(func() {
		h.EndStreams("shutdown")
		srv.Close()
		_ = h.Close() // the log of a hub that was killed cannot be closed
		_ = auth.Close()
	})
	return &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
}

// TestErrorsOfASharedLogAreDocumentedForEachCall makes the calls about a session fail because the log cannot be reached,
// or because the hub with the session's streams is away. wants checks the answers against openapi.yaml.
func TestErrorsOfASharedLogAreDocumentedForEachCall(t *testing.T) {
	cluster := sharedtest.New()
	log, other := &unreachable{Log: cluster.Open()}, cluster.Open()
	s, elsewhere := serveShared(t, log), serveShared(t, other)

	here := s.listen("/v1/groups/foo")
	session := "/v1/sessions/" + here.uid
	s.wants(204, "", "PUT "+session+"/groups/bar", "", here.proof()...)
	const secret = "the-secret-of-no-session"
	nobody := "/v1/sessions/" + sessions.UID(secret)
	for _, c := range []struct {
		err  error
		code string
	}{{store.ErrAway, "store-away"}, {store.ErrUnknownOutcome, "unknown-outcome"}, {store.ErrClosed, "shutting-down"}} {
		log.err.Store(&c.err)
		if c.err == store.ErrAway {
			s.wants(503, c.code, "GET /readyz", "")
		}
		s.wants(503, c.code, "PUT "+session+"/groups/new-"+c.code, "", here.proof()...)
		s.wants(503, c.code, "DELETE "+session+"/groups/bar", "", here.proof()...)
		s.wants(503, c.code, "PUT "+session+"/token", "", here.proof()...)
		s.wants(503, c.code, "DELETE "+session, "", here.proof()...)
		if c.err == store.ErrUnknownOutcome {
			continue
		}
		s.wants(503, c.code, "GET "+nobody, "") // it may have begun at another hub
		s.wants(503, c.code, "POST "+nobody+"/heartbeat", "", "Watchbox-Session", secret)
	}
	log.err.Store(nil)

	away := elsewhere.listen("/v1/groups/foo")
	session = "/v1/sessions/" + away.uid
	eventually(t, "the first hub knows the session", func() bool { return s.do("GET "+session, "").status == 200 })
	s.wants(204, "", "PUT "+session+"/groups/bar", "", away.proof()...)
	other.Kill()
	s.wants(503, "hub-away", "PUT "+session+"/groups/baz", "", away.proof()...)
	s.wants(503, "hub-away", "DELETE "+session+"/groups/bar", "", away.proof()...)
	s.wants(503, "hub-away", "PUT "+session+"/token", "", away.proof()...)
}

// fromElsewhere are the calls of a client with the id of a message that its hub does not have: the streams, and then the others.
var fromElsewhere = []struct{ call, body string }{
	{"GET /v1/groups/foo?last_event_id=another-1", ""}, {"GET /v1/events?group=foo&since=another-1", ""}, {"POST /v1/events", "group=foo&since=another-1"},
	{"GET /v1/history/foo?since=another-1", ""}, {"GET /v1/history?group=foo&since=another-1", ""},
	{"GET /v1/history/foo?since=another-1&wait=1s", ""}, {"GET /v1/history?group=foo&since=another-1&wait=1s", ""},
	{"GET /v1/retained/foo?since=another-1", ""},
}

// TestAHubThatCannotKnowAPositionSaysSo has a client whose id may be one that another hub has sent.
func TestAHubThatCannotKnowAPositionSaysSo(t *testing.T) {
	log := &unreachable{Log: sharedtest.New().Open()}
	s := serveShared(t, log)
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	log.err.Store(&store.ErrAway)
	for _, c := range fromElsewhere {
		if a := s.wants(503, "store-away", c.call, c.body, form...); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.call)
		}
	}
	const bye = "retry: 1000\nevent: bye\ndata: {\"reason\":\"store-away\"}\n\n"
	for _, c := range fromElsewhere[:3] { // an EventSource never returns after a 503
		if a := s.wants(200, "", c.call, c.body, append(form, "Accept", "text/event-stream")...); a.body != bye {
			t.Errorf("%s of an EventSource: %q", c.call, a.body)
		}
	}
	log.err.Store(&store.ErrClosed)
	for _, c := range fromElsewhere {
		s.wants(503, "shutting-down", c.call, c.body, form...)
	}
}
