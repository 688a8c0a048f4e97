package watchbox

import (
	"errors"
	"fmt"
	"io/fs"
)

// WithTLS has Run serve TLS, with HTTP/2 for clients that offer it, instead of plain HTTP. The files are in
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

// WithH2C has Run also serve HTTP/2 without TLS, for proxies that speak it to servers behind them.
func WithH2C() Option {
	return func(c *config) error { c.listen.H2C = true; return nil }
}

// WithListenMode sets the permissions of the Unix socket that Run listens on; the default is 0660. A program
// needs the permission to write to connect.
func WithListenMode(mode fs.FileMode) Option {
	return func(c *config) error {
		if mode&^fs.ModePerm != 0 {
			return fmt.Errorf("listen-mode: %#o is not from 0 to 0777", uint32(mode))
		}
		c.listen.SocketMode = mode
		return nil
	}
}

// Reload reads the files of WithTLS again, as happens by itself within two seconds after they have changed. A
// certificate that cannot be used is logged, and the one in use stays. Before Run, Reload does nothing.
func (h *Hub) Reload() {
	if s := h.sockets.Load(); s != nil {
		s.Reload()
	}
}
