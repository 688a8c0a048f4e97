package watchbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/listen"
	"github.com/watchbox-go/watchbox/mqtt"
	"github.com/watchbox-go/watchbox/web"
)

// Hub is a message hub and the http.Handler that serves it.
type Hub struct {
	core   *hub.Hub
	api    http.Handler
	access *access.Authenticator // nil if authentication is off
	config config
	logger *slog.Logger
	calls  *callbacks
	mqtt   *mqtt.Server
	ran    atomic.Bool

	sockets atomic.Pointer[listen.Sockets] // nil before Run

	closed    chan struct{} // closed by Close
	closeOnce sync.Once
}

// New starts a hub. Close ends it.
func New(opts ...Option) (_ *Hub, err error) {
	c := config{hub: hub.Defaults(), profile: ProfileBalanced, idleTimeout: 2 * time.Minute, listen: listen.Options{SocketMode: 0o660}, mqtt: mqtt.Options{MaxKeepAlive: 5 * time.Minute, QueueQoS0: true}}
	if err := c.apply(opts); err != nil {
		return nil, fmt.Errorf("watchbox: %w", err)
	}
	h := &Hub{config: c, logger: c.hub.Logger, closed: make(chan struct{})}
	h.calls = newCallbacks(h, h.logger)
	c.hub.Observer, c.hub.Version = h.calls, version()
	if h.access, err = c.authenticator(); err != nil {
		return nil, fmt.Errorf("watchbox: %w", err)
	}
	c.hub.Access = h.access
	log, err := c.store()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watchbox: %w", err), h.access.Close())
	}
	core, err := hub.New(log, c.hub)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watchbox: %w", err), log.Close(), h.access.Close())
	}
	h.core = core
	h.mqtt = h.mqttServer()
	h.api = h.handler(c.guard)
	return h, nil
}

func (h *Hub) handler(g api.Guard) http.Handler {
	o := api.Options{
		Guard: g, Ignore: h.config.ignore, Spec: openapi, Web: web.New(!h.config.noDashboard), Logger: h.logger,
		Authorize: h.grants(), OpenMetrics: h.config.openMetrics, TrustedProxies: h.config.trusted,
	}
	if h.config.mqttAddr+h.config.mqttsAddr != "" {
		o.MQTT = h.mqtt
	}
	return api.New(h.core, o)
}

// ServeHTTP serves the whole HTTP API. The hub may be mounted under any path, with chi's Mount or behind
// http.StripPrefix.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.api.ServeHTTP(w, r) }

// Publish sends a message to a group: a string as text, a []byte as bytes, anything else as JSON. It
// returns the message's id once the store holds the message.
func (h *Hub) Publish(ctx context.Context, group string, v any) (id string, err error) {
	kind, body, err := encodeFor(ctx, v)
	if err == nil {
		var r hub.Receipt
		r, err = h.core.Publish(ctx, &hub.Publication{Grant: access.Everything, Group: group, Kind: kind, Body: body, Program: true})
		id = r.ID.String()
	}
	if err != nil {
		return "", fmt.Errorf("watchbox: publish to %q: %w", group, err)
	}
	return id, nil
}

// Send sends a message to one session, as Publish does to a group. It returns ErrNoSession if there is no such
// session, connected or lost for less than the session timeout.
func (h *Hub) Send(ctx context.Context, uid string, v any) (id string, err error) {
	kind, body, err := encodeFor(ctx, v)
	if err == nil {
		var r hub.Receipt
		r, err = h.core.Send(ctx, uid, &hub.Publication{Grant: access.Everything, Kind: kind, Body: body, Program: true})
		id = r.ID.String()
	}
	if err != nil {
		return "", fmt.Errorf("watchbox: send to session %q: %w", uid, err)
	}
	return id, nil
}

// Close ends all streams with a last event, waits a few seconds for running callbacks, and releases the hub's
// resources. Called by a callback, Close does nothing and returns ErrCallback, because it would wait for that
// callback. A callback may call Close on another goroutine.
func (h *Hub) Close() error {
	if h.calls.isCallback() {
		return ErrCallback
	}
	h.closeOnce.Do(func() { close(h.closed) })
	h.core.EndStreams("shutdown")
	err := errors.Join(h.mqtt.Close(), h.core.Close(), h.access.Close())
	h.calls.close(callbacksEnd)
	return err
}

// ErrCallback is returned if a callback of the hub calls Close, which would wait for that callback.
var ErrCallback = errors.New("watchbox: Close was called by a callback of the hub: call it from another goroutine")

// callbacksEnd is the time for which Close waits for callbacks.
const callbacksEnd = 5 * time.Second
