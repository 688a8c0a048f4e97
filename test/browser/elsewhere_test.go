package browser_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/web"
)

// twoHubs serves two hubs that share a log at one address, as a load balancer does, and the test pages below /test/.
type twoHubs struct {
	t       *testing.T
	logs    [2]*sharedtest.Log
	hubs    [2]*hub.Hub
	second  atomic.Bool   // requests go to the second hub
	refused chan struct{} // receives when a stream of the second one ends
	addr    string
}

func serveTwoHubs(t *testing.T) *twoHubs {
	t.Helper()
	s := &twoHubs{t: t, refused: make(chan struct{}, 1)}
	cluster := sharedtest.New()
	var handlers [2]http.Handler
	for i := range s.hubs {
		s.logs[i] = cluster.Open()
		o := hub.Defaults()
		h, err := hub.New(s.logs[i], o)
		if err != nil {
			t.Fatal(err)
		}
		s.hubs[i] = h
		handlers[i] = api.New(h, api.Options{Logger: o.Logger, Web: web.New(true)})
	}
	files := http.StripPrefix("/test", http.FileServerFS(os.DirFS("testdata")))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/test/"):
			files.ServeHTTP(w, r)
		case s.second.Load():
			handlers[1].ServeHTTP(w, r)
			if r.URL.Path == "/v1/events" {
				select {
				case s.refused <- struct{}{}:
				default:
				}
			}
		default:
			handlers[0].ServeHTTP(w, r)
		}
	}))
	s.addr = srv.Listener.Addr().String()
	t.Cleanup(func() {
		for _, h := range s.hubs {
			h.EndStreams("shutdown")
		}
		srv.Close()
		for _, h := range s.hubs {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *twoHubs) publish(value string) {
	s.t.Helper()
	p := &hub.Publication{Grant: access.Everything, Group: "a", Kind: hub.JSON, Body: []byte(value)}
	if _, err := s.hubs[0].Publish(context.Background(), p); err != nil {
		s.t.Fatal(err)
	}
}

// TestAClientOfAnotherHubComesBackUntilItsPositionIsKnown moves each kind of client to a hub that is cut off from the log.
func TestAClientOfAnotherHubComesBackUntilItsPositionIsKnown(t *testing.T) {
	eachKind(t, func(t *testing.T, _, listen string) {
		s := serveTwoHubs(t)
		network := newProxy(t, s.addr)
		p := openTestPage(t, network.url(), "/")
		p.do("%s", listen)
		s.publish("1")
		p.receivedMessages(1)
		s.logs[1].Cut()
		s.publish("2")
		p.receivedMessages(1, 2)
		s.second.Store(true)
		network.cut()
		for range 2 {
			select {
			case <-s.refused:
			case <-time.After(patience):
				t.Fatalf("the client does not come back\n%s", p.state())
			}
		}
		s.publish("3")
		s.logs[1].Heal()
		p.receivedMessages(1, 2, 3)
		s.publish("4")
		p.receivedMessages(1, 2, 3, 4)
		p.receivedEvents("gap")
	})
}
