package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Publication is a request to append messages.
type Publication struct {
	// Grant is the sender's. It must allow each group that the request names. BeforePublish may move a
	// message to any other.
	Grant *access.Grant

	Group  string
	UID    string // the sender's session; "" for none
	Event  string
	Meta   [][2]string
	TTL    time.Duration
	Retain bool
	Kind   Kind
	Body   []byte
	Batch  []Draft // messages of the embedding program: with Program and the kind Batch, instead of Body

	// Program is set if the embedding program publishes. BeforePublish and OnMessage callbacks are not
	// called for such messages.
	Program bool

	// Key is the idempotency key: a repeated request gets the answer of the first one. Each sender has
	// its own keys. The sender is UID or, without one, the subject of the grant or, without one, Address.
	Key, Address string
}

// Receipt is the answer to a publication.
type Receipt struct {
	First, ID store.ID // ids of the first and the last message
	Group     string
	Time      time.Time
	Count     int
	Replayed  bool // nothing was appended: it is the answer to an earlier request with the same key
}

// Publish appends the messages of a publication to its group: all of them or none. It returns when the
// store holds them and delivery is not far behind.
func (h *Hub) Publish(ctx context.Context, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	if err := group.CheckClient(p.Group); err != nil {
		return Receipt{}, err
	}
	if err := p.Grant.CheckPublish(p.Group); err != nil {
		return Receipt{}, err
	}
	return h.publish(ctx, p, nil)
}

// PublishBatch appends messages to several groups: all of them or none, next to each other in the log.
// The publication must be of the kind Batch. The receipt has no group.
func (h *Hub) PublishBatch(ctx context.Context, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	r, err := h.publish(ctx, p, nil)
	if err == nil && r.Replayed {
		err = p.checkGroups()
	}
	if err != nil {
		return Receipt{}, err
	}
	r.Group = ""
	return r, nil
}

// wrapper calls do between steps of its own. It returns do's error or its own.
type wrapper func(do func() error) error

// publish appends a publication, or returns the answer of an earlier request with the same key. The
// wrapper runs the append, unless it is nil.
func (h *Hub) publish(ctx context.Context, p *Publication, wrap wrapper) (Receipt, error) {
	if p.Key == "" {
		return h.encodeAndAppend(ctx, p, nil, wrap) // the same as keys.once, without a closure
	}
	return h.keys.once(ctx, p, func(c *claim) (Receipt, error) { return h.encodeAndAppend(ctx, p, c, wrap) })
}

func (h *Hub) encodeAndAppend(ctx context.Context, p *Publication, c *claim, wrap wrapper) (r Receipt, err error) {
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
	if err := h.rates.of(p, len(e.entries)); err != nil {
		return Receipt{}, err
	}
	if c != nil && h.cluster != nil && h.keys.knows(c.key) { // another hub has answered it, which this one has read since
		return Receipt{}, store.ErrConflict
	}
	notes := h.answerNotes(p, c, e)
	if wrap == nil {
		r, err = h.append(ctx, e, notes)
	} else {
		r, err = h.appendWrapped(ctx, e, notes, wrap)
	}
	if err != nil {
		return Receipt{}, err
	}
	h.set.Hold(ctx)
	h.passMessages(r.First, e.copies)
	return r, nil
}

// passMessages passes published messages to the embedding program; first is the id of the first one. Messages without a
// session are ordered by group, so it passes consecutive ones of the same group together.
func (h *Hub) passMessages(first store.ID, list []Message) {
	for i := range list {
		list[i].ID = store.ID{Epoch: first.Epoch, Seq: first.Seq + store.Seq(i)}.String()
	}
	for len(list) > 0 {
		n := 1
		for n < len(list) && (list[n].UID != "" || list[n].Group == list[0].Group) {
			n++
		}
		h.opts.Observer.Messages(list[:n:n])
		list = list[n:]
	}
}

// appendWrapped is append, called by a wrapper.
func (h *Hub) appendWrapped(ctx context.Context, e *encoder, notes []store.Note, wrap wrapper) (r Receipt, err error) {
	err = wrap(func() (err error) {
		r, err = h.append(ctx, e, notes)
		return err
	})
	return r, err
}

// append appends the encoded messages and their notes.
func (h *Hub) append(ctx context.Context, e *encoder, notes []store.Note) (Receipt, error) {
	first, err := h.appendSettling(ctx, e.entries, h.storedLater(e), notes)
	if err != nil {
		return Receipt{}, closedError(err)
	}
	h.set.Appended(first.Seq, e.entries, delivery.Few)
	h.countPosts(len(e.entries), tailBytes(e.entries))
	last := first
	last.Seq += store.Seq(len(e.entries)) - 1
	return Receipt{First: first, ID: last, Group: e.entries[0].Group, Time: e.entries[0].Time, Count: len(e.entries)}, nil
}

// countPosts counts published messages and their bytes.
func (h *Hub) countPosts(messages, bytes int) {
	h.posts.Add(uint64(messages))
	h.postBytes.Add(uint64(bytes))
}

func tailBytes(entries []store.Entry) (n int) {
	for i := range entries {
		n += len(entries[i].Tail)
	}
	return n
}

// storedLater returns the function that counts the encoded messages and passes them to the embedding program if they turn out to be stored
// after the request was answered. It is nil if the outcome of an append is always known.
func (h *Hub) storedLater(e *encoder) func(first store.ID) {
	if h.settling == nil {
		return nil
	}
	messages, bytes, list := len(e.entries), tailBytes(e.entries), slices.Clone(e.copies) // the encoder is used again
	return func(first store.ID) {
		h.countPosts(messages, bytes)
		h.passMessages(first, list)
	}
}

// closedError turns store.ErrClosed into ErrClosed: the store closes only with the hub.
func closedError(err error) error {
	if errors.Is(err, store.ErrClosed) {
		return ErrClosed
	}
	return err
}
