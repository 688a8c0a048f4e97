package sse

import (
	"bytes"
	"io"
	"strconv"
	"time"
)

// frames is a stream's body in the one form that the engine reads right: each item of the Reader
// is a block of its own, whatever it was on the wire,
//
//	event: <kind><type>     so that none is without content, which the engine would drop
//	id: =<id>               never empty: the engine would put the last one there
//	retry: <milliseconds>
//	data: <data>            in one line: its LFs are written as 0xFF, which UTF-8 never has
//
// and each Read gives no more than one, since the engine looks through all it has read again for
// each read. An item that is not whole never becomes one.
type frames struct {
	io.Closer
	reader *Reader
	failed func(error) // is called with what the stream ended with, before Read returns it

	frame []byte // the beginning of buf: what is left of it
	buf   []byte
}

const lineBreak = 0xFF

func (f *frames) Read(p []byte) (int, error) {
	if len(f.frame) == 0 {
		it, err := f.reader.next()
		if err != nil {
			f.failed(err)
			return 0, err
		}
		f.buf = appendFrame(f.buf[:0], it)
		f.frame = f.buf
	}
	n := copy(p, f.frame)
	f.frame = f.frame[n:]
	return n, nil
}

func appendFrame(b []byte, it item) []byte {
	b = append(b, "event: "...)
	b = append(b, byte(it.kind))
	b = append(b, it.Type...)
	b = append(b, "\nid: ="...)
	b = append(b, it.ID...)
	if it.kind == itemRetry {
		b = append(b, "\nretry: "...)
		b = strconv.AppendInt(b, it.retry.Milliseconds(), 10)
	}
	b = append(b, "\ndata: "...)
	from := len(b)
	b = append(b, it.Data...)
	replace(b[from:], '\n', lineBreak)
	return append(b, "\n\n"...)
}

// unframe is the reverse of appendFrame. It takes the data over.
func unframe(event, id, data, retry []byte) item {
	replace(data, lineBreak, '\n')
	it := item{kind: itemKind(event[0])}
	it.Type, it.ID, it.Data = string(event[1:]), string(id[1:]), data
	if ms, err := strconv.ParseInt(string(retry), 10, 64); err == nil {
		it.retry = time.Duration(ms) * time.Millisecond
	}
	return it
}

// replace replaces a byte in place.
func replace(p []byte, before, after byte) {
	for {
		i := bytes.IndexByte(p, before)
		if i < 0 {
			return
		}
		p[i] = after
		p = p[i+1:]
	}
}
