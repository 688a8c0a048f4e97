package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// failing is a log whose disk can fail.
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

func (f *failing) Unblock() {}

// full is a log that waits while its disk is full.
type full struct {
	*memory.Log
	full      atomic.Bool
	waits     chan struct{} // gets a value for each waiting call
	unblocked chan struct{}
	once      sync.Once
}

func (f *full) Err() error {
	if !f.full.Load() {
		return nil
	}
	return fmt.Errorf("%w: the disk is full", store.ErrFull)
}

func (f *full) Unblock() { f.once.Do(func() { close(f.unblocked) }) }

func (f *full) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	if f.full.Load() {
		f.waits <- struct{}{}
		<-f.unblocked
		return store.ID{}, f.Err()
	}
	return f.Log.Append(ctx, entries)
}

// TestHubIsNotReadyWhileDiskIsFull also checks that the hub becomes ready again.
func TestHubIsNotReadyWhileDiskIsFull(t *testing.T) {
	log := &full{Log: memory.New(memory.Options{MaxMemory: 16 << 20}), waits: make(chan struct{}, 100), unblocked: make(chan struct{})}
	s := serveLog(t, log)
	for range 2 {
		s.wants(200, "", "GET /readyz", "")
		log.full.Store(true)
		a := s.wants(503, "store-full", "GET /readyz", "")
		if want := "the disk is full"; !strings.Contains(a.problem().Detail, want) {
			t.Errorf("%s, want %q", a.body, want)
		}
		log.full.Store(false)
	}
}

// TestHubClosesWhileDiskIsFullAndSessionEnds closes the hub while a session's will waits for room.
func TestHubClosesWhileDiskIsFullAndSessionEnds(t *testing.T) {
	log := &full{Log: memory.New(memory.Options{MaxMemory: 16 << 20}), waits: make(chan struct{}, 100), unblocked: make(chan struct{})}
	h, err := hub.New(log, hub.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(h, api.Options{Logger: hub.Defaults().Logger}))
	defer srv.Close()
	s := &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
	st := s.listen("/v1/groups/foo")
	s.wants(204, "", "PUT /v1/sessions/"+st.uid+"/will", `{"group":"foo","msg":"gone"}`, append(st.proof(), "Content-Type", "application/json")...)
	log.full.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- h.EndSession(st.uid, "kicked") }()
	<-log.waits
	closed := make(chan error, 1)
	go func() { closed <- h.Close() }()
	for _, c := range []chan error{ended, closed} {
		select {
		case <-c:
		case <-time.After(time.Minute):
			t.Fatal("EndSession or Close does not return")
		}
	}
}

func (f *failing) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	if err := f.Err(); err != nil {
		return store.ID{}, err
	}
	return f.Log.Append(ctx, entries)
}

func (f *failing) SetPolicy(filter group.Filter, p store.Policy) error {
	if err := f.Err(); err != nil {
		return err
	}
	return f.Log.SetPolicy(filter, p)
}

func (f *failing) Purge(name string) error {
	if err := f.Err(); err != nil {
		return err
	}
	return f.Log.Purge(name)
}

func TestHubIsReadOnlyAndNotReadyAfterDiskFailure(t *testing.T) {
	log := &failing{Log: memory.New(memory.Options{MaxMemory: 16 << 20})}
	s := serveLog(t, log)
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

// unexpected is a log whose appends fail with an error that the hub does not know.
type unexpected struct{ *memory.Log }

func (unexpected) Append(context.Context, []store.Entry) (store.ID, error) {
	return store.ID{}, errors.New("a secret of the log")
}

func TestUnexpectedErrorIsLoggedAndNotShown(t *testing.T) {
	var logged bytes.Buffer
	h, err := hub.New(unexpected{memory.New(memory.Options{MaxMemory: 16 << 20})}, hub.Defaults())
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
