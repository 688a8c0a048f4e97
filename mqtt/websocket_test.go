package mqtt

import (
	"bytes"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

func TestAClientOnAWebSocketThatStillSendsGetsTheReason(t *testing.T) {
	r := serve(t, nil)
	web := httptest.NewServer(r.server)
	defer web.Close()
	ws, _, err := websocket.Dial(t.Context(), web.URL, &websocket.DialOptions{Subprotocols: []string{Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	c := &wire{t, websocket.NetConn(t.Context(), ws, websocket.MessageBinary), 5}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wirePatience))
	c.send(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "a", Clean: true}})
	c.expect(packets.Connack)
	c.raw([]byte{packets.Pubrel << 4, 0}) // its flags are wrong
	much := bytes.Repeat([]byte("x"), 32<<10)
	for range 8 {
		c.raw(much)
	}
	c.expectEnd(packets.ErrMalformedFlags.Code)
}
