package watchbox_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/internal/listen/certtest"
)

// exchange sends a CONNECT and a PUBLISH of QoS 1 over a connection, and reads a CONNACK and a PUBACK.
func exchange(t *testing.T, nc net.Conn) {
	t.Helper()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a\x32\x08\x00\x01g\x00\x07abc")); err != nil {
		t.Fatal(err)
	}
	want := []byte{0x20, 2, 0, 0, 0x40, 2, 0, 7}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("% x, %v", got, err)
	}
}

func TestMQTTOverTCPAndTLS(t *testing.T) {
	cert, key, pool := certtest.Files(t)
	plain, secure := freeport.Addr(t), freeport.Addr(t)
	runAt(t, "127.0.0.1:0", watchbox.WithTLS(cert, key), watchbox.WithMQTT(plain), watchbox.WithMQTTS(secure))
	nc, err := net.Dial("tcp", plain)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	exchange(t, nc)
	tc, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	exchange(t, tc)
}

func TestMQTTByWebSocket(t *testing.T) {
	_, addr := runAt(t, "127.0.0.1:0", watchbox.WithMQTT("127.0.0.1:0"))
	url := "http://" + addr.String() + "/mqtt"
	ws, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	nc := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
	exchange(t, nc)

	for _, c := range []struct {
		status      int
		code        string
		subprotocol string
		header      http.Header
	}{
		{403, "origin-not-allowed", "mqtt", http.Header{"Origin": {"https://evil.test"}}},
		{426, "upgrade-required", "other", nil},
	} {
		_, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{c.subprotocol}, HTTPHeader: c.header})
		if err == nil || resp == nil || resp.StatusCode != c.status {
			t.Errorf("%v: %v, %v", c, resp, err)
			continue
		}
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), c.code) {
			t.Errorf("%s", body)
		}
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestMQTTByWebSocketIsOffWithoutMQTT(t *testing.T) {
	_, addr := runAt(t, "127.0.0.1:0")
	resp, err := http.Get("http://" + addr.String() + "/mqtt")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestServeMQTTServesAListenerUntilTheHubIsClosed(t *testing.T) {
	hub, err := watchbox.New()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- hub.ServeMQTT(ln) }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	exchange(t, nc)
	if err := hub.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client read %v", err)
	}
}

func TestMQTTIsNotOpenToOthersWithoutTokens(t *testing.T) {
	for _, c := range []struct {
		opts []watchbox.Option
		want string
	}{
		{[]watchbox.Option{watchbox.WithMQTT(":0")}, "open to others"},
		{[]watchbox.Option{watchbox.WithMQTT("nonsense")}, "mqtt: "},
	} {
		hub, err := watchbox.New(c.opts...)
		if err != nil {
			t.Fatal(err)
		}
		if err := hub.Run(t.Context(), "127.0.0.1:0", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Run: %v", err)
		}
		_ = hub.Close()
	}
	if _, err := watchbox.New(watchbox.WithMQTTS("127.0.0.1:0")); err == nil || !strings.Contains(err.Error(), "mqtts") {
		t.Errorf("New: %v", err)
	}
}

func TestTheProgramAuthorizesMQTTClients(t *testing.T) {
	addr := freeport.Addr(t)
	runAt(t, "127.0.0.1:0", watchbox.WithMQTT(addr), watchbox.WithAuthorize(func(r *http.Request) (*watchbox.Grant, error) {
		if r.URL.Path != "/mqtt" || r.Header.Get("Authorization") != "Bearer secret" || r.RemoteAddr == "" {
			return nil, watchbox.ErrUnauthorized
		}
		return &watchbox.Grant{Subject: "me", Publish: []string{"g"}}, nil
	}))
	for _, c := range []struct {
		connect string
		code    byte
	}{
		{"\x10\x18\x00\x04MQTT\x04\xc2\x00\x00\x00\x01a\x00\x01u\x00\x06secret", 0},
		{"\x10\x17\x00\x04MQTT\x04\xc2\x00\x00\x00\x01a\x00\x01u\x00\x05wrong", 4},
		{"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a", 5},
	} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		got := make([]byte, 4)
		if _, err = nc.Write([]byte(c.connect)); err == nil {
			_, err = io.ReadFull(nc, got)
		}
		if err != nil || got[3] != c.code {
			t.Errorf("%q: % x, %v", c.connect, got, err)
		}
		_ = nc.Close()
	}
}

func TestMQTTSessionsThatAreAwayCanBeListedAndRemoved(t *testing.T) {
	gone := make(chan watchbox.Session, 1)
	mqtt := freeport.Addr(t)
	hub, addr := runAt(t, "127.0.0.1:0", watchbox.WithMQTT(mqtt), watchbox.WithSessionTimeout(100*time.Millisecond))
	hub.OnDisconnect(func(s watchbox.Session, _ watchbox.Reason) { gone <- s })
	base := "http://" + addr.String() + "/v1/sessions"
	get := func(method, url string) (status int, body string) {
		t.Helper()
		req, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	nc, err := net.Dial("tcp", mqtt)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01a\x82\x06\x00\x01\x00\x01g\x01")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 4+5)); err != nil {
		t.Fatal(err)
	}
	if _, body := get("GET", base); !strings.Contains(body, `"protocol":"mqtt","client_id":"a"`) {
		t.Error(body)
	}
	_ = nc.Close()
	uid := (<-gone).UID
	if _, body := get("GET", base); body != `{"sessions":[]}`+"\n" {
		t.Error(body)
	}
	for _, url := range []string{base + "?state=away", base + "/" + uid} {
		_, body := get("GET", url)
		for _, want := range []string{`"uid":"` + uid + `"`, `"state":"away"`, `"client_id":"a"`, `"filters":["g"]`, `"unacknowledged":0`, `"position":"`} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: %s", want, body)
			}
		}
	}
	for _, query := range []string{"?state=here", "?state=away&sort=lag", "?state=away&after="} {
		if status, body := get("GET", base+query); status != 400 || !strings.Contains(body, "parameter-invalid") {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, body := get("DELETE", base+"/"+uid); status != 204 {
		t.Errorf("%d %s", status, body)
	}
	if status, body := get("DELETE", base+"/"+uid); status != 404 {
		t.Errorf("%d %s", status, body)
	}
	if _, body := get("GET", base+"?state=away"); body != `{"sessions":[]}`+"\n" {
		t.Error(body)
	}
}
