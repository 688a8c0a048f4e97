package store

import "bytes"

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
	if f.Flags&HasMeta == 0 {
		return nil
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
	for more := true; more && !r.bad; more = r.more() {
		var p [2]string
		r.skip(`[`)
		p[0] = r.text()
		r.skip(`,`)
		p[1] = r.text()
		r.skip(`]`)
		meta = append(meta, p)
	}
	if r.skip(`]`); r.bad {
		return nil
	}
	return meta
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

// text returns the text of the JSON string at the start of the rest.
func (r *metaReader) text() string {
	var buf [256]byte // saves an allocation
	return string(Unquote(buf[:0], r.quoted()))
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
