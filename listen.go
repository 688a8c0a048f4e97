package watchbox

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/watchbox-go/watchbox/internal/listen"
)

// WithTLS makes Run serve TLS, with HTTP/2 for clients that offer it, instead of plain HTTP. The files are in
// PEM form: the certificate with its chain, and its key. They are read again when they change, and by Reload.
func WithTLS(certFile, keyFile string) Option {
	return func(c *config) error {
		if certFile == "" || keyFile == "" {
			return errors.New("tls-cert and tls-key need each other: name both files")
		}
		c.listen.CertFile, c.listen.KeyFile = certFile, keyFile
		return nil
	}
}

// ACME configures certificates from an ACME server (RFC 8555), such as Let's Encrypt. Using it accepts the terms
// of the server.
type ACME struct {
	Domains []string // full names; the hub also answers to them, as with WithAllowHost
	Email   string   // contact for the ACME server; "" for none
	Dir     string   // folder for the account and the certificates; "" for acme in the data directory
	URL     string   // directory of the ACME server; "" for Let's Encrypt
	CAFile  string   // PEM file with certificate authorities of the ACME server itself, besides the system's
}

// WithACME makes Run serve TLS with certificates from an ACME server, which are renewed in time. The server must
// reach Run's address as port 443 of each domain (TLS-ALPN-01) or, with WithHTTPRedirect, as port 80 (HTTP-01).
func WithACME(a ACME) Option {
	return func(c *config) error {
		if len(a.Domains) == 0 {
			return errors.New("acme-domain: name the domain that the certificate is for")
		}
		c.listen.ACME = listen.ACME{Domains: a.Domains, Email: a.Email, Dir: a.Dir, URL: a.URL, CAFile: a.CAFile}
		return WithAllowHost(a.Domains...)(c)
	}
}

// WithHTTPRedirect makes Run listen on a second TCP address, such as :80, for plain HTTP: it redirects to https
// and answers the challenges of an ACME server.
func WithHTTPRedirect(addr string) Option {
	return func(c *config) error {
		if addr == "" {
			return errors.New("http-redirect: the address is empty")
		}
		c.listen.Redirect = addr
		return nil
	}
}

// WithH2C makes Run also serve HTTP/2 without TLS, for proxies that use it for their backends.
func WithH2C() Option {
	return func(c *config) error { c.listen.H2C = true; return nil }
}

// WithListenMode sets the permissions of the Unix socket that Run listens on; the default is 0660. A program
// needs write permission to connect.
func WithListenMode(mode fs.FileMode) Option {
	return func(c *config) error {
		if mode&^fs.ModePerm != 0 {
			return fmt.Errorf("listen-mode: %#o is not from 0 to 0777", uint32(mode))
		}
		c.listen.SocketMode = mode
		return nil
	}
}

// checkListen returns an error if options exclude each other.
func (c *config) checkListen() error {
	if a := &c.listen.ACME; a.Dir == "" && len(a.Domains) > 0 && c.disk.Dir != "" {
		a.Dir = filepath.Join(c.disk.Dir, "acme")
	}
	return c.listen.Check()
}

// Reload reads the files of WithTLS again at once. Without it, a change is noticed within two seconds. An invalid
// certificate is logged, and the current one stays in use. Before Run, Reload does nothing.
func (h *Hub) Reload() {
	if s := h.sockets.Load(); s != nil {
		s.Reload()
	}
}
