package watchbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/listen"
	"github.com/watchbox-go/watchbox/mqtt"
)

// WithMQTT makes Run serve MQTT clients, too, on a TCP address such as 127.0.0.1:1883 or on a Unix socket. The user
// name of a client is free, and its password is its token.
func WithMQTT(addr string) Option {
	return func(c *config) error {
		if addr == "" {
			return errors.New("mqtt: the address is empty")
		}
		c.mqttAddr = addr
		return nil
	}
}

// WithMQTTS is like WithMQTT, with the TLS of WithTLS or WithACME.
func WithMQTTS(addr string) Option {
	return func(c *config) error {
		if addr == "" {
			return errors.New("mqtts: the address is empty")
		}
		c.mqttsAddr = addr
		return nil
	}
}

// WithMQTTMaxKeepAlive limits the keep alive interval of MQTT clients. A client that is silent for one and a half
// intervals is disconnected.
func WithMQTTMaxKeepAlive(d time.Duration) Option {
	return within("mqtt-max-keepalive", d, duration.Range{Least: time.Second, Most: 18 * time.Hour}, func(c *config) *time.Duration { return &c.mqtt.MaxKeepAlive })
}

// WithMQTTQueueQoS0 sets whether a client that returns to its session gets the messages of QoS 0 that were published
// while it was away; the default is true.
func WithMQTTQueueQoS0(queue bool) Option {
	return func(c *config) error { c.mqtt.QueueQoS0 = queue; return nil }
}

// checkMQTT returns an error if options exclude each other.
func (c *config) checkMQTT() error {
	if c.mqttsAddr != "" && !c.listen.TLS() {
		return errors.New("mqtts needs a certificate: tls-cert or acme-domain")
	}
	return nil
}

// ServeMQTT serves MQTT clients that connect to a listener, until the listener fails or the hub is closed. It closes the
// listener. The caller decides who can reach it: while authentication is off, every client may do everything.
func (h *Hub) ServeMQTT(ln net.Listener) error {
	if err := h.mqtt.Serve(ln); !errors.Is(err, mqtt.ErrClosed) {
		return fmt.Errorf("watchbox: mqtt: %w", err)
	}
	return nil
}

// mqttServer returns the server of the hub's MQTT clients.
func (h *Hub) mqttServer() *mqtt.Server {
	o := h.config.mqtt
	o.Logger = h.logger
	if h.access != nil {
		o.Authenticate = h.authenticateMQTT
	}
	return mqtt.New(h.core, o)
}

// authenticateMQTT returns the grant of an MQTT client. The function of WithAuthorize gets a request for /mqtt with the
// password as bearer token.
func (h *Hub) authenticateMQTT(ctx context.Context, l *mqtt.Login) (*access.Grant, error) {
	switch {
	case h.config.authorize != nil:
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/mqtt", nil)
		if err != nil {
			return nil, err
		}
		r.RemoteAddr = l.Remote
		if l.Password != "" {
			r.Header.Set("Authorization", "Bearer "+l.Password)
		}
		return h.askProgram(r)
	case l.Password == "":
		return h.access.Anonymous(), nil
	}
	return h.access.Authenticate(ctx, l.Password)
}

// openMQTT opens the sockets of WithMQTT and WithMQTTS.
func (h *Hub) openMQTT(ctx context.Context, sockets *listen.Sockets) (list []net.Listener, err error) {
	for _, l := range []struct {
		flag, addr string
		secure     bool
	}{{"mqtt", h.config.mqttAddr, false}, {"mqtts", h.config.mqttsAddr, true}} {
		if l.addr == "" {
			continue
		}
		if err := h.checkOpen(l.addr); err != nil {
			return list, err
		}
		ln, err := sockets.Listen(ctx, l.addr, l.secure)
		if err != nil {
			return list, fmt.Errorf("%s: %w", l.flag, err)
		}
		h.logger.Info("listening for MQTT clients", "address", ln.Addr().String(), "tls", l.secure)
		list = append(list, ln)
	}
	return list, nil
}
