package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store/memory"
)

// BenchmarkPOSTDuringLists publishes, by turns alone and while one client reads lists of 100,000 groups or sessions, page
// by page and without a pause:
//
//	go test ./api -run xxx -bench POSTDuringLists -benchtime 20000x
//
// It reports the latency of the POSTs of both kinds, the quotients, and how long a whole list takes. The turns are short,
// so that what else the machine does affects both kinds alike.
func BenchmarkPOSTDuringLists(b *testing.B) {
	const rows, turn = 100_000, 100
	o := hub.Defaults()
	o.MaxStreams = 0
	h, err := hub.New(memory.New(memory.Options{MaxMemory: 1 << 30, MaxGroups: 2 * rows}), o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	handler := api.New(h, api.Options{Logger: o.Logger})
	for i := range rows {
		name := fmt.Sprintf("building/%d/floor/%d/sensor/%d", i/1000, i/100%10, i)
		p := hub.Publication{Grant: access.Everything, Group: name, Kind: hub.Bytes, Body: []byte("21.5")}
		if _, err := h.Publish(b.Context(), &p); err != nil {
			b.Fatal(err)
		}
		l, err := h.Subscribe(b.Context(), &hub.Subscription{Grant: access.Everything, Filters: group.Set{group.Exact(name)}, Remote: "192.0.2.1:1234"})
		if err != nil {
			b.Fatal(err)
		}
		l.Run(deaf{})
	}
	for _, path := range []string{
		"/v1/groups", "/v1/groups?limit=1000", "/v1/groups?limit=1000&sort=rate", "/v1/groups?depth=1", "/v1/groups?limit=100&sort=bytes&depth=4",
		"/v1/sessions", "/v1/sessions?limit=1000", "/v1/sessions?limit=1000&sort=lag", "/v1/sessions?limit=1000&sort=sent",
	} {
		b.Run("during="+path, func(b *testing.B) {
			reader := newListReader(b, handler, path)
			defer reader.end()
			_, send := repeatedPOST()
			var took [2][]time.Duration // alone, and during lists
			for i := 0; b.Loop(); i++ {
				during := i / turn % 2
				if i%turn == 0 {
					reader.read(during == 1)
				}
				begin := time.Now()
				send(handler)
				took[during] = append(took[during], time.Since(begin))
				time.Sleep(200 * time.Microsecond) // a POST that follows another one at once finds it in the caches
			}
			reader.report(b, took)
		})
	}
}

// deaf is the connection of a stream whose client reads everything and says nothing.
type deaf struct{}

func (deaf) TryWrite(p []byte) (int, error) { return len(p), nil }
func (deaf) Write(p []byte) (int, error)    { return len(p), nil }
func (deaf) Blocking() bool                 { return false }
func (deaf) Watch(func(error))              {}
func (deaf) Serve()                         {}
func (deaf) Close() error                   { return nil }

// listReader reads whole lists, again and again, while it may.
type listReader struct {
	handler http.Handler
	path    *url.URL
	over    chan struct{}
	done    sync.WaitGroup
	pause   sync.Mutex // held by the reader during a request, and by the benchmark while there must be none
	reading bool

	took []time.Duration // the requests of each list
}

func newListReader(b *testing.B, handler http.Handler, path string) *listReader {
	at, err := url.Parse("http://localhost" + path)
	if err != nil {
		b.Fatal(err)
	}
	r := &listReader{handler: handler, path: at, over: make(chan struct{})}
	r.pause.Lock()
	r.done.Go(func() {
		for r.list(b) {
		}
	})
	return r
}

// read lets the reader read, or waits until it does not.
func (r *listReader) read(on bool) {
	switch {
	case on && !r.reading:
		r.pause.Unlock()
	case !on && r.reading:
		r.pause.Lock()
	}
	r.reading = on
}

func (r *listReader) end() {
	close(r.over)
	r.read(true)
	r.done.Wait()
}

// list reads a list. It returns false at the end.
func (r *listReader) list(b *testing.B) bool {
	var took time.Duration
	for q := r.path.Query(); ; {
		r.pause.Lock()
		begin := time.Now()
		w := &tailWriter{sink: sink{http.Header{}}}
		r.handler.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+r.path.Path+"?"+q.Encode(), nil))
		took += time.Since(begin)
		r.pause.Unlock()
		select {
		case <-r.over:
			return false
		default:
		}
		next := w.next()
		if next == "" {
			r.took = append(r.took, took)
			return true
		}
		q.Set("after", next)
	}
}

// report reports latencies of POSTs alone and during lists.
func (r *listReader) report(b *testing.B, took [2][]time.Duration) {
	at := func(list []time.Duration, percent int) float64 {
		if len(list) == 0 {
			return math.NaN()
		}
		return float64(list[len(list)*percent/100].Nanoseconds()) / 1000
	}
	for _, list := range took {
		slices.Sort(list)
	}
	for _, percent := range []int{50, 99} {
		alone, during := at(took[0], percent), at(took[1], percent)
		b.ReportMetric(alone, fmt.Sprintf("alone-p%d-µs", percent))
		b.ReportMetric(during, fmt.Sprintf("during-p%d-µs", percent))
		b.ReportMetric(during/alone, fmt.Sprintf("p%d-ratio", percent))
	}
	if len(r.took) > 0 {
		b.ReportMetric(float64(slices.Min(r.took).Milliseconds()), "list-ms")
	}
}

// tailWriter keeps the end of a response.
type tailWriter struct {
	sink
	tail []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.tail = append(w.tail, p...)
	w.tail = append(w.tail[:0], w.tail[max(0, len(w.tail)-300):]...)
	return len(p), nil
}

// next returns the member next of the response.
func (w *tailWriter) next() string {
	var page struct{ Next string }
	if i := bytes.LastIndex(w.tail, []byte(`"next":`)); i >= 0 {
		_ = json.Unmarshal(append([]byte("{"), w.tail[i:]...), &page)
	}
	return page.Next
}
