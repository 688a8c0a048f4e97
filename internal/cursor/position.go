package cursor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Position is where a reader is in the log, and what is kept of the reader while it is away.
type Position struct {
	// Key names the position, such as "mqtt/" and a uid. It has 1 to MaxKey bytes.
	Key string

	// Subject and Name say whose the position is: the subject of the reader's token, and the name that the reader has given
	// itself. Both may be "".
	Subject, Name string

	// Filters are what the reader selects.
	Filters []Filter

	// Done is the position up to which everything is done. Read is the position up to which everything was
	// read, at least Done: of the messages between them those in Window are not done, and all others are.
	Done, Read store.Seq
	Window     []Unacked

	// Expiry is how long the position is kept while its reader is away. 0: not at all; negative, such as ForEver: for ever.
	Expiry time.Duration

	// Away is the time since which the reader is away. The zero time means that it is here.
	Away time.Time

	// Data is the reader's own.
	Data []byte

	// Epoch is the one of Done, Read and Window. If it is not the log's, the messages have other ids, and a
	// reader that goes on from ID gets a gap.
	Epoch string

	// Taken is set by Claim if it has ended the reader at another hub. It is not stored.
	Taken bool
}

// Filter is one of the filters of a reader, with options of the reader's own.
type Filter struct {
	Filter  string
	Options []byte
}

// Unacked is a message that was read and is not done. Tag and State are the reader's own.
type Unacked struct {
	Seq   store.Seq
	Tag   uint16
	State uint8
}

// ID returns Done as an id, after which the reader goes on.
func (p *Position) ID() store.ID { return store.ID{Epoch: p.Epoch, Seq: p.Done} }

// formatVersion is the first byte of an encoded position.
const formatVersion = 1

// ForEver is the Expiry of a position that does not expire.
const ForEver time.Duration = -1

// append appends the encoded position, with the hub that writes it.
func (p *Position) append(b []byte, hub string) []byte {
	expiry, away := p.Expiry.Milliseconds(), int64(0)
	if p.Expiry < 0 {
		expiry = int64(ForEver)
	}
	if !p.Away.IsZero() {
		away = p.Away.UnixMilli()
	}
	b = append(b, formatVersion)
	b = appendText(b, hub)
	b = appendText(b, p.Epoch)
	b = appendText(b, p.Subject)
	b = appendText(b, p.Name)
	b = binary.AppendUvarint(b, uint64(p.Done))
	b = binary.AppendUvarint(b, uint64(p.Read-p.Done))
	b = binary.AppendVarint(b, expiry)
	b = binary.AppendVarint(b, away)
	b = binary.AppendUvarint(b, uint64(len(p.Filters)))
	for i := range p.Filters {
		b = appendText(b, p.Filters[i].Filter)
		b = appendText(b, p.Filters[i].Options)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Window)))
	last := p.Done
	for _, u := range p.Window {
		b = binary.AppendVarint(b, int64(u.Seq-last))
		b = binary.AppendUvarint(b, uint64(u.Tag))
		b = append(b, u.State)
		last = u.Seq
	}
	return append(b, p.Data...)
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errCorrupt = errors.New("a stored position is corrupt")

// decode returns an encoded position, which shares no memory with b, and the hub that wrote it.
func decode(key string, b []byte) (p Position, hub string, err error) {
	r := reader{b: b}
	if v := r.byte(); !r.bad && v != formatVersion {
		return p, "", fmt.Errorf("position %q has the format %d, which this version does not know", key, v)
	}
	hub = string(r.bytes())
	p = Position{Key: key, Epoch: string(r.bytes()), Subject: string(r.bytes()), Name: string(r.bytes()), Done: store.Seq(r.number())}
	p.Read = p.Done + store.Seq(r.number())
	p.Expiry = max(time.Duration(r.signed())*time.Millisecond, ForEver)
	if away := r.signed(); away != 0 {
		p.Away = time.UnixMilli(away)
	}
	if n := r.count(2); n > 0 {
		p.Filters = make([]Filter, n)
	}
	for i := range p.Filters {
		f := &p.Filters[i]
		f.Filter = string(r.bytes())
		f.Options = append(f.Options, r.bytes()...)
	}
	if n := r.count(3); n > 0 {
		p.Window = make([]Unacked, n)
	}
	last := p.Done
	for i := range p.Window {
		u := &p.Window[i]
		u.Seq = last + store.Seq(r.signed())
		u.Tag = uint16(r.number())
		u.State = r.byte()
		last = u.Seq
	}
	p.Data = append(p.Data, r.b...)
	if r.bad {
		return Position{}, "", fmt.Errorf("%w: %q", errCorrupt, key)
	}
	return p, hub, nil
}

// holder returns the hub that wrote an encoded position.
func holder(b []byte) string {
	r := reader{b: b}
	r.byte()
	return string(r.bytes())
}

// reader reads an encoded position. bad is set once something is missing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() (c byte) {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c, r.b = r.b[0], r.b[1:]
	return c
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	r.skip(size)
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	r.skip(size)
	return n
}

func (r *reader) skip(size int) {
	if size <= 0 {
		r.bad, r.b = true, nil
		return
	}
	r.b = r.b[size:]
}

// count reads the length of a list whose elements take a number of bytes each, at least.
func (r *reader) count(each int) int {
	n := r.number()
	if n > uint64(len(r.b)/each) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) bytes() (b []byte) {
	n := r.count(1)
	b, r.b = r.b[:n], r.b[n:]
	return b
}
