package browser_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/watchbox-go/watchbox"
)

// strictPolicy is the policy of the test pages. watchbox.js works under it.
const strictPolicy = "default-src 'none'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'"

// server is a program with a hub that can be restarted at its address. The test pages are below /test/.
type server struct {
	t     *testing.T
	mount string // path of the hub, such as /
	opts  []watchbox.Option
	wrap  func(http.Handler) http.Handler // wraps the hub; nil for none

	addr string
	hub  *watchbox.Hub
	stop func()
}

// serve starts a server that ends with the test.
func serve(t *testing.T, s *server) *server {
	t.Helper()
	s.t, s.addr = t, "127.0.0.1:0"
	if s.mount == "" {
		s.mount = "/"
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *server) url() string { return "http://" + s.addr }

// start starts the server, at its former address if it had one.
func (s *server) start() {
	s.t.Helper()
	listening := make(chan net.Addr, 1)
	hub, err := watchbox.New(append([]watchbox.Option{
		watchbox.WithListening(func(a net.Addr) { listening <- a }),
	}, s.opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx, s.addr, s.routes(hub)) }()
	select {
	case a := <-listening:
		s.addr = a.String()
	case err := <-ended:
		s.t.Fatal(err)
	}
	s.hub = hub
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
		if err := hub.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

func (s *server) routes(hub *watchbox.Hub) http.Handler {
	r := chi.NewRouter()
	files := http.StripPrefix("/test", http.FileServerFS(os.DirFS("testdata")))
	r.Handle("/test/*", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", strictPolicy)
		files.ServeHTTP(w, r)
	}))
	var h http.Handler = hub
	if s.wrap != nil {
		h = s.wrap(h)
	}
	r.Mount(s.mount, h)
	return r
}

// publish publishes values in order.
func (s *server) publish(group string, values ...any) {
	s.t.Helper()
	for _, v := range values {
		if _, err := s.hub.Publish(context.Background(), group, v); err != nil {
			s.t.Fatal(err)
		}
	}
}
