package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
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

// BenchmarkPOSTDuringLists publishes while one client reads lists of 100,000 groups and sessions, page by page and
// without a pause. It reports the latency of the POSTs, and how long a whole list takes.
func BenchmarkPOSTDuringLists(b *testing.B) {
	const rows = 100_000
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
		l, err := h.Subscribe(&hub.Subscription{Grant: access.Everything, Filters: group.Set{group.Exact(name)}, Remote: "192.0.2.1:1234"})
		if err != nil {
			b.Fatal(err)
		}
		defer l.Cancel()
	}
	for _, path := range []string{
		"", "/v1/groups", "/v1/groups?limit=1000", "/v1/groups?limit=1000&sort=rate", "/v1/groups?depth=1", "/v1/groups?limit=100&sort=bytes&depth=4",
		"/v1/sessions", "/v1/sessions?limit=1000", "/v1/sessions?limit=1000&sort=lag", "/v1/sessions?limit=1000&sort=sent",
	} {
		b.Run("during="+path, func(b *testing.B) {
			stop := make(chan struct{})
			var reader sync.WaitGroup
			var lists []time.Duration
			if path != "" {
				reader.Go(func() { lists = readLists(b, handler, path, stop) })
			}
			_, send := repeatedPOST()
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				begin := time.Now()
				send(handler)
				took = append(took, time.Since(begin))
				time.Sleep(200 * time.Microsecond) // a POST that follows another one at once finds it in the caches
			}
			close(stop)
			reader.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			if len(lists) > 0 {
				b.ReportMetric(float64(slices.Min(lists).Milliseconds()), "list-ms")
			}
		})
	}
}

// readLists reads whole lists until stop is closed, and returns how long each took.
func readLists(b *testing.B, handler http.Handler, path string, stop chan struct{}) (took []time.Duration) {
	at, err := url.Parse("http://localhost" + path)
	if err != nil {
		b.Error(err)
		return nil
	}
	for {
		begin := time.Now()
		for q := at.Query(); ; {
			select {
			case <-stop:
				return took
			default:
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+at.Path+"?"+q.Encode(), nil))
			var page struct{ Next string }
			if w.Code != 200 {
				b.Errorf("%d: %s", w.Code, w.Body)
				return took
			}
			tail := w.Body.Bytes()[max(0, w.Body.Len()-300):]
			if i := bytes.LastIndex(tail, []byte(`"next":`)); i >= 0 {
				_ = json.Unmarshal(append([]byte("{"), tail[i:]...), &page)
			}
			if page.Next == "" {
				break
			}
			q.Set("after", page.Next)
		}
		took = append(took, time.Since(begin))
	}
}
