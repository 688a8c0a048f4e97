package store

import (
	"bytes"
	"time"
)

// Flags say which members a frame has.
type Flags uint16

// The flags of a frame.
const (
	HasEvent Flags = 1 << iota
	HasUID
	HasExpiry
	IsRetain
	IsBase64
	HasMeta
	FlagBits = iota // how many bits they take
)

// Frame is a stored message.
type Frame struct {
	Seq   Seq
	Group string
	Flags Flags
	Msg   int    // offset of the msg in Bytes
	Bytes []byte // in the format of doc.go
	At    int    // offset of Bytes in the batch's Buf
}

// Lengths of the members that may stand between uid and msg.
const (
	lenMsgKey   = len(`,"msg":`)
	lenBase64   = len(`,"encoding":"base64"`)
	lenRetain   = len(`,"retain":true`)
	lenExpires  = len(`,"expires":""`) + len(timeFormat)
	lenTime     = len(`,"time":""`) + len(timeFormat)
	lenUID      = len(`00000000-0000-0000-0000-000000000000`)
	lenFrameEnd = len("}\n\n")
)

// IDLine returns the first line of the frame, including its line break.
func (f *Frame) IDLine() []byte { return f.Bytes[:bytes.IndexByte(f.Bytes, '\n')+1] }

// ID returns the id's text.
func (f *Frame) ID() []byte {
	line := f.IDLine()
	return line[len("id: ") : len(line)-1]
}

// EventLine returns the line with the event name, including its line break, or nil.
func (f *Frame) EventLine() []byte {
	if f.Flags&HasEvent == 0 {
		return nil
	}
	rest := f.Bytes[len(f.IDLine()):]
	return rest[:bytes.IndexByte(rest, '\n')+1]
}

// Data returns the JSON object.
func (f *Frame) Data() []byte {
	from := len(f.IDLine()) + len(f.EventLine()) + len("data: ")
	return f.Bytes[from : len(f.Bytes)-len("\n\n")]
}

// JSON returns the msg, a JSON value.
func (f *Frame) JSON() []byte { return f.Bytes[f.Msg : len(f.Bytes)-lenFrameEnd] }

// beforeExpires returns the offset at which the members after expires begin.
func (f *Frame) beforeExpires() int {
	at := f.Msg - lenMsgKey
	if f.Flags&IsBase64 != 0 {
		at -= lenBase64
	}
	if f.Flags&IsRetain != 0 {
		at -= lenRetain
	}
	return at
}

// UID returns the sender's uid, or nil.
func (f *Frame) UID() []byte {
	if f.Flags&HasUID == 0 {
		return nil
	}
	end := f.beforeExpires() - lenTime - len(`"`)
	if f.Flags&HasExpiry != 0 {
		end -= lenExpires
	}
	return f.Bytes[end-lenUID : end]
}

// Expires returns when the message expires; zero: never.
func (f *Frame) Expires() time.Time {
	if f.Flags&HasExpiry == 0 {
		return time.Time{}
	}
	end := f.beforeExpires() - len(`"`)
	t, err := time.Parse(timeFormat, string(f.Bytes[end-len(timeFormat):end]))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Expired reports whether the message has expired.
func (f *Frame) Expired(now time.Time) bool {
	t := f.Expires()
	return !t.IsZero() && !now.Before(t)
}

// Payload appends the message as it was sent: text as text, JSON as JSON, and anything else as
// base64, since an event stream carries only text.
func (f *Frame) Payload(b []byte) []byte {
	if msg := f.JSON(); msg[0] == '"' {
		return Unquote(b, msg)
	} else {
		return append(b, msg...)
	}
}

// AppendRaw appends the frame with the payload itself as data, in one data line per line of text.
// LF, CR and CRLF end a line (WHATWG HTML, 9.2.5); the listener gets each as LF.
func (f *Frame) AppendRaw(b []byte) []byte {
	b = append(b, f.IDLine()...)
	return f.appendRawBody(b)
}

func (f *Frame) appendRawBody(b []byte) []byte {
	b = append(b, f.EventLine()...)
	b = append(b, "data: "...)
	from := len(b)
	b = f.Payload(b)
	if bytes.ContainsAny(b[from:], "\r\n") {
		b = splitLines(b, from)
	}
	return append(b, "\n\n"...)
}

// splitLines rewrites b[from:] with "data: " after each line break.
func splitLines(b []byte, from int) []byte {
	text := bytes.Clone(b[from:])
	b = b[:from]
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\r', '\n':
			if c == '\r' && i+1 < len(text) && text[i+1] == '\n' {
				i++
			}
			b = append(b, "\ndata: "...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// AppendRetained appends the frame as a retained copy: with "retained":true, and without an id line,
// which would move the listener's last event id backwards.
func (f *Frame) AppendRetained(b []byte, raw bool) []byte {
	if raw {
		return f.appendRawBody(b)
	}
	b = append(b, f.EventLine()...)
	b = append(b, "data: "...)
	b = f.AppendRetainedData(b)
	return append(b, "\n\n"...)
}

// AppendRetainedData appends the JSON object of a retained copy: the frame's, with "retained":true.
func (f *Frame) AppendRetainedData(b []byte) []byte {
	data := f.Data()
	split := len(`{"id":"`) + len(f.ID()) + len(`",`)
	b = append(b, data[:split]...)
	b = append(b, `"retained":true,`...)
	return append(b, data[split:]...)
}
