package acme

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// get makes a request. The test fails if there is no answer.
func get(t *testing.T, c *http.Client, method, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader("a message"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

// serves checks that the hub serves HTTP/2 with a certificate of the ACME server.
func serves(t *testing.T, s *server, port int) {
	t.Helper()
	resp := get(t, client(t, port, s.roots), "POST", "https://"+domain+"/v1/groups/foo")
	if resp.StatusCode != http.StatusCreated || resp.Proto != "HTTP/2.0" {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
}

func TestTLSALPN01(t *testing.T) {
	port := freePort(t)
	s := pebble(t, freePort(t), port)
	dir := filepath.Join(t.TempDir(), "certificates")
	logged, end := run(t, port, watchbox.WithACME(s.acme(dir)))
	serves(t, s, port) // the first client may connect before the certificate has arrived
	logged.waitFor(t, "the certificate is there")
	if _, err := tls.Dial("tcp", at(port), &tls.Config{RootCAs: s.roots, ServerName: "other.example.org"}); err == nil {
		t.Error("there is a certificate for another name")
	}
	end()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	if strings.Contains(logged.String(), "level=ERROR") {
		t.Errorf("the log is\n%s", logged.String())
	}
	s.Close()
	t.Run("the certificate survives a restart without the ACME server", func(t *testing.T) {
		run(t, port, watchbox.WithACME(s.acme(dir)))
		serves(t, s, port)
	})
}

func TestHTTP01(t *testing.T) {
	port, httpPort := freePort(t), freePort(t)
	s := pebble(t, httpPort, freePort(t)) // no server answers TLS-ALPN-01
	logged, _ := run(t, port, watchbox.WithACME(s.acme(t.TempDir())), watchbox.WithHTTPRedirect(at(httpPort)))
	logged.waitFor(t, "the certificate is there")
	serves(t, s, port)
}

func TestCertificatesAreStoredInTheDataDirectory(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	s := pebble(t, freePort(t), port)
	a := s.acme("")
	logged, _ := run(t, port, watchbox.WithACME(a), watchbox.WithDataDir(dir))
	logged.waitFor(t, "the certificate is there")
	if _, err := os.Stat(filepath.Join(dir, "acme", domain)); err != nil {
		t.Error(err)
	}
}

func TestAFailedChallengeIsLoggedOnce(t *testing.T) {
	port := freePort(t)
	s := pebble(t, freePort(t), freePort(t))
	logged, _ := run(t, port, watchbox.WithACME(s.acme(t.TempDir())))
	logged.waitFor(t, "there is no certificate")
	if _, err := client(t, port, s.roots).Get("https://" + domain); err == nil {
		t.Error("there is a certificate")
	}
	if text := logged.String(); strings.Count(text, "there is no certificate") != 1 || !strings.Contains(text, "domain="+domain) {
		t.Errorf("the log is\n%s", text)
	}
}

func TestAnUntrustedACMEServerIsLogged(t *testing.T) {
	port := freePort(t)
	s := pebble(t, freePort(t), port)
	a := s.acme(t.TempDir())
	a.CAFile = ""
	logged, _ := run(t, port, watchbox.WithACME(a))
	logged.waitFor(t, "certificate signed by unknown authority")
}

func TestTheHubEndsWhileTheACMEServerDoesNotAnswer(t *testing.T) {
	port := freePort(t)
	s := pebble(t, freePort(t), port)
	asked, free := make(chan struct{}, 100), make(chan struct{})
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-free
		inner.ServeHTTP(w, r)
	})
	t.Cleanup(func() { close(free) }) // before s.Close, which waits for the handler
	_, end := run(t, port, watchbox.WithACME(s.acme(t.TempDir())))
	<-asked
	end()
}
