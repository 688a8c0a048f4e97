package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
)

// sink is a ResponseWriter that discards the body.
type sink struct{ header http.Header }

func (s sink) Header() http.Header         { return s.header }
func (s sink) Write(p []byte) (int, error) { return len(p), nil }
func (s sink) WriteHeader(int)             {}

func (s sink) SetReadDeadline(time.Time) error { return nil }

// repeatedPOST returns a POST of 128 bytes, and a function that sends it to a handler as often as it is called.
func repeatedPOST() (r *http.Request, send func(http.Handler)) {
	text := strings.Repeat("x", 128)
	body := strings.NewReader(text)
	r = httptest.NewRequest("POST", "/v1/groups/bench", io.NopCloser(body))
	r.ContentLength = int64(len(text))
	r.Header.Set("Content-Type", "text/plain")
	w := sink{http.Header{}}
	return r, func(h http.Handler) {
		body.Reset(text)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

// BenchmarkPOST measures a POST of 128 bytes without net/http:
//
//	go test ./api -run xxx -bench POST
//
// net/http itself adds about 2.2 KB and 17 µs (docs/PERFORMANCE.md, S5).
func BenchmarkPOST(b *testing.B) {
	hub := newHub(b)
	defer func() { _ = hub.Close() }()
	routed := chi.NewRouter()
	routed.Mount("/", hub)
	for name, handler := range map[string]http.Handler{"direct": hub, "routed": routed} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			_, send := repeatedPOST()
			for b.Loop() {
				send(handler)
			}
		})
	}
}

// TestPOSTWithoutRouterAnswersTheSame compares the shortcut for POSTs with the router, which serves
// every POST to a hub that is mounted in another chi router.
func TestPOSTWithoutRouterAnswersTheSame(t *testing.T) {
	hub := newHub(t)
	defer func() { _ = hub.Close() }()
	routed := chi.NewRouter()
	routed.Mount("/", hub)
	for _, call := range []string{
		"/v1/groups/a", "/v1/groups/a/b/c?event=e&ttl=1h&retain=true", "/v1/groups/%C3%A4", "/v1/groups/a%2Fb", "/v1/groups/a%20b",
		"/v1/groups/", "/v1/groups", "/v1/groups//a", "/v1/groups/a/", "/v1/groups/a//b", "/v1/groups/+", "/v1/groups/%23", "/v1/groups/..",
		"/v1/groups/$x", "/v1/groups/%FF", "/v1/groups/a%00", "/v1/groups/" + strings.Repeat("x", 256), "/v1/groups/a?nothing=1", "/v1/groups/a?ttl=x",
	} {
		var got []string
		for _, handler := range []http.Handler{hub, routed} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
			u, err := r.URL.Parse(call)
			if err != nil {
				t.Fatal(err)
			}
			r.URL, r.RequestURI = u, call
			handler.ServeHTTP(w, r)
			body := w.Body.String()
			if w.Code == http.StatusCreated { // the id and time differ
				_, body, _ = strings.Cut(body, ",")
				body, _, _ = strings.Cut(body, `"time"`)
			}
			got = append(got, strings.Join([]string{http.StatusText(w.Code), w.Header().Get("Content-Type"), w.Header().Get("Allow"), body}, "\n"))
		}
		if got[0] != got[1] {
			t.Errorf("POST %s: without the router\n%s\nand with it\n%s", call, got[0], got[1])
		}
	}
}
