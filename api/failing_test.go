package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// failing is a log whose disk has failed.
type failing struct {
	*memory.Log
	err error
}

func (f *failing) Err() error { return f.err }

func (f *failing) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	if f.err != nil {
		return store.ID{}, f.err
	}
	return f.Log.Append(ctx, entries)
}

func TestAHubWhoseDiskFailedIsReadAndNotReady(t *testing.T) {
	log := &failing{Log: memory.New(memory.Options{MaxMemory: 16 << 20})}
	h, err := hub.New(log, hub.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	a := New(h, Options{Logger: hub.Defaults().Logger})
	call := func(method, path string, status int, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader("x"))
		a.ServeHTTP(w, r)
		if w.Code != status || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, w.Code, w.Body, status, want)
		}
	}
	call("POST", "/v1/groups/foo", http.StatusCreated, `"id"`)
	call("GET", "/readyz", http.StatusOK, "ready")
	log.err = fmt.Errorf("%w: the disk failed: input/output error", store.ErrReadOnly)
	for range 2 {
		call("POST", "/v1/groups/foo", http.StatusServiceUnavailable, `"code":"store-read-only"`)
		call("GET", "/readyz", http.StatusServiceUnavailable, "the disk failed: input/output error")
		call("GET", "/healthz", http.StatusOK, "ok")
		call("GET", "/v1/history/foo", http.StatusOK, `"msg":"x"`)
	}
}
