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

// DefaultMaxEventSize is the default bound of an event, in bytes: 16 MiB.
const DefaultMaxEventSize = 16 << 20

// Event is one event of a stream.
type Event struct {
	// ID is the last event id after this event: the event's own id or, if it has none, that of an
	// earlier event (WHATWG HTML, 9.2.6).
	ID string

	// Type is the event's name, or "message" if it has none. It is never empty.
	Type string

	// Data is the event's payload, in valid UTF-8, its lines joined by LF. The receiver may change it.
	Data []byte
}

// Reader reads the events of a stream as WHATWG HTML, 9.2.5 and 9.2.6, describes, in time linear in the
// stream's length. It returns an event as soon as its last line ends: after a CR it does not wait for
// an LF that may follow. It drops an event that the end of the stream cuts off.
//
// Set the fields before the first Read. One goroutine at a time may use a Reader.
type Reader struct {
	// MaxEventSize bounds an event's data, its type and its id, each in bytes; 0 means
	// DefaultMaxEventSize. A Reader may take about three times as much memory.
	MaxEventSize int

	// LastEventID is the id to resume after. Each complete block sets it, even one without data. An
	// incomplete block does not. Set it before the first Read to continue an earlier stream.
	LastEventID string

	// OnComment, if set, is called with the text of each comment, after the colon. A comment much larger
	// than MaxEventSize is truncated. Read calls it in the order of the stream.
	OnComment func(text string)

	// OnRetry, if set, is called with each reconnection time, in the same way.
	OnRetry func(time.Duration)

	src      io.Reader
	buf      []byte
	pos, end int   // buf[pos:end] is read and not parsed yet
	err      error // of src; returned after what is in buf

	line    []byte // the beginning of a line that is not whole in buf
	cut     bool   // the line was longer than the bound: its end is dropped
	afterCR bool   // an LF now would belong to the previous line end
	begun   bool   // the first line was parsed

	id, typ  string // the block so far: the spec's buffers
	data     []byte // each line ends with LF
	tooLarge bool
}

// NewReader returns a Reader of r. It reads a few kilobytes at a time, and returns an event as soon as
// it has read all of it.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: r, buf: make([]byte, 4<<10)}
}

// Read returns the next event. It waits for it as long as the underlying reader does.
//
// For an event larger than MaxEventSize, Read returns an error that is ErrEventTooLarge, with the
// event's id and type; the next Read continues after it. Any other error comes from the underlying
// reader and is final: io.EOF at the end, even if the last event is incomplete.
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

// All returns the events of the stream for a range loop. For an event that is too large it yields the
// error, and the loop continues. Any other error but io.EOF ends the loop and is yielded last.
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

// itemKind is the kind of an item.
type itemKind byte

const (
	itemEvent    itemKind = 'e'
	itemTooLarge itemKind = 'x' // an event that was skipped: ID and Type
	itemComment  itemKind = 'c' // Data: its text
	itemRetry    itemKind = 'r' // retry
	itemID       itemKind = 'i' // a block without data that moved the last event id: ID
	itemOpen     itemKind = 'o' // only from the engine: the response header was received
)

// item is one element of a stream: an event, a comment, a reconnection time or an id.
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

// lineEnd returns the index of the first CR or LF in p, or -1. It is the same as bytes.IndexAny, but several
// times as fast. If lines end with CR only, it searches the rest of the buffer again for each line.
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

// fit returns the part of p that may still be added to the line. The bound leaves room for a field's
// name, so that the value of a truncated line is always too large.
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

// dispatch ends the block. It sets the last event id even if the block has no data. It also sets it for an
// event that is skipped: otherwise a client that resumes would receive that event again and again.
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

// parseRetry parses milliseconds: ASCII digits and nothing else. A number that is too large becomes the
// largest one.
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

// decodeUTF8 is "UTF-8 decode" of the WHATWG Encoding Standard: it replaces each maximal invalid part of
// p with one U+FFFD. (The standard library replaces a run of bytes, or each byte.) Decoding line by line
// gives the same result as decoding the whole stream, because CR and LF are never part of another
// character.
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

// brokenRune returns how many bytes at the beginning of p, which is not a valid character, belong to one
// that is incomplete. It returns at least 1.
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
