package store

import (
	"bytes"
	"iter"
)

// appendMeta appends the member meta of a message, if it has any pairs.
func appendMeta(b []byte, meta [][2]string) []byte {
	if len(meta) == 0 {
		return b
	}
	b = append(b, `,"meta":`...)
	sep := byte('[')
	for _, p := range meta {
		b = append(b, sep, '[')
		b = AppendQuote(b, p[0])
		b = append(b, ',')
		b = AppendQuote(b, p[1])
		b = append(b, ']')
		sep = ','
	}
	return append(b, ']')
}

// Meta returns the message's metadata, or nil.
func (f *Frame) Meta() (meta [][2]string) {
	whole := f.eachMeta(func(name, value []byte) bool {
		meta = append(meta, [2]string{unquoted(name), unquoted(value)})
		return true
	})
	if !whole {
		return nil
	}
	return meta
}

// QuotedMeta yields the names and values of the metadata as JSON strings, which lie in Bytes.
func (f *Frame) QuotedMeta() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) { f.eachMeta(yield) }
}

// eachMeta is QuotedMeta. It returns false if the frame is damaged, or if yield does.
func (f *Frame) eachMeta(yield func(name, value []byte) bool) bool {
	if f.Flags&HasMeta == 0 {
		return true
	}
	r := metaReader{rest: f.Data()}
	r.skip(`{"id":`)
	r.quoted()
	r.skip(`,"group":`)
	r.quoted()
	if f.Flags&HasEvent != 0 {
		r.skip(`,"event":`)
		r.quoted()
	}
	r.skip(`,"meta":[`)
	for more := true; more; more = r.more() {
		r.skip(`[`)
		name := r.quoted()
		r.skip(`,`)
		value := r.quoted()
		if r.skip(`]`); r.bad || !yield(name, value) {
			return false
		}
	}
	r.skip(`]`)
	return !r.bad
}

// metaReader reads the JSON of a frame up to its metadata.
type metaReader struct {
	rest []byte
	bad  bool // the frame is damaged
}

func (r *metaReader) skip(text string) {
	rest, ok := bytes.CutPrefix(r.rest, []byte(text))
	r.rest, r.bad = rest, r.bad || !ok
}

// more skips the comma before another pair.
func (r *metaReader) more() bool {
	if r.bad || len(r.rest) == 0 || r.rest[0] != ',' {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// quoted returns the JSON string at the start of the rest, with its quotes.
func (r *metaReader) quoted() []byte {
	for i := 1; i < len(r.rest) && r.rest[0] == '"'; i++ {
		switch r.rest[i] {
		case '\\':
			i++
		case '"':
			s := r.rest[:i+1]
			r.rest = r.rest[i+1:]
			return s
		}
	}
	r.bad = true
	return []byte(`""`)
}

// unquoted returns the text of a JSON string.
func unquoted(quoted []byte) string {
	var buf [256]byte // saves an allocation
	return string(Unquote(buf[:0], quoted))
}
