package api

import (
	"bufio"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
)

// lister writes messages and gaps as they are read, in one of the media types of history.
type lister interface {
	message(f *store.Frame) error
	retained(f *store.Frame) error
	gap(g delivery.Gap) error

	// end completes the answer. next is the id after which to continue, or nil.
	end(next *store.ID) error
}

// lineLister writes ndjson: a line for each message and, in its place, a line {"gap":…} for each gap.
type lineLister struct {
	out *bufio.Writer
	buf []byte
}

func (l *lineLister) message(f *store.Frame) error {
	_, _ = l.out.Write(f.Data()) // a bufio.Writer keeps its first error
	return l.out.WriteByte('\n')
}

func (l *lineLister) retained(f *store.Frame) error {
	l.buf = append(f.AppendRetainedData(l.buf[:0]), '\n')
	_, err := l.out.Write(l.buf)
	return err
}

func (l *lineLister) gap(g delivery.Gap) error {
	_, err := l.out.Write(append(g.AppendJSON([]byte(`{"gap":`)), "}\n"...))
	return err
}

func (l *lineLister) end(*store.ID) error { return nil }

// objectLister writes one JSON object. The gaps come after the messages, since they become known while
// the messages are read.
type objectLister struct {
	out   *bufio.Writer
	comma string // written before the next message
	buf   []byte
	gaps  []byte
}

func (l *objectLister) message(f *store.Frame) error { return l.add(f.Data()) }

func (l *objectLister) retained(f *store.Frame) error {
	l.buf = f.AppendRetainedData(l.buf[:0])
	return l.add(l.buf)
}

func (l *objectLister) add(data []byte) error {
	_, _ = l.out.WriteString(l.comma)
	l.comma = ",\n"
	_, err := l.out.Write(data)
	return err
}

func (l *objectLister) gap(g delivery.Gap) error {
	if len(l.gaps) > 0 {
		l.gaps = append(l.gaps, ',')
	}
	l.gaps = g.AppendJSON(l.gaps)
	return nil
}

func (l *objectLister) end(next *store.ID) error {
	if l.comma != ",\n" {
		_, _ = l.out.WriteString(l.comma)
	}
	_ = l.out.WriteByte(']')
	if len(l.gaps) > 0 {
		_, _ = l.out.WriteString(`,"gaps":[` + string(l.gaps) + `]`)
	}
	if next != nil {
		_, _ = l.out.WriteString(`,"next":"` + next.String() + `"`)
	}
	_, err := l.out.WriteString("}\n")
	return err
}
