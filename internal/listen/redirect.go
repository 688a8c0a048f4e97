package listen

import (
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// redirect returns a server that redirects each request to the same URL over https, on the port of an address.
// It answers HTTP-01 challenges of o, unless that is nil.
func redirect(to net.Addr, o *orders) *http.Server {
	port := ""
	if tcp, ok := to.(*net.TCPAddr); ok && tcp.Port != 443 {
		_, port, _ = net.SplitHostPort(tcp.String())
	}
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		if host == "" {
			http.Error(w, "this server requires https, and the request has no host to redirect to", http.StatusBadRequest)
			return
		}
		if port != "" {
			host = net.JoinHostPort(host, port)
		} else if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		// 308 keeps the method and the body.
		http.Redirect(w, r, "https://"+host+pathOf(r), http.StatusPermanentRedirect)
	})
	if o != nil {
		handler = o.manager.HTTPHandler(handler)
	}
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}

// pathOf returns the path and query of a request as the client wrote them.
func pathOf(r *http.Request) string {
	if uri := r.URL.EscapedPath(); strings.HasPrefix(uri, "/") {
		if r.URL.RawQuery != "" {
			uri += "?" + r.URL.RawQuery
		}
		return uri
	}
	return "/" // OPTIONS *
}
