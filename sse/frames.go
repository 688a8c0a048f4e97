package sse

import (
	"bytes"
	"io"
	"strconv"
	"time"
)

// frames translates a stream's body into the one form that the engine reads correctly. Each item of
// the Reader becomes one block:
//
//	event: <kind><type>     never empty: the engine would drop the block
//	id: =<id>               never empty: the engine would use the previous id
//	retry: <milliseconds>
//	data: <data>            one line: LF is written as 0xFF, a byte that UTF-8 never contains
//
// Each Read returns one block at most, because the engine searches everything it has read again after
// each read. An incomplete item does not become a block.
type frames struct {
	io.Closer
	reader *Reader
	failed func(error) // called with the error that ended the stream, before Read returns it

	frame []byte // the part of buf that Read has not returned yet
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

// unframe is the reverse of appendFrame. It changes data in place and keeps it.
func unframe(event, id, data, retry []byte) item {
	replace(data, lineBreak, '\n')
	it := item{kind: itemKind(event[0])}
	it.Type, it.ID, it.Data = string(event[1:]), string(id[1:]), data
	if ms, err := strconv.ParseInt(string(retry), 10, 64); err == nil {
		it.retry = time.Duration(ms) * time.Millisecond
	}
	return it
}

// replace replaces all bytes of one value in place.
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
