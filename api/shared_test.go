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
		s.wants(503, c.code, "DELETE "+session, "", here.proof()...)
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
