package hub

import (
	"context"
	"errors"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Publication is a request to append.
type Publication struct {
	Group  string
	UID    string // the sender's session; "" for none
	Event  string
	TTL    time.Duration
	Retain bool
	Kind   Kind
	Body   []byte
	Batch  []Draft // with the kind Batch, instead of a body: what the hosting program publishes

	// Program is set where the hosting program publishes: it hears nothing of its own, and asks
	// itself for no leave.
	Program bool

	// Key makes a repeated request answer as the first did. It is the sender's own: From says
	// whose, where there is no UID.
	Key, From string
}

// Receipt says what was appended.
type Receipt struct {
	First, ID store.ID // of the first and last message; the same for one
	Group     string
	Time      time.Time
	Count     int
	Replayed  bool // nothing was: an earlier request with the same key did
}

// Publish appends what a client sends to a group, all of it or nothing. It returns when the store
// holds it and delivery is not far behind.
func (h *Hub) Publish(ctx context.Context, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	if err := group.CheckClient(p.Group); err != nil {
		return Receipt{}, err
	}
	return h.publish(ctx, p, nil)
}

// PublishBatch appends messages to several groups: next to each other in the log, all of them or
// none. The publication is of the kind Batch. The receipt names no group.
func (h *Hub) PublishBatch(ctx context.Context, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	r, err := h.publish(ctx, p, nil)
	r.Group = ""
	return r, err
}

// bracket calls do, and returns its error or one of its own.
type bracket func(do func() error) error

// publish appends a publication, within a bracket unless that is nil, or repeats the answer that an
// earlier request with its key got.
func (h *Hub) publish(ctx context.Context, p *Publication, within bracket) (Receipt, error) {
	if p.Key == "" {
		return h.encodeAndAppend(ctx, p, nil, within) // the same as once does, without a closure
	}
	return h.keys.once(ctx, p, func(c *claim) (Receipt, error) { return h.encodeAndAppend(ctx, p, c, within) })
}

func (h *Hub) encodeAndAppend(ctx context.Context, p *Publication, c *claim, within bracket) (r Receipt, err error) {
	held, err := h.takeEncoding(ctx, p)
	if err != nil {
		return Receipt{}, err
	}
	defer h.budget.encodings.give(held)
	e := encoders.Get().(*encoder)
	defer e.put()
	e.begin(ctx, h)
	if err := e.encode(p); err != nil {
		return Receipt{}, err
	}
	notes := h.answerNotes(p, c, e)
	if within == nil {
		r, err = h.append(ctx, e, notes)
	} else {
		r, err = h.appendWithin(ctx, e, notes, within)
	}
	if err != nil {
		return Receipt{}, err
	}
	h.set.Hold(ctx)
	for i := range e.heard {
		e.heard[i].ID = store.ID{Epoch: r.First.Epoch, Seq: r.First.Seq + store.Seq(i)}.String()
	}
	h.tellMessages(e.heard)
	return r, nil
}

// tellMessages tells the hosting program what was published. Messages without a session reach it in
// order group by group: so those of one group are handed over together.
func (h *Hub) tellMessages(list []Message) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && (list[n].UID != "" || list[n].Group == list[0].Group) {
			n++
		}
		h.opts.Observer.Messages(list[:n:n])
		list = list[n:]
	}
}

// appendWithin is append within a bracket.
func (h *Hub) appendWithin(ctx context.Context, e *encoder, notes []store.Note, within bracket) (r Receipt, err error) {
	err = within(func() (err error) {
		r, err = h.append(ctx, e, notes)
		return err
	})
	return r, err
}

// append appends what was encoded, with notes about it.
func (h *Hub) append(ctx context.Context, e *encoder, notes []store.Note) (Receipt, error) {
	first, err := h.appendNoted(ctx, e.entries, notes)
	if err != nil {
		return Receipt{}, closedError(err)
	}
	h.set.Appended(first.Seq, e.entries, delivery.Few)
	h.posts.Add(uint64(len(e.entries)))
	last := first
	last.Seq += store.Seq(len(e.entries)) - 1
	return Receipt{First: first, ID: last, Group: e.entries[0].Group, Time: e.entries[0].Time, Count: len(e.entries)}, nil
}

// closedError turns the end of the store, which is that of the hub, into the hub's.
func closedError(err error) error {
	if errors.Is(err, store.ErrClosed) {
		return ErrClosed
	}
	return err
}
