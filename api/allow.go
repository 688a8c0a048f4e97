package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// HostPattern is a host name that the server answers to, or "*." and a name: every name below it.
type HostPattern string

// ParseHost reads a host name such as hub.example.org, or *.example.org, which matches a.example.org
// and b.a.example.org but not example.org. A port is dropped: a server answers on each of its own.
func ParseHost(s string) (HostPattern, error) {
	host, port, ok := cutPort(strings.ToLower(s))
	host = strings.TrimSuffix(host, ".")
	if !ok || port == "*" || !validHost(host) || host == "*" {
		return "", fmt.Errorf("%q is not a host name such as example.org or *.example.org", s)
	}
	return HostPattern(host), nil
}

// match reports whether a host name, in lower case and without a port, is one of the pattern's.
func (p HostPattern) match(name string) bool {
	if below, ok := strings.CutPrefix(string(p), "*"); ok {
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return string(p) == name
}

// OriginPattern is a set of origins: one, those of all hosts below a name, those of all ports of a
// host, or all there are.
type OriginPattern struct {
	scheme string // "" for all origins
	host   HostPattern
	port   string // "" is the scheme's own, "*" any
}

// ParseOrigin reads an origin such as https://example.org or http://localhost:3000. The host may
// begin with "*.", as a HostPattern, the port may be "*", and "*" alone is every origin.
func ParseOrigin(s string) (OriginPattern, error) {
	if s == "*" {
		return OriginPattern{}, nil
	}
	p, ok := cutOrigin(strings.ToLower(s))
	if !ok || !validHost(string(p.host)) || strings.Trim(p.scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return p, fmt.Errorf("%q is not an origin such as https://example.org, https://*.example.org, http://localhost:* or *", s)
	}
	return p, nil
}

// MatchesAll reports whether there is no origin, or none of a scheme, that the pattern does not match.
func (p OriginPattern) MatchesAll() bool { return p.scheme == "" || p.host == "*" }

// match reports whether an Origin header names one of the origins.
func (p OriginPattern) match(origin string) bool {
	if p.scheme == "" {
		return true
	}
	o, ok := cutOrigin(origin)
	return ok && o.scheme == p.scheme && p.host.match(string(o.host)) && (p.port == "*" || o.port == p.port)
}

// cutOrigin takes an origin apart. The port that the scheme implies is "".
func cutOrigin(s string) (OriginPattern, bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	host, port, valid := cutPort(rest)
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		port = ""
	}
	return OriginPattern{scheme, HostPattern(host), port}, ok && valid && scheme != ""
}

// cutPort takes "host:port" apart, where the port may be missing or "*". An IPv6 address keeps its
// brackets.
func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return s, "", true
	}
	host, port = s[:i], s[i+1:]
	digits := port != "" && len(port) <= 5 && strings.Trim(port, "0123456789") == ""
	return host, port, digits || port == "*"
}

// validHost reports whether s is a host, where the first label may be "*".
func validHost(s string) bool {
	if strings.HasPrefix(s, "[") {
		u, err := url.Parse("http://" + s)
		return err == nil && u.Host == s && u.Hostname() != ""
	}
	labels := strings.Split(s, ".")
	if labels[0] == "*" {
		labels = labels[1:]
	}
	return !slices.ContainsFunc(labels, func(l string) bool {
		return l == "" || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != ""
	})
}
