package delivery_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/sse"
)

// web gives streams real sockets. The clients write the bytes that they read to the listener's fakeConn.
type web struct {
	server *httptest.Server
	poller *sse.Poller // nil: connections are not hijacked

	mu      sync.Mutex
	waiting map[string]*arrival
	clients sync.WaitGroup
}

type arrival struct {
	*listener
	parked chan bool
}

func newWeb(t tester, hijack bool) *web {
	w := &web{waiting: map[string]*arrival{}}
	if hijack {
		p, err := sse.NewPoller(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		w.poller = p
	}
	w.server = httptest.NewServer(http.HandlerFunc(w.serve))
	return w
}

func (w *web) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	a := w.waiting[r.URL.Path]
	delete(w.waiting, r.URL.Path)
	w.mu.Unlock()
	conn, err := sse.Open(rw, r, w.poller, nil)
	if err != nil {
		a.parked <- false
		return
	}
	if !a.stream.Run(conn) {
		_ = conn.Close()
		a.parked <- false
		return
	}
	a.parked <- true
	conn.Serve()
}

// run opens the listener's connection and returns when the stream has followed to the end.
func (w *web) run(t tester, l *listener) bool {
	a := &arrival{l, make(chan bool, 1)}
	w.mu.Lock()
	path := "/" + time.Now().Format(time.RFC3339Nano) + string(rune('a'+len(w.waiting)))
	w.waiting[path] = a
	w.mu.Unlock()
	resp, err := http.Get(w.server.URL + path)
	if err != nil {
		t.Error(err)
		return false
	}
	w.clients.Go(func() {
		defer func() { _ = resp.Body.Close() }()
		buf := make([]byte, 32<<10)
		for {
			n, err := resp.Body.Read(buf)
			if n > 0 {
				if _, err := l.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF {
					t.Error(err)
				}
				_ = l.Close()
				return
			}
		}
	})
	return <-a.parked
}

func (w *web) close(t tester) {
	w.clients.Wait()
	w.server.Close()
	if w.poller != nil {
		if err := w.poller.Close(); err != nil {
			t.Error(err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
