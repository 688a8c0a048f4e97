package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/watchbox-go/watchbox/internal/remote"
)

// hubURL is the URL of a hub without a slash at its end, or the address of a Unix socket such as unix:/run/hub.sock.
type hubURL string

// UnmarshalText accepts a URL, HOST:PORT or unix:/PATH.
func (u *hubURL) UnmarshalText(text []byte) error {
	if path, ok := strings.CutPrefix(string(text), "unix:"); ok && path != "" {
		*u = hubURL(text)
		return nil
	}
	address, err := remote.Address(string(text))
	*u = hubURL(address)
	return err
}

// base returns the URL that the paths of requests are added to.
func (u hubURL) base() string {
	if u.socket() != "" {
		return "http://localhost"
	}
	return string(u)
}

// socket returns the address if it is a Unix socket, or "".
func (u hubURL) socket() socketAddress {
	if strings.HasPrefix(string(u), "unix:") {
		return socketAddress(u)
	}
	return ""
}

// socketAddress is an address to connect to: HOST:PORT or unix:/PATH.
type socketAddress string

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *socketAddress) UnmarshalText(text []byte) error {
	path, ok := strings.CutPrefix(string(text), "unix:")
	if _, port, err := net.SplitHostPort(string(text)); ok && path == "" || !ok && (err != nil || port == "") {
		return fmt.Errorf("%q is not an address to connect to: write HOST:PORT or unix:/PATH", text)
	}
	*a = socketAddress(text)
	return nil
}

// transport returns a transport that connects to the address whatever the URLs of the requests are, or to those of
// the URLs if the address is "".
func (a socketAddress) transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if a == "" {
		return t
	}
	network, address := "tcp", string(a)
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	t.Proxy = nil
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return t
}
