package watchbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/httplog/v3"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/web"
)

// Hub is a message hub and the http.Handler that serves it.
type Hub struct {
	core   *hub.Hub
	api    http.Handler
	config config
	logger *slog.Logger
	calls  *callbacks
}

// New starts a hub. Close ends it.
func New(opts ...Option) (*Hub, error) {
	c := config{hub: hub.Defaults(), profile: ProfileBalanced}
	for _, o := range opts {
		if err := o(&c); err != nil {
			return nil, fmt.Errorf("watchbox: %w", err)
		}
	}
	h := &Hub{config: c, logger: c.hub.Logger}
	h.calls = newCallbacks(h, h.logger)
	c.hub.Observer = h.calls
	log, err := c.store()
	if err != nil {
		return nil, fmt.Errorf("watchbox: %w", err)
	}
	core, err := hub.New(log, c.hub)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watchbox: %w", err), log.Close())
	}
	h.core = core
	h.api = h.handler(c.guard)
	return h, nil
}

func (h *Hub) handler(g api.Guard) http.Handler {
	return api.New(h.core, api.Options{Guard: g, Spec: openapi, Web: web.Handler(), Logger: h.logger})
}

// ServeHTTP serves the whole HTTP surface. The hub may be mounted anywhere: with chi's Mount or
// behind http.StripPrefix.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.api.ServeHTTP(w, r) }

// Publish sends to a group: a string as text, a []byte as bytes, anything else as its JSON. It
// returns the message's id when the store holds it.
func (h *Hub) Publish(ctx context.Context, group string, v any) (id string, err error) {
	kind, body, err := encode(v)
	if err == nil {
		var r hub.Receipt
		r, err = h.core.Publish(ctx, &hub.Publication{Group: group, Kind: kind, Body: body, Program: true})
		id = r.ID.String()
	}
	if err != nil {
		return "", fmt.Errorf("watchbox: publish to %q: %w", group, err)
	}
	return id, nil
}

// Send sends to one session, as Publish does to a group. It returns ErrNoSession if the session is
// neither here nor lost a moment ago.
func (h *Hub) Send(ctx context.Context, uid string, v any) (id string, err error) {
	kind, body, err := encode(v)
	if err == nil {
		var r hub.Receipt
		r, err = h.core.Send(ctx, uid, &hub.Publication{Kind: kind, Body: body, Program: true})
		id = r.ID.String()
	}
	if err != nil {
		return "", fmt.Errorf("watchbox: send to session %q: %w", uid, err)
	}
	return id, nil
}

// Close ends all streams with a last event, waits a few seconds for callbacks that run, and frees
// what the hub holds. A callback must not call it.
func (h *Hub) Close() error {
	err := h.core.Close()
	h.calls.close(callbacksEnd)
	return err
}

// callbacksEnd is how long Close waits for callbacks.
const callbacksEnd = 5 * time.Second

// Run serves on a TCP address until ctx ends: root, or the hub alone if it is nil. Requests are
// logged to the hub's logger, but for streams and health checks. It ends all streams, waits for
// the requests under way, and returns nil if there was nothing wrong but ctx.
//
// With the hub alone, an address that is not of this machine only is refused, unless
// WithOpenToAnyone says that it is meant.
func (h *Hub) Run(ctx context.Context, addr string, root http.Handler) error {
	if root == nil && !h.config.anyone && !loopback(addr) {
		return fmt.Errorf("watchbox: %s is open to others, and anybody who reaches it may read and send everything: "+
			"listen on 127.0.0.1, or say that it is meant (--open-to-anyone)", addr)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("watchbox: %w", err)
	}
	return h.serve(ctx, ln, root)
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // Listen will say what is wrong with it
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// drain is how long requests under way may take when the server ends.
const drain = 5 * time.Second

func (h *Hub) serve(ctx context.Context, ln net.Listener, root http.Handler) error {
	if root == nil {
		guard := h.config.guard
		guard.CheckHost = true
		root = h.handler(guard)
	}
	srv := &http.Server{
		Handler:           quietLog(h.logger)(root),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(h.logger.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	if f := h.config.listening; f != nil {
		f(ln.Addr())
	}
	select {
	case err := <-failed:
		return fmt.Errorf("watchbox: %w", err)
	case <-ctx.Done():
	}
	done, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.core.EndStreams("shutdown")
	}()
	err := srv.Shutdown(done)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-ended
	<-failed
	return err
}

// quietLog logs requests. Streams and health checks are not among them: a stream has its own
// lines. Unless the logger takes debug messages, only what went wrong is logged.
func quietLog(l *slog.Logger) func(http.Handler) http.Handler {
	level := slog.LevelWarn
	if l.Enabled(context.Background(), slog.LevelDebug) {
		level = slog.LevelDebug
	}
	log := httplog.RequestLogger(l, &httplog.Options{
		Level: level, Schema: httplog.SchemaECS.Concise(true), RecoverPanics: true, Skip: quiet,
	})
	return func(next http.Handler) http.Handler {
		logged := log(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if whole, ok := r.Context().Value(wholeURL{}).(*url.URL); ok {
				r.URL, r.RequestURI = whole, whole.RequestURI()
			}
			next.ServeHTTP(w, r)
		}))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				r = withoutSecret(r)
			}
			logged.ServeHTTP(w, r)
		})
	}
}

// wholeURL is where a request's context has the URL that is not to be logged.
type wholeURL struct{}

// withoutSecret hides a query that may have a session's secret in it from the log.
func withoutSecret(r *http.Request) *http.Request {
	if q, err := url.QueryUnescape(r.URL.RawQuery); err == nil && !strings.Contains(q, "session") {
		return r
	}
	shown := *r.URL
	shown.RawQuery = "hidden"
	r2 := r.WithContext(context.WithValue(r.Context(), wholeURL{}, r.URL))
	r2.URL, r2.RequestURI = &shown, shown.RequestURI()
	return r2
}

func quiet(r *http.Request, status int) bool {
	switch p := r.URL.Path; {
	case strings.HasSuffix(p, "/healthz"), strings.HasSuffix(p, "/readyz"), strings.HasSuffix(p, "/metrics"):
		return true
	case r.Method == http.MethodGet && (strings.Contains(p, "/v1/groups/") || strings.HasSuffix(p, "/v1/events")):
		return status < http.StatusBadRequest
	}
	return false
}
