package mqtt

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// Subprotocol is the one of MQTT over WebSocket (MQTT 5.0, section 6).
const Subprotocol = "mqtt"

// ServeHTTP serves a client that connects by WebSocket with the Subprotocol. It returns when the connection has ended. The
// caller has checked the Origin of the request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Subprotocol}, InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	nc := websocket.NetConn(context.WithoutCancel(r.Context()), ws, websocket.MessageBinary)
	if c := s.serve(webConn{nc, ws, address(r.RemoteAddr)}); c != nil {
		<-c.done.reached()
	}
}

// webConn is a WebSocket with the address of its client.
type webConn struct {
	net.Conn
	ws     *websocket.Conn
	remote address
}

// closeTimeout is how long a client may take to answer that its WebSocket ends.
const closeTimeout = time.Second

// Close does not wait for the client, which gets what was sent before, also while it still sends.
func (c webConn) Close() error {
	late := time.AfterFunc(closeTimeout, func() { _ = c.ws.CloseNow() })
	go func() {
		_ = c.ws.Close(websocket.StatusNormalClosure, "")
		late.Stop()
	}()
	return nil
}

func (c webConn) RemoteAddr() net.Addr { return c.remote }

// address is an address as HTTP has it.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }
