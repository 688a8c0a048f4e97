package listen

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME configures how to get certificates from an ACME server. The zero value gets none.
type ACME struct {
	Domains []string // names to get certificates for
	Email   string   // contact for the ACME server; "" for none
	Dir     string   // folder for the account and the certificates
	URL     string   // directory of the ACME server; "" for Let's Encrypt
	CAFile  string   // PEM file of the authorities that are trusted for the ACME server's own certificate; "" for the system's
}

func (a *ACME) check() error {
	if len(a.Domains) == 0 {
		if a.Email+a.Dir+a.URL+a.CAFile != "" {
			return errors.New("acme-domain: name the domain that the certificate is for")
		}
		return nil
	}
	for _, d := range a.Domains {
		if strings.Contains(d, "*") || strings.HasSuffix(d, ".") || !strings.Contains(strings.Trim(d, "."), ".") || strings.ContainsAny(d, ":/@ ") || net.ParseIP(d) != nil {
			return fmt.Errorf("acme-domain: %q is not a full name such as hub.example.org", d)
		}
	}
	if u, err := url.Parse(a.URL); a.URL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return fmt.Errorf("acme-url: %q is not a URL such as https://acme.example.org/directory", a.URL)
	}
	if a.Dir == "" {
		return errors.New("acme-dir: name a folder to keep the certificates in")
	}
	return nil
}

// orders gets certificates by ACME and renews them.
type orders struct {
	manager *autocert.Manager
	domains []string
	logger  *slog.Logger
	end     context.CancelFunc // of the requests to the ACME server

	mu     sync.Mutex // guards what follows
	warned map[string]time.Time
}

func newOrders(a *ACME, logger *slog.Logger) (*orders, error) {
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("acme-dir: %w", err)
	}
	ctx, end := context.WithCancel(context.Background())
	client, err := acmeClient(ctx, a)
	if err != nil {
		end()
		return nil, err
	}
	allowed := autocert.HostWhitelist(a.Domains...)
	return &orders{domains: a.Domains, logger: logger, end: end, warned: map[string]time.Time{}, manager: &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(a.Dir), Email: a.Email, Client: client,
		HostPolicy: func(ctx context.Context, host string) error {
			if name, _, err := net.SplitHostPort(host); err == nil { // an HTTP-01 challenge, whose Host has a port
				host = name
			}
			return allowed(ctx, host)
		},
	}}, nil
}

// answerTimeout is how long the ACME server may take for one response.
const answerTimeout = time.Minute

func acmeClient(ctx context.Context, a *ACME) (*acme.Client, error) {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	if a.CAFile != "" {
		text, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("acme-ca: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("acme-ca: %s has no certificate in PEM form", a.CAFile)
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &acme.Client{
		DirectoryURL: cmp.Or(a.URL, acme.LetsEncryptURL), UserAgent: "watchbox",
		HTTPClient: &http.Client{Transport: untilEnd{tr, ctx}, Timeout: answerTimeout},
	}, nil
}

// untilEnd is a transport whose requests fail when a context ends. Autocert offers no way to cancel an order.
type untilEnd struct {
	http.RoundTripper
	ctx context.Context
}

func (u untilEnd) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(u.ctx, func() { cancel(context.Cause(u.ctx)) })
	resp, err := u.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stop()
		cancel(err)
	}
	return resp, err // ctx is not cancelled here: autocert has still to read the body
}

// certificate returns the certificate for a new connection. If there is none, it orders one first. Errors for
// the server's own domains are logged, because the operator would not learn of them otherwise.
func (o *orders) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := o.manager.GetCertificate(hello)
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) || !slices.Contains(o.domains, name) {
		return c, err
	}
	switch {
	case err != nil && o.mayWarn(name, time.Minute):
		o.logger.Error("there is no certificate: the ACME server must reach this server under the name, "+
			"on port 443 or, with http-redirect, on port 80", "domain", name, "error", err)
	case err == nil && c.Leaf != nil && isOverdue(c.Leaf, time.Now()) && o.mayWarn(name, 24*time.Hour):
		o.logger.Error("the certificate was not renewed in time", "domain", name, "expires", c.Leaf.NotAfter)
	}
	return c, err
}

// isOverdue reports whether a certificate should have been renewed by now. Autocert begins when a third of the
// certificate's lifetime is left, at most 30 days before the end.
func isOverdue(c *x509.Certificate, now time.Time) bool {
	begin := min(c.NotAfter.Sub(c.NotBefore)/3, 30*24*time.Hour)
	return c.NotAfter.Sub(now) < begin*2/3
}

// mayWarn reports whether the last warning about a domain is at least every ago. If so, it records a new one.
func (o *orders) mayWarn(domain string, every time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if last, ok := o.warned[domain]; ok && time.Since(last) < every {
		return false
	}
	o.warned[domain] = time.Now()
	return true
}

// begin orders the missing certificates, so that the first clients need not wait and errors are logged before
// they connect.
func (o *orders) begin() {
	for _, d := range o.domains {
		hello := &tls.ClientHelloInfo{ServerName: d, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
		if c, err := o.certificate(hello); err == nil {
			o.logger.Info("the certificate is there", "domain", d, "expires", c.Leaf.NotAfter)
		}
	}
}
