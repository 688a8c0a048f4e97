package hub

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox/store"
)

// Kind says how a body becomes messages.
type Kind int

// The kinds of body.
const (
	Bytes Kind = iota // one message: UTF-8 as a JSON string, anything else as base64
	JSON              // one message: the JSON value
	Lines             // a message for each line, which is a JSON value
	Batch             // a message for each line, which is a JSON object that also names the group
)

// batch reports whether each line of such a body is a message.
func (k Kind) batch() bool { return k == Lines || k == Batch }

// MaxLines is the largest number of lines in a batch. It is bounded because each line takes a few
// hundred bytes besides its text until the batch is stored, and a batch is stored under one lock.
const MaxLines = 10_000

// ErrTooManyLines reports a batch of more than MaxLines lines.
var ErrTooManyLines = fmt.Errorf("a batch has at most %d lines: send the rest in another request", MaxLines)

// countLines returns the number of lines in a body.
func countLines(body []byte) int {
	n := bytes.Count(body, []byte("\n"))
	if len(body) > 0 && body[len(body)-1] != '\n' {
		n++
	}
	return n
}

// BodyError reports an invalid body. Its text is for the client.
type BodyError struct{ Why string }

func (e *BodyError) Error() string { return e.Why }

// SizeError reports a body that is too large.
type SizeError struct {
	What string // what the body holds, such as "a message"
	Max  int    // bytes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the body is too large: %s has at most %d bytes", e.What, e.Max)
}

// TooLarge returns the SizeError for a body of the kind k that is larger than MaxBody.
func (h *Hub) TooLarge(k Kind) error {
	if k.batch() {
		return &SizeError{"a batch", h.MaxBody(k)}
	}
	return &SizeError{"a message", h.MaxBody(k)}
}

// MaxBody returns the largest body of the kind k, in bytes.
func (h *Hub) MaxBody(k Kind) int {
	if k.batch() {
		return max(h.opts.MaxMessage, h.opts.MaxBatch)
	}
	return h.opts.MaxMessage
}

// appendValue appends a message's body to b as a compact JSON value. The value has no line break,
// since a line break would end the field of the event. appendValue reports whether the value is base64.
func appendValue(b *bytes.Buffer, kind Kind, body []byte) (isBase64 bool, err error) {
	switch {
	case kind != Bytes:
		return false, compact(b, body)
	case utf8.Valid(body):
		b.Grow(len(body) + len(`""`))
		b.Write(store.AppendQuote(b.AvailableBuffer(), body))
		return false, nil
	}
	b.WriteByte('"')
	b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), body))
	b.WriteByte('"')
	return true, nil
}

func compact(b *bytes.Buffer, body []byte) error {
	if !utf8.Valid(body) {
		return &BodyError{"the body is not valid JSON: it is not UTF-8"}
	}
	if err := json.Compact(b, body); err != nil {
		return &BodyError{"the body is not valid JSON: " + err.Error() + " (send text as text/plain)"}
	}
	return nil
}

// lines calls yield with the number and text of each line that is not blank.
func lines(body []byte, yield func(n int, line []byte) error) error {
	n := 0
	for line := range bytes.Lines(body) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := yield(n, line); err != nil {
			return err
		}
	}
	return nil
}
