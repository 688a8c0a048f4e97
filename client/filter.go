package client

import (
	"net/url"
	"strings"
)

// matches reports whether a filter matches a group by the hub's rules (MQTT 5.0, 4.7). The client needs it
// because the stream does not contain which of its filters a message matches.
func matches(filter, group string) bool {
	if strings.HasPrefix(group, "$") && (filter[0] == '+' || filter[0] == '#') {
		return false // 4.7.2
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		g, groupRest, groupMore := strings.Cut(group, "/")
		switch {
		case f != "+" && f != g:
			return false
		case !groupMore:
			return !filterMore || filterRest == "#" // a final # includes the parent
		case !filterMore:
			return false
		}
		filter, group = filterRest, groupRest
	}
}

// escape escapes a group or filter for the end of a path, and keeps its slashes.
func escape(name string) string {
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = url.PathEscape(l)
	}
	return strings.Join(levels, "/")
}
