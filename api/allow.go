package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// HostPattern is a host name that the server answers to. "*.example.org" matches every name below example.org.
type HostPattern string

// ParseHost reads a host name such as hub.example.org, or *.example.org, which matches a.example.org
// and b.a.example.org but not example.org. A port is ignored: the server answers on every port it listens on.
func ParseHost(s string) (HostPattern, error) {
	host, port, ok := cutPort(strings.ToLower(s))
	host = strings.TrimSuffix(host, ".")
	if !ok || port == "*" || !validHost(host) || host == "*" {
		return "", fmt.Errorf("%q is not a host name such as example.org or *.example.org", s)
	}
	return HostPattern(host), nil
}

// match reports whether the pattern matches a host, which is in lower case and has no port. A wildcard
// matches valid names only: in "evil.test/.example.org", the host is evil.test.
func (p HostPattern) match(name string) bool {
	if below, ok := strings.CutPrefix(string(p), "*"); ok {
		return len(name) > len(below) && strings.HasSuffix(name, below) && validHost(name)
	}
	return string(p) == name
}

// OriginPattern is a set of origins: one origin, all hosts below a name, all ports of a host, or every
// origin.
type OriginPattern struct {
	scheme string // "" for all origins
	host   HostPattern
	port   string // "" for the scheme's default, "*" for any
}

// ParseOrigin reads an origin such as https://example.org or http://localhost:3000. The host may
// begin with "*." as in a HostPattern, the port may be "*", and "*" alone matches every origin.
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

// MatchesAll reports whether the pattern matches every origin, or every origin of a scheme.
func (p OriginPattern) MatchesAll() bool { return p.scheme == "" || p.host == "*" }

// match reports whether the pattern matches an Origin header.
func (p OriginPattern) match(origin string) bool {
	if p.scheme == "" {
		return true
	}
	o, ok := cutOrigin(origin)
	return ok && o.scheme == p.scheme && p.host.match(string(o.host)) && (p.port == "*" || o.port == p.port)
}

// cutOrigin splits an origin. The scheme's default port becomes "".
func cutOrigin(s string) (OriginPattern, bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	host, port, valid := cutPort(rest)
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		port = ""
	}
	return OriginPattern{scheme, HostPattern(host), port}, ok && valid && scheme != ""
}

// cutPort splits "host:port", where the port may be absent or "*". An IPv6 address keeps its
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

// validHost reports whether s is a valid host, whose first label may be "*".
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
