package watchbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/watchbox-go/watchbox"
)

// TestAppWithMiddlewareAndAllCallbacks mounts a hub in a chi app behind Recoverer and Compress, triggers every
// callback, and cuts connections.
func TestAppWithMiddlewareAndAllCallbacks(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2 over TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub, err := watchbox.New(watchbox.WithSessionTimeout(10 * time.Second)) // long enough for a busy machine to reconnect
			if err != nil {
				t.Fatal(err)
			}
			events := newEvents(t)
			events.register(hub)
			hub.OnMessage(func(m watchbox.Message) {
				if m.Group == "" {
					if _, err := m.Reply(context.Background(), "you said "+m.Text()); err != nil {
						t.Error(err)
					}
				}
			})
			hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
				if m.Text() == "rude" {
					return errors.New("not in this house")
				}
				return nil
			})
			r := chi.NewRouter()
			r.Use(middleware.Recoverer, middleware.Compress(5, "text/event-stream", "application/json", "application/problem+json"))
			r.Mount("/watchbox", hub)
			srv := httptest.NewUnstartedServer(r)
			if srv.EnableHTTP2 = http2; http2 {
				srv.StartTLS()
			} else {
				srv.Start()
			}
			defer srv.Close()
			defer func() { _ = hub.Close() }()
			p := &place{t, srv.URL + "/watchbox", srv.Client()}

			l := p.listen("/v1/groups/foo", "")
			l.own(204, "PUT", "/groups/bar/%23", "")
			l.own(204, "PUT", "/will", `{"group":"foo","msg":"gone"}`)
			p.wants(201, "POST /v1/groups/foo", "hello", l.proof()...)
			p.refused(403, "refused", "POST /v1/groups/foo", "rude", l.proof()...)
			p.wants(202, "POST /v1/server", "anybody?", l.proof()...)
			l.gets(`"hello"`, `"you said anybody?"`)
			l.own(204, "DELETE", "/groups/bar/%23", "")
			sofar := "connect, join foo, join bar/#, message hello, message anybody?, leave bar/#"
			events.want(l.uid, sofar)

			if _, err := hub.Publish(t.Context(), "foo", 1); err != nil {
				t.Fatal(err)
			}
			last := l.next().ID
			l.cut()
			for p.lost(l.uid) == "" { // until the hub has noticed
				if t.Failed() {
					return
				}
			}
			if _, err := hub.Publish(t.Context(), "foo", 2); err != nil {
				t.Fatal(err)
			}
			if _, err := hub.Send(t.Context(), l.uid, 3); err != nil {
				t.Fatal(err)
			}
			back := p.listen("/v1/groups/foo", l.secret, "Last-Event-ID", last)
			back.gets("2", "3")
			sofar += ", reconnect"
			events.want(l.uid, sofar)

			other := p.listen("/v1/groups/foo", "")
			back.cut()
			other.gets(`"gone"`)
			events.want(l.uid, sofar+", disconnect closed")

			if err := hub.Close(); err != nil {
				t.Error(err)
			}
			if ev := other.next(); ev.Type != "bye" || string(ev.Data) != `{"reason":"shutdown"}` {
				t.Errorf("%s %s", ev.Type, ev.Data)
			}
			other.ended()
		})
	}
}

// TestShutdownOfAnHTTP2ServerEndsStreams follows docs/EMBEDDING.md: Shutdown waits for streams, and the hub
// ends them.
func TestShutdownOfAnHTTP2ServerEndsStreams(t *testing.T) {
	hub, err := watchbox.New()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(hub)
	srv.EnableHTTP2 = true
	srv.Config.RegisterOnShutdown(func() { _ = hub.Close() })
	srv.StartTLS()
	defer srv.Close()
	p := &place{t, srv.URL, srv.Client()}
	l := p.listen("/v1/groups/foo", "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := errors.Join(srv.Config.Shutdown(ctx), hub.Close()); err != nil {
		t.Error(err)
	}
	if ev := l.next(); ev.Type != "bye" {
		t.Errorf("the stream ends with %s", ev.Type)
	}
}

// lost returns the time at which a session was lost, or "" while it is connected.
func (p *place) lost(uid string) string {
	p.Helper()
	var s struct{ Lost string }
	if err := json.Unmarshal([]byte(p.wants(http.StatusOK, "GET /v1/sessions/"+uid, "")), &s); err != nil {
		p.Fatal(err)
	}
	return s.Lost
}
