package api_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// TestMQTTClientsConnectByWebSocket checks how the call answers. What follows is the engine's, whose tests are in mqtt.
func TestMQTTClientsConnectByWebSocket(t *testing.T) {
	s := serve(t, watchbox.WithMQTT("127.0.0.1:0"))
	s.wants(426, "upgrade-required", "GET /mqtt", "")
	s.wants(403, "host-not-allowed", "GET /mqtt", "", "Host", "evil.test")
	upgrade := []string{
		"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Protocol", "mqtt",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", // RFC 6455, 1.3
	}
	for _, mode := range []string{"", "websocket", "navigate", "no-cors"} {
		for _, head := range [][]string{nil, upgrade} {
			if head != nil && wire == "h2" {
				continue
			}
			for _, from := range [][]string{{"Origin", "https://evil.test"}, {"Sec-Fetch-Site", "cross-site"}} {
				s.wants(403, "origin-not-allowed", "GET /mqtt", "", slices.Concat(head, from, []string{"Sec-Fetch-Mode", mode})...)
			}
		}
	}
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
	for i := 0; i < len(upgrade); i += 2 {
		req.Header.Set(upgrade[i], upgrade[i+1])
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
