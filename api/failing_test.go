package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// failing is a log whose disk may fail.
type failing struct {
	*memory.Log
	failed atomic.Bool
}

func (f *failing) Err() error {
	if !f.failed.Load() {
		return nil
	}
	return fmt.Errorf("%w: the disk failed: input/output error", store.ErrReadOnly)
}

func (f *failing) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	if err := f.Err(); err != nil {
		return store.ID{}, err
	}
	return f.Log.Append(ctx, entries)
}

func (f *failing) SetPolicy(of group.Filter, p store.Policy) error {
	if err := f.Err(); err != nil {
		return err
	}
	return f.Log.SetPolicy(of, p)
}

func (f *failing) Purge(name string) error {
	if err := f.Err(); err != nil {
		return err
	}
	return f.Log.Purge(name)
}

func TestAHubWhoseDiskFailedIsReadAndNotReady(t *testing.T) {
	log := &failing{Log: memory.New(memory.Options{MaxMemory: 16 << 20})}
	h, err := hub.New(log, hub.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(h, api.Options{Logger: hub.Defaults().Logger}))
	defer srv.Close()
	defer func() { _ = h.Close() }()
	s := &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
	first := s.post("/v1/groups/foo", "x")
	s.wants(200, "", "GET /readyz", "")
	st := s.listen("/v1/groups/foo?since=all")
	st.gets(frame(first, "", `"x"`))
	log.failed.Store(true)
	for range 2 {
		for _, call := range []string{
			"POST /v1/groups/foo", "POST /v1/sessions/" + st.uid, "DELETE /v1/groups/foo", "PUT /v1/policies/foo", "GET /readyz",
		} {
			a := s.wants(503, "store-read-only", call, "{}", "Content-Type", "application/json")
			if want := "the disk failed: input/output error"; !strings.Contains(a.problem().Detail, want) {
				t.Errorf("%s: %s, want %q", call, a.body, want)
			}
		}
		s.wants(503, "store-read-only", "POST /v1/messages", `{"group":"foo","msg":1}`)
		s.wants(200, "", "GET /healthz", "")
		if got := s.history("foo").bodies(); got != `"x"` {
			t.Errorf("the history is %s", got)
		}
		s.listen("/v1/groups/foo?since=all").gets(frame(first, "", `"x"`))
	}
}

// puzzling is a log whose appends fail for a reason that nobody expects.
type puzzling struct{ *memory.Log }

func (puzzling) Append(context.Context, []store.Entry) (store.ID, error) {
	return store.ID{}, errors.New("a secret of the log")
}

func TestAnUnexpectedErrorIsLoggedAndNotShown(t *testing.T) {
	var logged bytes.Buffer
	h, err := hub.New(puzzling{memory.New(memory.Options{MaxMemory: 16 << 20})}, hub.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(h, api.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))}))
	defer srv.Close()
	defer func() { _ = h.Close() }()
	s := &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
	a := s.wants(500, "internal", "POST /v1/groups/foo", "x")
	if strings.Contains(a.body, "secret") || !strings.Contains(logged.String(), "a secret of the log") {
		t.Errorf("the answer is %s, the log %s", a.body, logged.String())
	}
}
