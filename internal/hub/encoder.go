package hub

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// encoder encodes a publication as store entries. Encoders are pooled, and keep their buffers.
type encoder struct {
	ctx        context.Context
	maxMessage int      // largest body of a message, in bytes
	maxFrames  int      // largest size of all frames of a batch, in bytes
	size       int      // of the frames so far
	observer   Observer // or nil
	listens    bool     // whether the observer wants messages
	now        time.Time

	draft   Draft // the message being encoded: a field, to save an allocation for each message
	value   bytes.Buffer
	tails   []byte
	entries []store.Entry
	copies  []Message // for the embedding program, if it listens
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// maxPooled is the largest buffer, in bytes, that a pooled encoder keeps.
const maxPooled = 64 << 10

func (e *encoder) begin(ctx context.Context, h *Hub) {
	e.maxFrames = 2 * h.MaxBody(Lines)
	e.ctx, e.maxMessage, e.observer, e.now = ctx, h.opts.MaxMessage, h.opts.Observer, time.Now()
	e.listens = e.observer != nil && e.observer.Listens() // asked once, so that all messages are treated alike
}

func (e *encoder) put() {
	if e.value.Cap() > maxPooled || cap(e.tails) > maxPooled {
		return
	}
	clear(e.entries)
	clear(e.copies)
	*e = encoder{value: e.value, tails: e.tails[:0], entries: e.entries[:0], copies: e.copies[:0]}
	encoders.Put(e)
}

// encode encodes the messages of a publication: one, or one for each line or draft.
func (e *encoder) encode(p *Publication) error {
	switch {
	case p.Kind == Batch:
		return e.encodeBatch(p)
	case p.Kind == Lines:
		return e.encodeLines(p, "with a JSON value", func(line []byte) (Draft, error) { return p.draft(JSON, line), nil })
	}
	return e.add(p, p.draft(p.Kind, p.Body))
}

// encodeLines encodes a message for each line of the body that is not blank. draft parses a line.
func (e *encoder) encodeLines(p *Publication, want string, draft func(line []byte) (Draft, error)) error {
	err := lines(p.Body, func(n int, line []byte) error {
		d, err := draft(line)
		if err == nil {
			err = e.add(p, d)
		}
		if err == nil && e.size > e.maxFrames {
			err = &SizeError{"a batch, with the other members of its frames,", e.maxFrames}
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

// add encodes a message, unless the embedding program refuses it.
func (e *encoder) add(p *Publication, d Draft) error {
	if p.Kind == Batch { // the group of other kinds was checked once
		if err := p.Grant.CheckPublish(d.Group); err != nil {
			return err
		}
	}
	e.draft = d
	m, err := e.message(&e.draft, p.Program)
	if err != nil {
		return err
	}
	e.push(&m)
	if e.listens && !p.Program && !direct(e.draft.Group) {
		d = e.draft
		d.Data, d.Meta = bytes.Clone(d.Data), slices.Clone(d.Meta)
		e.copies = append(e.copies, Message{Draft: d, Time: e.now})
	}
	return nil
}

// message returns the store message of a draft, which the embedding program may change or refuse unless
// the program itself is the sender. Msg is valid until the next call.
func (e *encoder) message(d *Draft, program bool) (m store.Message, err error) {
	if len(d.Data) > e.maxMessage {
		return m, &SizeError{"a message", e.maxMessage}
	}
	if err := CheckMeta(d.Meta); err != nil {
		return m, err
	}
	if e.observer != nil && !program {
		was := d.Group
		if err := e.observer.Before(e.ctx, d); err != nil {
			return m, err
		}
		if was == "" {
			d.Group = "" // a message to the program alone stays one
		}
		if err := checkDraft(d, was); err != nil {
			return m, fmt.Errorf("after BeforePublish: %w", err)
		}
		if len(d.Data) > e.maxMessage {
			return m, fmt.Errorf("after BeforePublish: %w", &SizeError{"a message", e.maxMessage})
		}
	}
	m = store.Message{Group: d.Group, UID: d.UID, Event: d.Event, Meta: d.Meta, Time: e.now, Expires: expiry(d.TTL, e.now), Retain: d.Retain}
	kind := d.Kind
	if m.Retain && len(d.Data) == 0 {
		kind = Bytes // an empty body is an empty text, even if its Content-Type is JSON
	}
	e.value.Reset()
	m.Base64, err = appendValue(&e.value, kind, d.Data)
	m.Msg = e.value.Bytes()
	m.Clear = m.Retain && string(m.Msg) == `""`
	return m, err
}

// checkDraft checks the fields that a hook may have changed. was is the group before the hook.
func checkDraft(d *Draft, was string) error {
	if d.Group != was {
		if err := group.CheckClient(d.Group); err != nil {
			return err
		}
	}
	if err := CheckMeta(d.Meta); err != nil {
		return err
	}
	return CheckEvent(d.Event)
}

// push encodes a message as an entry. The tails of a publication share one buffer while it has room.
func (e *encoder) push(m *store.Message) {
	if e.tails == nil {
		e.tails = make([]byte, 0, len(m.Msg)+256)
	}
	entry := m.Entry(e.tails[len(e.tails):])
	if cap(e.tails)-len(e.tails) >= len(entry.Tail) {
		e.tails = e.tails[:len(e.tails)+len(entry.Tail)]
	} else {
		e.tails = make([]byte, 0, 2*cap(e.tails)+len(entry.Tail)) // earlier tails stay in the old buffer
	}
	e.entries = append(e.entries, entry)
	e.size += len(entry.Tail)
}
