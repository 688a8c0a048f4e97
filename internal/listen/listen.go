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
)

// Options say how a server listens. The zero value is plain HTTP/1.1.
type Options struct {
	CertFile, KeyFile string      // PEM files of a certificate chain and its key; "" for none
	H2C               bool        // also HTTP/2 without TLS, for clients that know of it (RFC 9113, 3.3)
	SocketMode        fs.FileMode // permissions of a Unix socket
	Logger            *slog.Logger
}

// TLS reports whether the server speaks TLS.
func (o *Options) TLS() bool { return o.CertFile != "" }

// Check returns an error if options exclude each other or lack their counterpart.
func (o *Options) Check() error {
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("tls-cert and tls-key need each other: name both files, or none")
	case o.H2C && o.TLS():
		return errors.New("h2c is HTTP/2 without TLS: leave it out, since HTTP/2 comes with TLS")
	case o.SocketMode&^fs.ModePerm != 0:
		return fmt.Errorf("listen-mode: %#o is not a mode such as 0660", uint32(o.SocketMode))
	}
	return nil
}

// maxStreams is how many requests one HTTP/2 connection may have in progress. A proxy may use one connection
// for all of its clients, and each stream is a request.
const maxStreams = 1000

// Sockets are open sockets and what is needed to serve on them.
type Sockets struct {
	main  net.Listener
	tls   *tls.Config // nil for plain HTTP
	h2c   bool
	files *files // nil without certificate files
}

// Open opens the sockets. An error says what is wrong with the address or the certificate.
func Open(ctx context.Context, addr string, o Options) (_ *Sockets, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	s := &Sockets{h2c: o.H2C}
	if o.CertFile != "" {
		if s.files, err = readFiles(o.CertFile, o.KeyFile, o.Logger); err != nil {
			return nil, err
		}
		s.tls = &tls.Config{GetCertificate: s.files.certificate}
	}
	if s.tls != nil {
		s.tls.MinVersion = tls.VersionTLS12
	}
	if s.main, err = open(ctx, addr, o.SocketMode); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(ctx context.Context, addr string, mode fs.FileMode) (net.Listener, error) {
	if path, ok := socketPath(addr); ok {
		return listenUnix(ctx, path, mode)
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}

// Addr returns the address that the server listens on.
func (s *Sockets) Addr() net.Addr { return s.main.Addr() }

// Serve configures srv and serves with it until it is shut down or closed. It returns as http.Server.Serve
// does.
func (s *Sockets) Serve(srv *http.Server) error {
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(s.tls != nil)
	srv.Protocols.SetUnencryptedHTTP2(s.h2c)
	srv.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: maxStreams}
	if s.tls == nil {
		return srv.Serve(s.main)
	}
	srv.TLSConfig = s.tls
	return srv.ServeTLS(s.main, "", "")
}

// Reload reads the certificate files again. It logs what is wrong with them, and then keeps what was read
// before.
func (s *Sockets) Reload() {
	if s.files != nil {
		s.files.reload()
	}
}

// Close closes the sockets and ends what watches the files.
func (s *Sockets) Close() error {
	if s.files != nil {
		s.files.close()
	}
	if s.main == nil {
		return nil
	}
	if err := s.main.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // an http.Server has closed it
}

// Local reports whether only programs on this machine can reach an address.
func Local(addr string) bool {
	if _, ok := socketPath(addr); ok {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // Open will say what is wrong with it
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
