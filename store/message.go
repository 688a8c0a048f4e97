package store

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Message is a message before it is appended and gets an id.
type Message struct {
	Group   string
	UID     string      // of the sender, 36 characters; "" if it has no session
	Event   string      // the SSE event name; "" for none
	Meta    [][2]string // names and values that the sender added, in its order; a name may appear more than once
	Time    time.Time
	Expires time.Time // zero: never
	Retain  bool
	Clear   bool   // with Retain: drop the retained message
	Base64  bool   // Msg is a JSON string of base64
	Msg     []byte // one compact JSON value, without line breaks
}

// Entry is a message that is encoded except for its id.
type Entry struct {
	Message
	Tail    []byte // the data object after the id and its comma, and the blank line that ends a frame
	Msg     int    // offset of the msg in Tail
	HasMeta bool   // Tail has the member meta
}

// timeFormat has a fixed length, so that the members before msg are located backward from it.
const timeFormat = "2006-01-02T15:04:05.000Z"

// AppendTime appends t in the format of messages: RFC 3339, UTC, milliseconds. Each message has a
// time, and this is several times as fast as time.Time.AppendFormat.
func AppendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append2(append2(b, year/100), year%100)
	b = append2(append(b, '-'), int(month))
	b = append2(append(b, '-'), day)
	b = append2(append(b, 'T'), hour)
	b = append2(append(b, ':'), minute)
	b = append2(append(b, ':'), second)
	ms := t.Nanosecond() / int(time.Millisecond)
	b = append2(append(b, '.', byte('0'+ms/100)), ms%100)
	return append(b, 'Z')
}

// append2 appends n, which is below 100, as two digits.
func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// Entry encodes m. It appends the tail to buf, which the entry keeps.
func (m *Message) Entry(buf []byte) Entry {
	b := append(buf, `"group":`...)
	b = AppendQuote(b, m.Group)
	if m.Event != "" {
		b = append(b, `,"event":`...)
		b = AppendQuote(b, m.Event)
	}
	b = appendMeta(b, m.Meta)
	if m.UID != "" {
		b = append(b, `,"uid":"`...)
		b = append(b, m.UID...)
		b = append(b, '"')
	}
	b = append(b, `,"time":"`...)
	b = AppendTime(b, m.Time)
	b = append(b, '"')
	if !m.Expires.IsZero() {
		b = append(b, `,"expires":"`...)
		b = AppendTime(b, m.Expires)
		b = append(b, '"')
	}
	if m.Retain {
		b = append(b, `,"retain":true`...)
	}
	if m.Base64 {
		b = append(b, `,"encoding":"base64"`...)
	}
	b = append(b, `,"msg":`...)
	at := len(b) - len(buf)
	b = append(b, m.Msg...)
	b = append(b, "}\n\n"...)
	return Entry{Message: *m, Tail: b[len(buf):], Msg: at, HasMeta: len(m.Meta) > 0}
}

// Flags returns which members the entry's frame has.
func (e *Entry) Flags() Flags {
	var f Flags
	for _, x := range []struct {
		set  bool
		flag Flags
	}{
		{e.Event != "", HasEvent}, {e.UID != "", HasUID}, {!e.Expires.IsZero(), HasExpiry},
		{e.Retain, IsRetain}, {e.Base64, IsBase64}, {e.HasMeta, HasMeta},
	} {
		if x.set {
			f |= x.flag
		}
	}
	return f
}

// FrameLen returns the number of bytes that AppendFrame appends.
func (e *Entry) FrameLen(id ID) int {
	n := 2*(len(id.Epoch)+1+digits(uint64(id.Seq))) + len("id: \ndata: {\"id\":\"\",") + len(e.Tail)
	if e.Event != "" {
		n += len("event: \n") + len(e.Event)
	}
	return n
}

func digits(n uint64) int {
	d := 1
	for ; n > 9; n /= 10 {
		d++
	}
	return d
}

// AppendFrame appends the entry's frame with the id. It also returns the offset of the msg in it.
func (e *Entry) AppendFrame(b []byte, id ID) (frame []byte, msg int) {
	start := len(b)
	b = append(b, "id: "...)
	idAt := len(b)
	b = id.Append(b)
	idEnd := len(b)
	b = append(b, '\n')
	if e.Event != "" {
		b = append(b, "event: "...)
		b = append(b, e.Event...)
		b = append(b, '\n')
	}
	b = append(b, `data: {"id":"`...)
	b = append(b, b[idAt:idEnd]...)
	b = append(b, `",`...)
	msg = len(b) - start + e.Msg
	return append(b, e.Tail...), msg
}

// AppendQuote appends s, which is UTF-8, as a JSON string without a line break (RFC 8259, 7).
func AppendQuote[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	plain := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
	}
	b = append(b, s[plain:]...)
	return append(b, '"')
}

// Unquote appends the text of a JSON string from a frame.
func Unquote(b, quoted []byte) []byte {
	s := quoted[1 : len(quoted)-1]
	for len(s) > 0 {
		c := s[0]
		if c != '\\' {
			i := 1
			for i < len(s) && s[i] != '\\' {
				i++
			}
			b = append(b, s[:i]...)
			s = s[i:]
			continue
		}
		var n int
		b, n = appendEscape(b, s)
		s = s[n:]
	}
	return b
}

// appendEscape decodes the escape sequence at the start of s, and returns its length.
func appendEscape(b, s []byte) ([]byte, int) {
	switch s[1] {
	case 'b':
		return append(b, '\b'), 2
	case 'f':
		return append(b, '\f'), 2
	case 'n':
		return append(b, '\n'), 2
	case 'r':
		return append(b, '\r'), 2
	case 't':
		return append(b, '\t'), 2
	case 'u':
		return appendHexEscape(b, s)
	}
	return append(b, s[1]), 2
}

func appendHexEscape(b, s []byte) ([]byte, int) {
	r, n := hexRune(s), 6
	if r >= 0xd800 && r < 0xdc00 && len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
		if low := hexRune(s[6:]); low >= 0xdc00 && low < 0xe000 {
			r, n = (r-0xd800)<<10+(low-0xdc00)+0x10000, 12
		}
	}
	return utf8.AppendRune(b, r), n // a lone surrogate becomes U+FFFD
}

func hexRune(s []byte) rune {
	n, err := strconv.ParseUint(string(s[2:6]), 16, 32)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}
