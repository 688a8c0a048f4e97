// Package middleware tests a hub behind middleware that compresses responses.
package middleware

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/CAFxX/httpcompression"
	"github.com/NYTimes/gziphandler"
	gingzip "github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/gorilla/handlers"
	"github.com/klauspost/compress/gzhttp"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long one step may take on a busy machine.
const patience = 2 * time.Minute

var compressors = map[string]func(http.Handler) http.Handler{
	"gorilla handlers.CompressHandler": handlers.CompressHandler,
	"gorilla handlers.CompressHandlerLevel and logging": func(h http.Handler) http.Handler {
		return handlers.CombinedLoggingHandler(io.Discard, handlers.CompressHandlerLevel(h, gzip.BestSpeed))
	},
	"chi middleware.Compress":                    middleware.Compress(5),
	"chi middleware.Compress with event streams": middleware.Compress(5, "text/event-stream", "application/json"),
	"klauspost gzhttp.GzipHandler":               func(h http.Handler) http.Handler { return gzhttp.GzipHandler(h) },
	"klauspost gzhttp with MinSize 1": func(h http.Handler) http.Handler {
		wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(1), gzhttp.ContentTypeFilter(func(string) bool { return true }))
		if err != nil {
			panic(err)
		}
		return wrap(h)
	},
	"NYTimes gziphandler": gziphandler.GzipHandler,
	"NYTimes gziphandler with MinSize 1": func(h http.Handler) http.Handler {
		wrap, err := gziphandler.GzipHandlerWithOpts(gziphandler.MinSize(1))
		if err != nil {
			panic(err)
		}
		return wrap(h)
	},
	"CAFxX httpcompression": func(h http.Handler) http.Handler {
		wrap, err := httpcompression.DefaultAdapter(httpcompression.MinSize(1))
		if err != nil {
			panic(err)
		}
		return wrap(h)
	},
	"gin-contrib gzip": func(h http.Handler) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		g := gin.New()
		g.Use(gingzip.Gzip(gingzip.DefaultCompression))
		g.Any("/*any", gin.WrapH(h))
		return g
	},
	"echo middleware.Gzip": func(h http.Handler) http.Handler {
		e := echo.New()
		e.Use(echomiddleware.Gzip())
		e.Any("/*", echo.WrapHandler(h))
		return e
	},
}

func TestAHubWorksBehindCompressors(t *testing.T) {
	for name, wrap := range compressors {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			for _, encoding := range []string{"gzip", "deflate", "identity"} {
				t.Run(name+"/"+protocol+"/"+encoding, func(t *testing.T) {
					hub, err := watchbox.New(watchbox.WithSessionTimeout(time.Second))
					if err != nil {
						t.Fatal(err)
					}
					srv := httptest.NewUnstartedServer(wrap(hub))
					if srv.EnableHTTP2 = protocol == "HTTP/2.0"; srv.EnableHTTP2 {
						srv.StartTLS()
					} else {
						srv.Start()
					}
					t.Cleanup(srv.Close)
					srv.Client().Transport.(*http.Transport).DisableCompression = true
					c := &client{t, srv, protocol, encoding}
					live(c, hub)
				})
			}
		}
	}
}

// live checks that events arrive at once, that a stream resumes, and that the hub closes.
func live(c *client, hub *watchbox.Hub) {
	first := c.open("")
	first.has("event: session")
	c.post("one")
	id := first.has(`"msg":"one"`)
	first.body.Close()
	c.post("two")
	back := c.open(id)
	back.has(`"msg":"two"`)
	c.post("three")
	back.has(`"msg":"three"`)
	closed := make(chan error)
	go func() { closed <- hub.Close() }()
	back.has(`"reason":"shutdown"`)
	if rest, err := io.ReadAll(back.lines); err != nil || len(rest) > 0 {
		c.t.Errorf("after the last event: %q, %v", rest, err)
	}
	select {
	case err := <-closed:
		if err != nil {
			c.t.Error(err)
		}
	case <-time.After(patience):
		c.t.Error("the hub does not close")
	}
}

type client struct {
	t                  *testing.T
	srv                *httptest.Server
	protocol, encoding string
}

func (c *client) do(method, body string, header ...string) *http.Response {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, c.srv.URL+"/v1/groups/a", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", c.encoding)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.srv.Client().Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func (c *client) post(message string) {
	c.t.Helper()
	resp := c.do("POST", message)
	if resp.StatusCode != http.StatusCreated {
		c.t.Fatalf("POST: %s", resp.Status)
	}
	_ = resp.Body.Close()
}

// stream is an open stream, decoded as its header says.
type stream struct {
	t     *testing.T
	body  io.Closer
	lines *bufio.Reader
}

func (c *client) open(lastID string) *stream {
	c.t.Helper()
	header := []string{}
	if lastID != "" {
		header = []string{"Last-Event-ID", lastID}
	}
	resp := c.do("GET", "", header...)
	if resp.StatusCode != http.StatusOK || resp.Proto != c.protocol || resp.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		c.t.Fatalf("%s %s %v", resp.Proto, resp.Status, resp.Header)
	}
	var plain io.Reader
	switch encoding := resp.Header.Get("Content-Encoding"); encoding {
	case "":
		plain = resp.Body
	case "gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		plain = z
	case "deflate":
		plain = inflate(resp.Body)
	default:
		c.t.Fatalf("the encoding is %q, want %q", encoding, c.encoding)
	}
	return &stream{c.t, resp.Body, bufio.NewReader(plain)}
}

// inflate decodes the encoding deflate: zlib's format (RFC 9110, 8.4.1.2), or raw DEFLATE, which some servers send.
func inflate(body io.Reader) io.Reader {
	in := bufio.NewReader(body)
	if first, err := in.Peek(1); err == nil && first[0]&0x0f == 8 {
		if z, err := zlib.NewReader(in); err == nil {
			return z
		}
	}
	return flate.NewReader(in)
}

// has reads events until one contains a text, and returns its id.
func (s *stream) has(text string) (id string) {
	s.t.Helper()
	var block strings.Builder
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			s.t.Fatalf("no %s, but %q and %v", text, block.String(), err)
		}
		if value, ok := strings.CutPrefix(line, "id: "); ok {
			id = strings.TrimSuffix(value, "\n")
		}
		block.WriteString(line)
		if line == "\n" {
			if strings.Contains(block.String(), text) {
				return id
			}
			block.Reset()
		}
	}
}
