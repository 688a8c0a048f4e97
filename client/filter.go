package client

import (
	"net/url"
	"strings"
)

// matches reports whether a filter selects a group, by the rules of MQTT 5.0, 4.7, as the hub has
// them: the stream does not say for which of its filters a message came.
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
			return !filterMore || filterRest == "#" // its parent included
		case !filterMore:
			return false
		}
		filter, group = filterRest, groupRest
	}
}

// escape returns a group or filter as the end of a path. Its slashes stay slashes.
func escape(name string) string {
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = url.PathEscape(l)
	}
	return strings.Join(levels, "/")
}
