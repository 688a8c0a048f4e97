package sse

import (
	"bytes"
	"net/http"
	"strings"
)

// ContentType is the media type of an event stream.
const ContentType = "text/event-stream"

// ValidField reports whether s can be an event's name or id. It must not contain a line break, which
// would end the field, or NUL, because clients ignore an id that contains one.
func ValidField(s string) bool { return !strings.ContainsAny(s, "\r\n\x00") }

// AppendEvent appends an event to b: the name and the id unless they are empty, and one data field for
// each line of data. The name and the id must be valid fields.
func AppendEvent(b []byte, name, id string, data []byte) []byte {
	if name != "" {
		b = appendField(b, "event", name)
	}
	if id != "" {
		b = appendField(b, "id", id)
	}
	for more := true; more; {
		line := data
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			line = data[:i]
			data = bytes.TrimPrefix(data[i:], []byte("\r"))
			data = bytes.TrimPrefix(data, []byte("\n"))
		} else {
			more = false
		}
		b = append(b, "data: "...)
		b = append(b, line...)
		b = append(b, '\n')
	}
	return append(b, '\n')
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, '\n')
}

// AppendHeartbeat appends a comment and an id without data. An EventSource fires no event for it, but
// sets its last event id (WHATWG HTML, 9.2.6).
func AppendHeartbeat(b []byte, id string) []byte {
	b = append(b, ":\n"...)
	b = appendField(b, "id", id)
	return append(b, '\n')
}

// SetHeader sets the header fields of a stream's response.
func SetHeader(h http.Header) {
	h.Set("Content-Type", ContentType+"; charset=utf-8") // without a charset Python requests assumes Latin-1 (RFC 2616, section 3.7.1)
	h.Set("Cache-Control", "no-cache, no-transform")     // no-transform: proxies that compress would hold events back
	h.Set("X-Accel-Buffering", "no")                     // nginx would collect events before it passes them on
}
