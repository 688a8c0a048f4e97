package hub

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// encoder makes entries of a publication. Its buffers are used again.
type encoder struct {
	ctx      context.Context
	limit    int      // bytes of a message's body
	most     int      // bytes of the frames of a batch
	size     int      // of the frames so far
	observer Observer // or nil
	listens  bool     // the observer does
	now      time.Time

	draft   Draft // in hand: on the heap once, and not for each message
	value   bytes.Buffer
	tails   []byte
	entries []store.Entry
	heard   []Message // copies, if the hosting program listens
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// maxPooled is the largest buffer, in bytes, that is kept for the next publication.
const maxPooled = 64 << 10

func (e *encoder) begin(ctx context.Context, h *Hub) {
	e.most = 2 * h.MaxBody(Lines)
	e.ctx, e.limit, e.observer, e.now = ctx, h.opts.MaxMessage, h.opts.Observer, time.Now()
	e.listens = e.observer != nil && e.observer.Listens() // or not, for all of a publication
}

func (e *encoder) put() {
	if e.value.Cap() > maxPooled || cap(e.tails) > maxPooled {
		return
	}
	clear(e.entries)
	clear(e.heard)
	*e = encoder{value: e.value, tails: e.tails[:0], entries: e.entries[:0], heard: e.heard[:0]}
	encoders.Put(e)
}

// encode adds the messages of a publication: one, or one for each line or draft.
func (e *encoder) encode(p *Publication) error {
	switch {
	case p.Kind == Batch:
		return e.encodeBatch(p)
	case p.Kind == Lines:
		return e.encodeLines(p, "with a JSON value", func(line []byte) (Draft, error) { return p.draft(JSON, line), nil })
	}
	return e.add(p, p.draft(p.Kind, p.Body))
}

// encodeLines adds a message for each line of the body that is not blank. draft returns the message
// of a line.
func (e *encoder) encodeLines(p *Publication, want string, draft func(line []byte) (Draft, error)) error {
	err := lines(p.Body, func(n int, line []byte) error {
		d, err := draft(line)
		if err == nil {
			err = e.add(p, d)
		}
		if err == nil && e.size > e.most {
			err = &SizeError{"a batch with what its frames have beside it", e.most}
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		return nil
	})
	if err == nil && len(e.entries) == 0 {
		return &BodyError{"the body has no line " + want}
	}
	return err
}

// add adds a message, if the hosting program has nothing against it.
func (e *encoder) add(p *Publication, d Draft) error {
	e.draft = d
	m, err := e.message(&e.draft, p.Program)
	if err != nil {
		return err
	}
	e.push(&m)
	if e.listens && !p.Program && !direct(p.Group) {
		d = e.draft
		d.Data = bytes.Clone(d.Data)
		e.heard = append(e.heard, Message{Draft: d, Time: e.now})
	}
	return nil
}

// message makes a message of a draft, which the hosting program may refuse or change. Its Msg is
// good until the next.
func (e *encoder) message(d *Draft, program bool) (m store.Message, err error) {
	if len(d.Data) > e.limit {
		return m, &SizeError{"a message", e.limit}
	}
	if e.observer != nil && !program {
		was := d.Group
		if err := e.observer.Before(e.ctx, d); err != nil {
			return m, err
		}
		if err := checkDraft(d, was); err != nil {
			return m, fmt.Errorf("after BeforePublish: %w", err)
		}
		if len(d.Data) > e.limit {
			return m, fmt.Errorf("after BeforePublish: %w", &SizeError{"a message", e.limit})
		}
	}
	m = store.Message{Group: d.Group, UID: d.UID, Event: d.Event, Time: e.now, Retain: d.Retain}
	if d.TTL > 0 {
		m.Expires = e.now.Add(d.TTL)
	}
	kind := d.Kind
	if m.Retain && len(d.Data) == 0 {
		kind = Bytes // an empty body is an empty text, whatever type the request names
	}
	e.value.Reset()
	m.Base64, err = appendValue(&e.value, kind, d.Data)
	m.Msg = e.value.Bytes()
	m.Clear = m.Retain && string(m.Msg) == `""`
	return m, err
}

// checkDraft checks what a hook may have changed.
func checkDraft(d *Draft, was string) error {
	if d.Group != was {
		if err := group.CheckClient(d.Group); err != nil {
			return err
		}
	}
	return CheckEvent(d.Event)
}

// push encodes a message. The tails of one publication lie in one buffer while it lasts.
func (e *encoder) push(m *store.Message) {
	if e.tails == nil {
		e.tails = make([]byte, 0, len(m.Msg)+256)
	}
	entry := m.Entry(e.tails[len(e.tails):])
	if cap(e.tails)-len(e.tails) >= len(entry.Tail) {
		e.tails = e.tails[:len(e.tails)+len(entry.Tail)]
	} else {
		e.tails = make([]byte, 0, 2*cap(e.tails)+len(entry.Tail)) // earlier tails keep the old one
	}
	e.entries = append(e.entries, entry)
	e.size += len(entry.Tail)
}
