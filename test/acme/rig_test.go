// Package acme tests that a hub gets certificates from a real ACME server: Let's Encrypt's Pebble.
package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/leak"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"PEBBLE_VA_ALWAYS_VALID": "0", // challenges are checked
		"PEBBLE_VA_NOSLEEP":      "1",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	leak.Main(m, goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"),
		goleak.IgnoreAnyFunction("golang.org/x/crypto/acme/autocert.(*Manager).deactivatePendingAuthz"),
		goleak.IgnoreAnyFunction("github.com/watchbox-go/watchbox/internal/listen.(*orders).begin")) // these may wait for seconds
}

const (
	// patience is how long a test waits for one event. Pebble asks its clients to wait for seconds.
	patience = 2 * time.Minute

	// host is an address of this machine that no other program is likely to listen on, so that a port which
	// was free stays free.
	host = "127.77.0.1"

	domain = "hub.example.org"
)

// freePort returns a port of host without a listener.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

func at(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// server is an ACME server that checks challenges on two ports of host.
type server struct {
	*httptest.Server
	caFile string         // its own certificate
	roots  *x509.CertPool // trusts the certificates that it issues
}

// pebble starts an ACME server.
func pebble(t *testing.T, httpPort, tlsPort int) *server {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: 7 * 24 * 3600}})
	checks := va.New(quiet, httpPort, tlsPort, false, resolver(t), store)
	front := wfe.New(quiet, store, checks, authority, []string{"pebble"}, false, false, 1, 1)
	s := &server{Server: httptest.NewTLSServer(front.Handler()), roots: x509.NewCertPool(), caFile: filepath.Join(t.TempDir(), "ca.pem")}
	t.Cleanup(s.Close)
	s.roots.AppendCertsFromPEM(authority.GetRootCert(0).PEM())
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(s.caFile, own, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// acme returns the settings of a hub that gets certificates from the server.
func (s *server) acme(dir string) watchbox.ACME {
	return watchbox.ACME{Domains: []string{domain}, Email: "admin@example.org", Dir: dir, URL: s.URL + wfe.DirectoryPath, CAFile: s.caFile}
}

// resolver starts a DNS server that resolves every name to host, and returns its address.
func resolver(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dns.Server{Listener: ln, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		for _, question := range q.Question {
			if question.Qtype == dns.TypeA {
				header := dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}
				a.Answer = append(a.Answer, &dns.A{Hdr: header, A: net.ParseIP(host)})
			}
		}
		_ = w.WriteMsg(a)
	})}
	started := make(chan struct{})
	d.NotifyStartedFunc = func() { close(started) }
	go func() { _ = d.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = d.Shutdown() })
	return ln.Addr().String()
}

// run runs a hub until end is called or the test ends. It returns the hub's log.
func run(t *testing.T, port int, opts ...watchbox.Option) (logged *buffer, end func()) {
	t.Helper()
	logged = new(buffer)
	listening := make(chan struct{})
	hub, err := watchbox.New(append(opts, watchbox.WithLogger(slog.New(slog.NewTextHandler(logged, nil))),
		watchbox.WithListening(func(net.Addr) { close(listening) }))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- hub.Run(ctx, at(port), nil) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = hub.Close()
	})
	t.Cleanup(end)
	select {
	case <-listening:
	case err := <-ran:
		t.Fatal(err)
	}
	return logged, end
}

// client returns a client that connects to a port of host for every name, and trusts roots.
func client(t *testing.T, port int, roots *x509.CertPool) *http.Client {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at(port))
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// buffer is a bytes.Buffer that goroutines share.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *buffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *buffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// waitFor waits until the log has a text.
func (s *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !strings.Contains(s.String(), text); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the log does not contain %q:\n%s", text, s.String())
		}
	}
}
