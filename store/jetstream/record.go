package jetstream

import (
	"encoding/binary"
	"hash/crc32"
	"time"
	"unsafe"

	"github.com/watchbox-go/watchbox/store"
)

// recordVersion is the first byte of a record.
const recordVersion = 1

// The flags of a record.
const (
	isNote    = 1 << iota // it is a note, else a message
	isRemoval             // of a note: it is removed
	hasMore               // the next record is of the same append
	isRetain              // of a message
	isClear
	isBase64
	hasMeta
	isAgain // of a note: it is the version that the stream had elsewhere before
)

// The sizes of the fixed parts.
const (
	recordHead = 20
	recordCRC  = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a message or a note as the stream has it. doc.go draws its bytes. The strings and slices of a
// decoded record lie in the bytes that it was decoded from, which must not change.
type record struct {
	flags byte
	by    appendID
	index int // how many records of the same append come before this one

	entry store.Entry  // of a message
	brief []store.Note // notes that are kept with a message; Key and Value are set

	key     string    // of a note
	value   []byte    // if isRemoval: store.Note.Why
	prev    store.Seq // the version of the note that this one replaces, or 0
	was     store.Seq // if isAgain: where the version was at first, which is written in place of prev
	version uint64    // how many versions of the note there were, with this one

	seq   store.Seq // where it is in the stream; not part of its bytes
	place place     // of a note: the same, and more
}

// appendID identifies an append among those of all hubs.
type appendID struct {
	log    uint64 // random, of the Log that appends
	number uint64 // of the append, from 1
}

func (r *record) is(flag byte) bool { return r.flags&flag != 0 }

// encode appends the record to b.
func (r *record) encode(b []byte) []byte {
	start := len(b)
	b = append(b, recordVersion, r.flags)
	b = binary.LittleEndian.AppendUint64(b, r.by.log)
	b = binary.LittleEndian.AppendUint64(b, r.by.number)
	b = binary.LittleEndian.AppendUint16(b, uint16(r.index))
	if r.is(isNote) {
		before := r.prev
		if r.is(isAgain) {
			before = r.was
		}
		b = binary.AppendUvarint(b, uint64(before))
		b = binary.AppendUvarint(b, r.version)
		b = appendField(b, r.key)
		b = append(b, r.value...)
	} else {
		b = r.encodeMessage(b)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func (r *record) encodeMessage(b []byte) []byte {
	e := &r.entry
	b = binary.AppendVarint(b, e.Time.UnixMilli())
	expires := int64(0)
	if !e.Expires.IsZero() {
		expires = e.Expires.UnixMilli()
	}
	b = binary.AppendVarint(b, expires)
	b = appendField(b, e.Group)
	b = appendField(b, e.Event)
	b = appendField(b, e.UID)
	b = binary.AppendUvarint(b, uint64(len(r.brief)))
	for _, n := range r.brief {
		b = appendField(b, n.Key)
		b = appendField(b, n.Value)
	}
	b = binary.AppendUvarint(b, uint64(e.Msg))
	return append(b, e.Tail...)
}

func appendField[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decode reads the record from b. It returns store.ErrCorrupt unless b is exactly what encode wrote.
func (r *record) decode(b []byte) error {
	if len(b) < recordHead+recordCRC || b[0] != recordVersion {
		return store.ErrCorrupt
	}
	body := b[:len(b)-recordCRC]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(body):]) {
		return store.ErrCorrupt
	}
	*r = record{flags: body[1], brief: r.brief[:0]}
	r.by = appendID{binary.LittleEndian.Uint64(body[2:]), binary.LittleEndian.Uint64(body[10:])}
	r.index = int(binary.LittleEndian.Uint16(body[18:]))
	p := parser{b: body[recordHead:]}
	if r.is(isNote) {
		r.prev, r.version = store.Seq(p.uvarint()), p.uvarint()
		if r.is(isAgain) {
			r.prev, r.was = 0, r.prev
		}
		r.key = p.text()
		r.value = p.b
	} else {
		r.decodeMessage(&p)
	}
	if p.bad {
		return store.ErrCorrupt
	}
	return nil
}

func (r *record) decodeMessage(p *parser) {
	e := &r.entry
	e.Time = time.UnixMilli(p.varint())
	if expires := p.varint(); expires != 0 {
		e.Expires = time.UnixMilli(expires)
	}
	e.Group, e.Event, e.UID = p.text(), p.text(), p.text()
	for n := p.uvarint(); n > 0 && !p.bad; n-- {
		r.brief = append(r.brief, store.Note{Key: p.text(), Value: p.field()})
	}
	e.Retain, e.Clear, e.Base64, e.HasMeta = r.is(isRetain), r.is(isClear), r.is(isBase64), r.is(hasMeta)
	e.Msg = int(p.uvarint())
	e.Tail = p.b
	p.bad = p.bad || e.Msg > len(e.Tail)
}

// messageFlags returns the flags of a message.
func messageFlags(m *store.Message) (f byte) {
	if m.Retain {
		f |= isRetain
	}
	if m.Clear {
		f |= isClear
	}
	if m.Base64 {
		f |= isBase64
	}
	if len(m.Meta) > 0 {
		f |= hasMeta
	}
	return f
}

// parser reads fields from the front of b.
type parser struct {
	b   []byte
	bad bool // b ended early
}

func (p *parser) uvarint() uint64 {
	n, size := binary.Uvarint(p.b)
	if size <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[size:]
	return n
}

func (p *parser) varint() int64 {
	n, size := binary.Varint(p.b)
	if size <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[size:]
	return n
}

func (p *parser) field() []byte {
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		p.bad, p.b = true, nil
		return nil
	}
	f := p.b[:n:n]
	p.b = p.b[n:]
	return f
}

// text is field as a string that lies in the same bytes.
func (p *parser) text() string {
	f := p.field()
	return unsafe.String(unsafe.SliceData(f), len(f))
}
