package jetstream

import (
	"context"
	"errors"

	"github.com/watchbox-go/watchbox/store"
)

// cursor reads the messages of one group up to a position. It merges its subjects. A server that lags may answer, and not have the
// last messages.
type cursor struct {
	l          *Log
	group      string
	after, end store.Seq
	exact      bool // next returns errBehind rather than miss the last messages
	parts      [len(messageKinds)]part
}

// part has the next messages of a subject. All of them up to through are in the list.
type part struct {
	window
	read bool // to the end
}

var errBehind = errors.New("a server does not have all messages of a group yet")

// next returns the next message, or nil.
func (c *cursor) next(ctx context.Context) (*stored, error) {
	var next *part
	for i := range c.parts {
		p := &c.parts[i]
		for len(p.list) == 0 && !p.read {
			if err := c.fetch(ctx, p, c.l.subjects.message(c.group, messageKinds[i])); err != nil {
				return nil, err
			}
		}
		if len(p.list) > 0 && (next == nil || p.list[0].seq < next.list[0].seq) {
			next = p
		}
	}
	if next == nil || next.list[0].seq > c.end {
		return nil, nil
	}
	m := &next.list[0]
	next.list = next.list[1:]
	return m, nil
}

func (c *cursor) fetch(ctx context.Context, p *part, subject string) error {
	from := max(p.through, c.after) + 1
	p.list = nil
	before := p.through
	err := p.window.fetch(ctx, c.l, request{Seq: from, Batch: windowMessages, MaxBytes: windowBytes, Next: subject})
	p.read = p.through == before || p.through >= c.end
	if err == nil && c.exact && p.through == before {
		err = c.confirmEnd(ctx, subject, from)
	}
	return err
}

// confirmEnd returns errBehind if the leader of the stream has messages from a position on, where another server has none.
func (c *cursor) confirmEnd(ctx context.Context, subject string, from store.Seq) error {
	m, err := c.l.nextMessage(ctx, subject, from)
	if err == nil && m != nil && store.Seq(m.Seq) <= c.end {
		return errBehind
	}
	return err
}
