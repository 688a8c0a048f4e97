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

	// endPoll completes the answer to a poll. uid is that of the session that polls, or "".
	endPoll(next store.ID, uid string) error
}

// lineLister writes ndjson: a line for each message and, in its place, a line {"gap":…} for each gap. The answer to a
// poll ends with a line {"next":…}.
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

func (l *lineLister) endPoll(next store.ID, uid string) error {
	_, err := l.out.WriteString("{" + pollMembers(next, uid) + "}\n")
	return err
}

// pollMembers returns the last members of the answer to a poll.
func pollMembers(next store.ID, uid string) string {
	members := `"next":"` + next.String() + `"`
	if uid != "" {
		members += `,"uid":"` + uid + `"`
	}
	return members
}

// objectLister writes one JSON object. The gaps come after the messages, since they become known while
// the messages are read.
type objectLister struct {
	out   *bufio.Writer
	comma string // written before the next message
	buf   []byte
	gaps  []byte
	first int // length of the first gap
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
	if l.first == 0 {
		l.first = len(l.gaps)
	}
	return nil
}

func (l *objectLister) end(next *store.ID) error {
	if next == nil {
		return l.finish("")
	}
	return l.finish(`,"next":"` + next.String() + `"`)
}

func (l *objectLister) endPoll(next store.ID, uid string) error {
	return l.finish("," + pollMembers(next, uid))
}

// finish writes what follows the messages.
func (l *objectLister) finish(members string) error {
	if l.comma != ",\n" {
		_, _ = l.out.WriteString(l.comma)
	}
	_ = l.out.WriteByte(']')
	if len(l.gaps) > 0 {
		_, _ = l.out.WriteString(`,"gap":` + string(l.gaps[:l.first]) + `,"gaps":[` + string(l.gaps) + `]`)
	}
	_, err := l.out.WriteString(members + "}\n")
	return err
}
