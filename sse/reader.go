package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// DefaultMaxEventSize is how large, in bytes, an event may be where nothing else is said: 16 MiB.
const DefaultMaxEventSize = 16 << 20

// Event is one event of a stream.
type Event struct {
	// ID is the last event id as it stands after this event: its own, or the one that an earlier
	// event set (WHATWG HTML, 9.2.6).
	ID string

	// Type is the event's name, "message" where the stream gives none. It is never empty.
	Type string

	// Data is the event's payload, in valid UTF-8, its lines joined by LF. It belongs to whoever
	// receives the event.
	Data []byte
}

// Reader reads the events of a stream as WHATWG HTML says, 9.2.5 and 9.2.6, in time linear in the
// stream's length. The line end that completes an event is enough to have it: after a CR it does
// not wait for the LF that may follow. An event that the stream's end cuts short is dropped.
//
// The fields may be set before the first Read. One goroutine at a time may use a Reader.
type Reader struct {
	// MaxEventSize bounds an event's data, its type and its id, each in bytes; 0 means
	// DefaultMaxEventSize. It is also what a Reader may take of memory, some three times over.
	MaxEventSize int

	// LastEventID is the id to resume after, as the last whole block left it: moved by a block
	// without data too, and never by one that was cut short. Set it before the first Read to
	// carry on where an earlier stream ended.
	LastEventID string

	// OnComment, if set, hears of comments, as text after the colon. A comment much larger than
	// MaxEventSize is cut. Read calls it, between the events that the comment stands between.
	OnComment func(text string)

	// OnRetry, if set, hears of reconnection times, in the same way.
	OnRetry func(time.Duration)

	src      io.Reader
	buf      []byte
	pos, end int   // buf[pos:end] is read and not yet looked at
	err      error // src's: comes after what is in buf

	line    []byte // the beginning of a line that is not whole in buf
	cut     bool   // the line is longer than that: its end is dropped
	afterCR bool   // an LF now would belong to the line end before
	begun   bool   // the first line is over

	id, typ  string // the block so far: the spec's buffers
	data     []byte // each line ends with LF
	tooLarge bool
}

// NewReader returns a Reader of what r gives. It takes a few kilobytes at a time from r, and hands
// an event out as soon as r has given all of it.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: r, buf: make([]byte, 4<<10)}
}

// Read returns the next event, waiting for it as long as the underlying reader does.
//
// An event larger than MaxEventSize is skipped: Read returns an error that is ErrEventTooLarge,
// with the event's id and type, and the next Read goes on behind it. Any other error is the
// underlying reader's and final; io.EOF at its end, whether or not it cut an event short.
func (r *Reader) Read() (Event, error) {
	for {
		it, err := r.next()
		if err != nil {
			return Event{}, err
		}
		switch it.kind {
		case itemEvent:
			return it.Event, nil
		case itemTooLarge:
			return it.Event, tooLargeError(it, r.MaxEventSize)
		case itemComment:
			if r.OnComment != nil {
				r.OnComment(string(it.Data))
			}
		case itemRetry:
			if r.OnRetry != nil {
				r.OnRetry(it.retry)
			}
		}
	}
}

// All returns the events until the stream ends, for a range loop. An event that is too large is
// given as its error, and the loop goes on; any other error but io.EOF is given last.
func (r *Reader) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			ev, err := r.Read()
			if err == io.EOF || !yield(ev, err) {
				return
			}
			if err != nil && !errors.Is(err, ErrEventTooLarge) {
				return
			}
		}
	}
}

// itemKind tells what an item is.
type itemKind byte

const (
	itemEvent    itemKind = 'e'
	itemTooLarge itemKind = 'x' // an event that was skipped: ID and Type
	itemComment  itemKind = 'c' // Data: its text
	itemRetry    itemKind = 'r' // retry
	itemID       itemKind = 'i' // a block without data that moved the last event id: ID
	itemOpen     itemKind = 'o' // the Client's: the response's header is there
)

// item is one thing that a stream says, in the order in which it says it.
type item struct {
	kind itemKind
	Event
	retry time.Duration
}

// next returns the stream's next item.
func (r *Reader) next() (item, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return item{}, err
		}
		if it, ok := r.take(line); ok {
			return it, nil
		}
	}
}

// readLine returns the next line without its end. It is valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	r.line, r.cut = r.line[:0], false
	for {
		if r.pos == r.end {
			if err := r.fill(); err != nil {
				return nil, err
			}
		}
		if r.afterCR {
			r.afterCR = false
			if r.buf[r.pos] == '\n' {
				r.pos++
				continue
			}
		}
		chunk := r.buf[r.pos:r.end]
		i := lineEnd(chunk)
		if i < 0 {
			r.pos = r.end
			r.line = append(r.line, r.fit(chunk)...)
			continue
		}
		r.pos += i + 1
		r.afterCR = chunk[i] == '\r'
		if len(r.line) == 0 {
			return r.fit(chunk[:i]), nil // whole in buf: nothing to copy
		}
		r.line = append(r.line, r.fit(chunk[:i])...)
		return r.line, nil
	}
}

// lineEnd returns where the first CR or LF of p is, or -1. It is bytes.IndexAny, several times as
// fast; where only CRs end lines it looks at what is left of the buffer again for each.
func lineEnd(p []byte) int {
	lf := bytes.IndexByte(p, '\n')
	if lf >= 0 {
		p = p[:lf]
	}
	if cr := bytes.IndexByte(p, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// fit returns what of p may still be added to the line. The bound leaves room for a field's name,
// so that a line that was cut has a value that is too large.
func (r *Reader) fit(p []byte) []byte {
	const name = 16
	if room := min(r.limit(), math.MaxInt-name) + name - len(r.line); len(p) > room {
		r.cut = true
		p = p[:room]
	}
	return p
}

func (r *Reader) fill() error {
	for tries := 0; r.err == nil; tries++ {
		if tries == 100 {
			r.err = io.ErrNoProgress
			break
		}
		var n int
		n, r.err = r.src.Read(r.buf)
		if n > 0 {
			r.pos, r.end = 0, n
			return nil
		}
	}
	return r.err
}

// take processes a line. It returns an item and true if the line completes one.
func (r *Reader) take(line []byte) (item, bool) {
	if !r.begun {
		r.begun = true
		r.id = r.LastEventID
		line = bytes.TrimPrefix(line, []byte("\uFEFF"))
	}
	if len(line) == 0 {
		return r.dispatch()
	}
	name, value, colon := bytes.Cut(line, []byte(":"))
	if colon && len(name) == 0 {
		return item{kind: itemComment, Event: Event{Data: bytes.Clone(decodeUTF8(value))}}, true
	}
	value = bytes.TrimPrefix(value, []byte(" "))
	if string(name) == "retry" {
		d, ok := parseRetry(value)
		return item{kind: itemRetry, retry: d}, ok && !r.cut
	}
	r.field(string(name), decodeUTF8(value))
	return item{}, false
}

// field adds a field to the block.
func (r *Reader) field(name string, value []byte) {
	switch tooLarge := r.cut || len(value) > r.limit(); name {
	case "data":
		if r.tooLarge = r.tooLarge || tooLarge || len(value) > r.limit()-len(r.data); r.tooLarge {
			r.data = nil
			return
		}
		r.data = append(slices.Grow(r.data, len(value)+1), value...)
		r.data = append(r.data, '\n')
	case "event":
		if r.tooLarge = r.tooLarge || tooLarge; !tooLarge {
			r.typ = string(value)
		}
	case "id":
		if bytes.IndexByte(value, 0) >= 0 {
			return
		}
		if r.tooLarge = r.tooLarge || tooLarge; !tooLarge {
			r.id = string(value)
		}
	}
}

// dispatch ends the block. The id is committed even where nothing is fired, also for an event
// that is skipped: resuming before it would meet it again and again.
func (r *Reader) dispatch() (item, bool) {
	moved := r.id != r.LastEventID
	r.LastEventID = r.id
	it := item{kind: itemEvent, Event: Event{ID: r.id, Type: r.typ, Data: r.data}}
	tooLarge := r.tooLarge
	r.typ, r.data, r.tooLarge = "", nil, false
	if it.Type == "" {
		it.Type = "message"
	}
	switch {
	case tooLarge:
		it.kind, it.Data = itemTooLarge, nil
		return it, true
	case len(it.Data) > 0:
		it.Data = it.Data[:len(it.Data)-1]
		return it, true
	}
	return item{kind: itemID, Event: Event{ID: it.ID}}, moved
}

func (r *Reader) limit() int { return limit(r.MaxEventSize) }

func limit(maxEventSize int) int {
	if maxEventSize <= 0 {
		return DefaultMaxEventSize
	}
	return maxEventSize
}

func tooLargeError(it item, maxEventSize int) error {
	return fmt.Errorf("%w: over %d bytes (type %q, id %q)", ErrEventTooLarge, limit(maxEventSize), it.Type, it.ID)
}

// parseRetry reads milliseconds: ASCII digits and nothing else. Too many are as many as there are.
func parseRetry(value []byte) (time.Duration, bool) {
	if len(value) == 0 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	const most = math.MaxInt64 / int64(time.Millisecond)
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || ms > most {
		ms = most
	}
	return time.Duration(ms) * time.Millisecond, true
}

// decodeUTF8 is UTF-8 decode of the WHATWG Encoding Standard: each maximal part of p that begins
// no character becomes one U+FFFD. (The standard library replaces a run of bytes, or each byte.)
// Decoding line by line is the same as decoding the stream, since CR and LF begin and end
// nothing but themselves.
func decodeUTF8(p []byte) []byte {
	if utf8.Valid(p) {
		return p
	}
	out := make([]byte, 0, len(p)+len(p)/2)
	for len(p) > 0 {
		if c, n := utf8.DecodeRune(p); c != utf8.RuneError || n > 1 {
			out = append(out, p[:n]...)
			p = p[n:]
			continue
		}
		out = append(out, "\uFFFD"...)
		p = p[brokenRune(p):]
	}
	return out
}

// brokenRune returns how many bytes of p, which begins with no whole character, are the beginning
// of one, and at least 1.
func brokenRune(p []byte) int {
	need, low, high := 0, byte(0x80), byte(0xBF)
	switch c := p[0]; {
	case c >= 0xC2 && c <= 0xDF:
		need = 1
	case c >= 0xE0 && c <= 0xEF:
		need = 2
	case c >= 0xF0 && c <= 0xF4:
		need = 3
	}
	switch p[0] { // neither overlong, nor a surrogate, nor beyond U+10FFFF
	case 0xE0:
		low = 0xA0
	case 0xED:
		high = 0x9F
	case 0xF0:
		low = 0x90
	case 0xF4:
		high = 0x8F
	}
	n := 1
	for n <= need && n < len(p) && p[n] >= low && p[n] <= high {
		n, low, high = n+1, 0x80, 0xBF
	}
	return n
}
