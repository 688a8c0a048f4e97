package api_test

import (
	"net/http"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// TestMQTTClientsConnectByWebSocket checks how the call answers. What follows is the engine's, whose tests are in mqtt.
func TestMQTTClientsConnectByWebSocket(t *testing.T) {
	s := serve(t, watchbox.WithMQTT("127.0.0.1:0"))
	s.wants(426, "upgrade-required", "GET /mqtt", "")
	s.wants(403, "host-not-allowed", "GET /mqtt", "", "Host", "evil.test")
	s.wants(403, "origin-not-allowed", "GET /mqtt", "", "Origin", "https://evil.test")
	if wire == "h2" {
		return // a connection of HTTP/2 cannot become another protocol's
	}
	s.wants(426, "upgrade-required", "GET /mqtt", "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Protocol", "chat")

	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequest(http.MethodGet, scheme+s.addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "mqtt",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", // RFC 6455, 1.3
	} {
		req.Header.Set(name, value)
	}
	resp, err := (&http.Transport{TLSClientConfig: s.tls}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		t.Fatalf("%s, %v", resp.Status, resp.Header)
	}
	theContract.check(t, req, nil, resp.StatusCode, resp.Header, nil)
}
