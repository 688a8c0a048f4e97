package acme

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/letsencrypt/pebble/v2/wfe"
)

// command runs watchbox serve with flags, as DEPLOYING.md shows it, until the test ends. It returns the log.
func command(t *testing.T, s *server, flags ...string) *buffer {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "watchbox")
	build := exec.Command("go", "build", "-o", exe, "./cmd/watchbox")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	logged := new(buffer)
	cmd := exec.Command(exe, append([]string{"serve", "--open-to-anyone", "--acme-domain", domain, "--acme-email", "admin@example.org",
		"--acme-url", s.URL + wfe.DirectoryPath, "--acme-ca", s.caFile}, flags...)...)
	cmd.Stderr = logged
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("watchbox serve: %v\n%s", err, logged.String())
		}
	})
	return logged
}

func TestTheCommandGetsACertificate(t *testing.T) {
	port, httpPort := freePort(t), freePort(t)
	for name, c := range map[string]struct {
		tlsPort, httpPort int // the ports on which the ACME server checks
		flags             []string
	}{
		"by TLS-ALPN-01": {port, freePort(t), nil},
		"by HTTP-01":     {freePort(t), httpPort, []string{"--http-redirect", at(httpPort)}},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := pebble(t, c.httpPort, c.tlsPort), filepath.Join(t.TempDir(), "certificates")
			logged := command(t, s, append(c.flags, "--listen", at(port), "--acme-dir", dir)...)
			logged.waitFor(t, "the certificate is there")
			serves(t, s, port)
			if _, err := os.Stat(filepath.Join(dir, domain)); err != nil {
				t.Error(err)
			}
			if strings.Contains(logged.String(), "ERROR") {
				t.Errorf("the log is\n%s", logged.String())
			}
			if len(c.flags) == 0 {
				return
			}
			resp := get(t, client(t, httpPort, nil), "GET", "http://"+domain+"/v1/groups/a%2Fb?last=1")
			if location := resp.Header.Get("Location"); resp.StatusCode != 308 && resp.StatusCode != 301 || !strings.HasPrefix(location, "https://"+domain) || !strings.HasSuffix(location, "/v1/groups/a%2Fb?last=1") {
				t.Errorf("the redirect is %d to %q", resp.StatusCode, location)
			}
			if resp := get(t, client(t, httpPort, nil), "GET", "http://"+domain+"/.well-known/acme-challenge/unknown"); resp.StatusCode != 404 {
				t.Errorf("an unknown challenge is answered with %d", resp.StatusCode)
			}
		})
	}
}
