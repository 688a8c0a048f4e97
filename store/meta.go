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
func (f *Frame) Meta() [][2]string {
	if f.Flags&HasMeta == 0 {
		return nil
	}
	meta, _ := readMeta(f.Data()[len(`{"id":"",`)+len(f.ID()):], f.Flags&HasEvent != 0)
	return meta
}

// readMeta reads the member meta, which follows group and event in the tail of an entry.
func readMeta(tail []byte, event bool) (meta [][2]string, ok bool) {
	r := metaReader{rest: tail}
	r.skip(`"group":`)
	r.quoted()
	if event {
		r.skip(`,"event":`)
		r.quoted()
	}
	r.skip(`,"meta":[`)
	for more := !r.bad; more; more = r.more() {
		r.skip(`[`)
		name := Unquote(nil, r.quoted())
		r.skip(`,`)
		value := Unquote(nil, r.quoted())
		r.skip(`]`)
		meta = append(meta, [2]string{string(name), string(value)})
	}
	r.skip(`]`)
	if r.bad {
		return nil, false
	}
	return meta, true
}

// metaReader reads JSON that appendMeta wrote.
type metaReader struct {
	rest []byte
	bad  bool // rest is not what appendMeta wrote
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
