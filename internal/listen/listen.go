package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/watchbox-go/watchbox/sse"
)

// Options configures how a server listens. The zero value is plain HTTP/1.1.
type Options struct {
	CertFile, KeyFile string      // PEM files of a certificate chain and its key; "" for none
	ACME              ACME        // certificates from an ACME server instead
	Redirect          string      // address of a second server, which redirects to https; "" for none
	H2C               bool        // also HTTP/2 without TLS, with prior knowledge (RFC 9113, section 3.3)
	SocketMode        fs.FileMode // permissions of a Unix socket
	Logger            *slog.Logger

	// An HTTP/2 client that sends nothing for PingAfter gets a ping, and its connection is closed if it does not
	// answer within PingTimeout. 0: no pings.
	PingAfter, PingTimeout time.Duration
}

// TLS reports whether the server speaks TLS.
func (o *Options) TLS() bool { return o.CertFile != "" || len(o.ACME.Domains) > 0 }

// Check returns an error if options exclude each other or lack their counterpart.
func (o *Options) Check() error {
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("tls-cert and tls-key need each other: name both files, or none")
	case o.CertFile != "" && len(o.ACME.Domains) > 0:
		return errors.New("acme-domain and tls-cert exclude each other: the certificate comes from an ACME server or from files")
	case o.Redirect != "" && !o.TLS():
		return errors.New("http-redirect redirects to https, which needs tls-cert or acme-domain")
	case o.H2C && o.TLS():
		return errors.New("h2c is HTTP/2 without TLS: leave it out, since HTTP/2 comes with TLS")
	case o.SocketMode&^fs.ModePerm != 0:
		return fmt.Errorf("listen-mode: %#o is not a mode such as 0660", uint32(o.SocketMode))
	}
	return o.ACME.check()
}

// maxStreams is how many requests one HTTP/2 connection may have in progress. A proxy may use one connection
// for all of its clients, and each stream is a request.
const maxStreams = 1000

// Sockets holds open sockets and the state to serve on them.
type Sockets struct {
	main  net.Listener
	tls   *tls.Config // nil for plain HTTP
	h2c   bool
	mode  fs.FileMode // of Unix sockets
	http2 *http.HTTP2Config
	files *files // nil without certificate files

	orders     *orders      // nil without ACME
	second     net.Listener // of the redirect server; nil without one
	redirects  *http.Server // nil before Serve
	logger     *slog.Logger
	background sync.WaitGroup // goroutines that Serve has started
}

// Open opens the sockets and reads the certificate files.
func Open(ctx context.Context, addr string, o Options) (_ *Sockets, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	s := &Sockets{h2c: o.H2C, mode: o.SocketMode, logger: o.Logger, http2: &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams, SendPingTimeout: o.PingAfter, PingTimeout: o.PingTimeout,
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	switch {
	case o.CertFile != "":
		if s.files, err = readFiles(o.CertFile, o.KeyFile, o.Logger); err != nil {
			return nil, err
		}
		s.tls = &tls.Config{GetCertificate: s.files.certificate, MinVersion: tls.VersionTLS12}
	case o.TLS():
		if s.orders, err = newOrders(&o.ACME, o.Logger); err != nil {
			return nil, err
		}
		s.tls = &tls.Config{GetCertificate: s.orders.certificate, NextProtos: []string{acme.ALPNProto}, MinVersion: tls.VersionTLS12}
	}
	if s.main, err = open(ctx, addr, o.SocketMode); err != nil {
		return nil, err
	}
	if o.Redirect != "" {
		if s.second, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.Redirect); err != nil {
			return nil, fmt.Errorf("http-redirect: %w", err)
		}
	}
	return s, nil
}

func open(ctx context.Context, addr string, mode fs.FileMode) (net.Listener, error) {
	if path, ok := socketPath(addr); ok {
		return listenUnix(ctx, path, mode)
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}

// Listen opens another socket, for a protocol other than HTTP: with the server's TLS if secure is set, which needs
// Options.TLS. The caller closes it.
func (s *Sockets) Listen(ctx context.Context, addr string, secure bool) (net.Listener, error) {
	ln, err := open(ctx, addr, s.mode)
	if err != nil || !secure {
		return ln, err
	}
	config := s.tls.Clone()
	config.NextProtos = nil // those of HTTP and ACME: a client that offers others would be refused
	return tls.NewListener(sse.Listener(ln), config), nil
}

// Addr returns the address that the server listens on.
func (s *Sockets) Addr() net.Addr { return s.main.Addr() }

// Serve configures srv and serves with it until it is shut down or closed. It returns the error of
// http.Server.Serve.
func (s *Sockets) Serve(srv *http.Server) error {
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(s.tls != nil)
	srv.Protocols.SetUnencryptedHTTP2(s.h2c)
	srv.HTTP2 = s.http2
	if s.tls == nil {
		return srv.Serve(s.main)
	}
	srv.TLSConfig = s.tls
	s.begin()
	return srv.ServeTLS(sse.Listener(s.main), "", "")
}

// begin starts the redirect server, and orders certificates.
func (s *Sockets) begin() {
	if s.second != nil {
		s.redirects = redirect(s.main.Addr(), s.orders)
		s.background.Go(func() {
			if err := s.redirects.Serve(s.second); !errors.Is(err, http.ErrServerClosed) {
				s.logger.Error("the http-redirect server failed", "error", err)
			}
		})
	}
	if s.orders != nil {
		go s.orders.begin() // Close does not wait for it: it may sleep for seconds before it retries
	}
}

// Reload reads the certificate files again. If they cannot be used, it logs the error and keeps the
// certificate in use.
func (s *Sockets) Reload() {
	if s.files != nil {
		s.files.reload()
	}
}

// Close closes the sockets and ends the goroutines of Serve and Open.
func (s *Sockets) Close() error {
	if s.files != nil {
		s.files.close()
	}
	if s.orders != nil {
		s.orders.end()
	}
	var err error
	if s.redirects != nil {
		err = s.redirects.Close()
	}
	for _, ln := range []net.Listener{s.main, s.second} {
		if ln == nil {
			continue
		}
		if e := ln.Close(); !errors.Is(e, net.ErrClosed) { // ErrClosed: an http.Server has closed it
			err = errors.Join(err, e)
		}
	}
	s.background.Wait()
	return err
}

// Local reports whether only programs on this machine can reach an address.
func Local(addr string) bool {
	if _, ok := socketPath(addr); ok {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // Open reports the error
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
