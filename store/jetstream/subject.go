package jetstream

import (
	"slices"
	"strings"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// The subjects of a stream begin with the prefix of subjects, and continue with one of these, and then with the
// name of the group or the key of the note.
const (
	messages         = "m." // messages
	retained         = "r." // messages with Retain
	expiring         = "t." // messages with an expiry
	expiringRetained = "s." // messages with Retain and an expiry
	notes            = "n." // notes
)

// messageKinds are the subjects of messages. Those of the first two kinds stay until they are purged.
var messageKinds = [...]string{messages, retained, expiring, expiringRetained}

const lastingKinds = 2

// kindOf returns the kind of a message.
func kindOf(e *store.Entry) string {
	switch {
	case e.Expires.IsZero() && !e.Retain:
		return messages
	case e.Expires.IsZero():
		return retained
	case !e.Retain:
		return expiring
	}
	return expiringRetained
}

// subjects are the names that a stream's hubs use on the NATS servers.
type subjects struct{ prefix string }

func subjectsOf(stream string) subjects { return subjects{"wb." + stream + "."} }

// stored returns the subjects of the stream.
func (s subjects) stored() []string {
	list := []string{s.prefix + notes + ">"}
	for _, kind := range messageKinds {
		list = append(list, s.prefix+kind+">")
	}
	return list
}

// message returns the subject of the messages of a group that are of a kind.
func (s subjects) message(group, kind string) string { return s.prefix + kind + escape(group) }

// group returns the escaped group of a message's subject. It reports whether it is one.
func (s subjects) group(subject string) (escaped string, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.prefix)
	if !ok || len(rest) < len(messages) || rest[:len(messages)] == notes {
		return "", false
	}
	return rest[len(messages):], true
}

// lasts reports whether a subject is one of messages that stay until they are purged.
func (s subjects) lasts(subject string) bool {
	rest, ok := strings.CutPrefix(subject, s.prefix)
	return ok && slices.ContainsFunc(messageKinds[:lastingKinds], func(kind string) bool { return strings.HasPrefix(rest, kind) })
}

// matching returns subjects with wildcards that have all messages of the groups that filters select, and maybe others.
func (s subjects) matching(filters group.Set) (list []string) {
	for _, f := range filters {
		if !f.Wild() {
			list = append(list, s.message(f.String(), "*."))
			continue
		}
		tokens := []string{s.prefix + "*"}
		for level := range strings.SplitSeq(f.String(), "/") {
			switch level {
			case "#":
				if len(tokens) > 1 {
					list = append(list, strings.Join(tokens, ".")) // home/# selects home
				}
				tokens = append(tokens, ">")
			case "+":
				tokens = append(tokens, "*")
			default:
				tokens = append(tokens, escape(level))
			}
		}
		list = append(list, strings.Join(tokens, "."))
	}
	return list
}

// note returns the subject of a note.
func (s subjects) note(key string) string { return s.prefix + notes + escape(key) }

// plain reports whether a byte stands for itself in a subject. The others have a meaning in NATS, or are not
// allowed everywhere.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

const hexDigits = "0123456789ABCDEF"

// escape writes a name of levels as tokens of a subject: a/b.c becomes a.b=2Ec. An empty level becomes "=".
func escape(name string) string {
	n := 0
	for i := range len(name) {
		if c := name[i]; !plain(c) && c != '/' {
			n++
		}
	}
	if n == 0 && !strings.Contains(name, "/") && name != "" {
		return name
	}
	b := make([]byte, 0, len(name)+2*n+1)
	level := 0 // where the current level begins
	for i := range len(name) {
		switch c := name[i]; {
		case c == '/':
			if len(b) == level {
				b = append(b, '=')
			}
			b = append(b, '.')
			level = len(b)
		case plain(c):
			b = append(b, c)
		default:
			b = append(b, '=', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	if len(b) == level {
		b = append(b, '=')
	}
	return string(b)
}

// unescape is the inverse of escape. It reports whether the tokens are a name.
func unescape(tokens string) (name string, ok bool) {
	b := make([]byte, 0, len(tokens))
	for i := 0; i < len(tokens); i++ {
		switch c := tokens[i]; {
		case c == '.':
			b = append(b, '/')
		case plain(c):
			b = append(b, c)
		case c != '=':
			return "", false
		case i+1 == len(tokens) || tokens[i+1] == '.': // an empty level
		case i+2 < len(tokens):
			high, low := strings.IndexByte(hexDigits, tokens[i+1]), strings.IndexByte(hexDigits, tokens[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			b = append(b, byte(high<<4|low))
			i += 2
		default:
			return "", false
		}
	}
	return string(b), true
}
