package mqtt

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox/internal/hub"
)

// kindOf returns the kind of message that a payload becomes, so that the same bytes come back. JSON is stored as JSON
// only if that changes no byte: it must have no white space between its tokens. A JSON string is stored as
// text, like every text, because a msg that is a string is delivered without its quotes.
func kindOf(payload []byte) hub.Kind {
	if len(payload) > 0 && payload[0] != '"' && json.Valid(payload) && utf8.Valid(payload) && isCompact(payload) {
		return hub.JSON
	}
	return hub.Bytes
}

// isCompact reports whether valid JSON has no white space between its tokens.
func isCompact(valid []byte) bool {
	text := false // inside a string
	for i := 0; i < len(valid); i++ {
		switch c := valid[i]; {
		case c == '"':
			text = !text
		case text && c == '\\':
			i++
		case !text && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			return false
		}
	}
	return true
}
