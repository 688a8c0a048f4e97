//go:build !windows

package mqtt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/watchbox-go/watchbox/internal/freeport"
)

// TestTokens: the password is a token. It allows what its grant says, and the connection ends when it is revoked.
func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	create := func(args ...string) string {
		return strings.TrimSpace(run(t, program, append([]string{"token", "create", "--token-file", file}, args...)...))
	}
	if reference {
		t.Skip("only a hub can do this")
	}
	phone := create("phone", "--subscribe", "home/#", "--publish", "home/phone")
	admin := create("admin", "--admin", "--subscribe", "#", "--publish", "#")
	b := hub(t, "--token-file", file)
	for _, l := range libraries {
		for _, password := range []string{"", "wrong", phone + "x"} {
			if _, err := l.connect(t, b, connection{password: password}); err == nil {
				t.Errorf("%s: the hub accepts the password %q", l.name, password)
			}
		}
		c := l.must(t, b, connection{password: phone})
		c.subscribe("home/+", 1)
		c.publish(message{"home/phone", "on my way " + l.name, 1, false})
		c.received.until(t, "on my way "+l.name)
	}

	c := b.dial()
	defer closer(c)()
	p := packets.NewControlPacket(packets.CONNECT)
	p.Content = &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: "wire", CleanStart: true, UsernameFlag: true,
		Username: "any", PasswordFlag: true, Password: []byte(phone), Properties: &packets.Properties{}}
	if ack := exchange(t, c, p).Content.(*packets.Connack); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK 0x%x", ack.ReasonCode)
	}
	ack := exchange(t, c, &packets.Subscribe{PacketID: 1, Properties: &packets.Properties{},
		Subscriptions: []packets.SubOptions{{Topic: "garden/#"}, {Topic: "#"}, {Topic: "home/kitchen", QoS: 1}}}).Content.(*packets.Suback)
	if !slices.Equal(ack.Reasons, []byte{0x87, 0x87, 1}) {
		t.Errorf("SUBACK is %x", ack.Reasons)
	}
	puback := exchange(t, c, &packets.Publish{Topic: "home/kitchen", QoS: 1, PacketID: 2, Properties: &packets.Properties{}}).Content.(*packets.Puback)
	if puback.ReasonCode != 0x87 {
		t.Errorf("PUBACK has 0x%x", puback.ReasonCode)
	}
	b.call("DELETE", "/v1/tokens/phone", "", "Authorization", "Bearer "+admin)
	if d, ok := next(t, c).Content.(*packets.Disconnect); !ok || d.ReasonCode < 0x80 {
		t.Errorf("after the token was revoked came %v", d)
	}
}

// TestTLS: clients that trust the certificate connect over TLS, over TCP and as WebSocket.
func TestTLS(t *testing.T) {
	if reference {
		t.Skip("only a hub can do this")
	}
	cert, key, trust := selfSigned(t)
	b := &broker{t: t, addr: freeport.Addr(t)}
	listen := freeport.Addr(t)
	b.ws = "ws://" + listen + "/mqtt"
	b.command = []string{program, "serve", "--listen", listen, "--mqtts", b.addr, "--tls-cert", cert, "--tls-key", key}
	b.begin()
	for _, l := range libraries {
		t.Run(l.name, func(t *testing.T) {
			c := l.must(t, b, connection{tls: trust, ca: cert})
			c.subscribe("secret", 1)
			c.publish(message{"secret", l.name, 1, false})
			c.received.until(t, l.name)
		})
	}
	out := run(t, "mosquitto_pub", b.mosquitto("--cafile", cert, "-d", "-q", "1", "-t", "secret", "-m", "by command")...)
	if !strings.Contains(out, "PUBACK") {
		t.Errorf("mosquitto_pub says %s", out)
	}
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned(t *testing.T) (certFile, keyFile string, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", secret),
		&tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}
