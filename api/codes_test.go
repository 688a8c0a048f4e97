package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// refusing is a log with notes. Each call that changes it returns the error, if there is one.
type refusing struct {
	*memory.Log
	err atomic.Pointer[error]
}

func (l *refusing) fails() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *refusing) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	if err := l.fails(); err != nil {
		return store.ID{}, err
	}
	return l.Log.Append(ctx, entries)
}

func (l *refusing) AppendNoted(ctx context.Context, entries []store.Entry, _ ...store.Note) (id store.ID, err error) {
	if err = l.fails(); err == nil && len(entries) > 0 {
		id, err = l.Log.Append(ctx, entries)
	}
	return id, err
}

func (l *refusing) Notes(func(store.Note) error) error { return nil }

func (l *refusing) SetPolicy(f group.Filter, p store.Policy) error {
	if err := l.fails(); err != nil {
		return err
	}
	return l.Log.SetPolicy(f, p)
}

func (l *refusing) Purge(name string) error {
	if err := l.fails(); err != nil {
		return err
	}
	return l.Log.Purge(name)
}

// TestErrorsOfTheStoreAreDocumentedForEachCall makes each call that writes fail with each error of the store.
// wants checks the answers against openapi.yaml.
func TestErrorsOfTheStoreAreDocumentedForEachCall(t *testing.T) {
	auth, err := access.New(t.Context(), access.Options{Logger: hub.Defaults().Logger})
	if err != nil {
		t.Fatal(err)
	}
	log := &refusing{Log: memory.New(memory.Options{MaxMemory: 16 << 20})}
	o := hub.Defaults()
	o.Access = auth
	h, err := hub.New(log, o)
	if err != nil {
		t.Fatal(err)
	}
	everyone := func(*http.Request) (*access.Grant, error) { return access.Everything, nil }
	srv := httptest.NewServer(api.New(h, api.Options{Logger: o.Logger, Authorize: everyone}))
	defer func() {
		srv.Close()
		log.err.Store(nil)
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := auth.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
	st := s.listen("/v1/groups/foo")
	session := "/v1/sessions/" + st.uid
	publishes := []string{"POST /v1/groups/foo", "POST /v1/messages", "POST " + session}
	changes := []string{"DELETE /v1/groups/foo", "PUT /v1/policies/foo", "PUT " + session + "/will", "DELETE " + session + "/will", "POST /v1/revocations"}
	bodies := map[string]string{
		"POST /v1/messages": `{"group":"foo","msg":1}`, "PUT " + session + "/will": `{"group":"foo","msg":1}`,
		"POST /v1/revocations": `{"jti":"a"}`, "PUT /v1/policies/foo": "{}", "POST /v1/groups/foo": "1", "POST " + session: "1",
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
		calls  []string
	}{
		{store.ErrFull, 507, "store-full", append(changes, publishes...)},
		{store.ErrReadOnly, 503, "store-read-only", append(changes, publishes...)},
		{store.ErrClosed, 503, "shutting-down", append(changes, publishes...)},
		{store.ErrAway, 503, "store-away", append(changes, publishes...)},
		{store.ErrUnknownOutcome, 503, "unknown-outcome", append(changes, publishes...)},
		{store.ErrTooManyGroups, 507, "too-many-groups", publishes},
		{store.ErrTooManyPolicies, 507, "too-many-policies", []string{"PUT /v1/policies/foo"}},
	} {
		log.err.Store(&c.err)
		for _, call := range c.calls {
			media := "application/json"
			if strings.HasSuffix(call, "/messages") {
				media = "application/x-ndjson"
			}
			s.wants(c.status, c.code, call, bodies[call], append(st.proof(), "Content-Type", media)...)
		}
	}
}

// TestErrorsOfAHookAreDocumentedForEachCall makes a hook refuse the messages of each call, or change
// their group to an invalid name.
func TestErrorsOfAHookAreDocumentedForEachCall(t *testing.T) {
	s := serve(t)
	s.hub.OnMessage(func(watchbox.Message) {})
	s.hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		if m.Text() == "1" {
			return errors.New("not this one")
		}
		m.Group = "a//b"
		return nil
	})
	st := s.listen("/v1/groups/foo")
	json := append(st.proof(), "Content-Type", "application/json")
	for call, form := range map[string]string{
		"POST /v1/groups/foo": "%", "POST /v1/messages": `{"group":"foo","msg":%}`, "POST /v1/sessions/" + st.uid: "%", "POST /v1/server": "%",
		"PUT /v1/sessions/" + st.uid + "/will": `{"group":"foo","msg":%}`,
	} {
		header := json
		if call == "POST /v1/messages" {
			header = append(st.proof(), "Content-Type", "application/x-ndjson")
		}
		s.wants(403, "refused", call, strings.Replace(form, "%", "1", 1), header...)
		if call == "POST /v1/server" {
			s.wants(202, "", call, "2", header...) // has no group
			continue
		}
		s.wants(400, "group-invalid", call, strings.Replace(form, "%", "2", 1), header...)
	}
}

// TestQueriesThatDoNotParseAreDocumentedForEachCall makes each call with such a query.
func TestQueriesThatDoNotParseAreDocumentedForEachCall(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo")
	for path, allow := range methods {
		for _, method := range strings.Split(allow, ", ") {
			call := method + " " + strings.Replace(path, "/sessions/x", "/sessions/"+st.uid, 1)
			if method != "OPTIONS" {
				s.do(call+"?%zz", "", append(st.proof(), "Content-Type", "application/json")...) // checks the answer
			}
		}
	}
}

func TestRevocationOverTheSizeLimitIsRefused(t *testing.T) {
	s := serve(t)
	s.wants(413, "message-too-large", "POST /v1/revocations", `{"jti":"`+strings.Repeat("x", 5000)+`"}`)
}
