package hub

import (
	"context"
	"errors"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/store"
)

// Sender is a client that publishes messages one by one, on a connection that stays open.
type Sender struct {
	Grant   *access.Grant
	UID     string // of its session
	Address string // without a port
}

// PublishEach appends messages, in order and with one append, each as if it was published alone: a message that is refused does
// not harm the others. errs has the error of each message, nil if the store holds it.
//
// note, unless it is nil, is called with errs before the append. It returns the sender's note, which is stored in the
// same step as the messages, and may be called again if the append has to be repeated with fewer messages. If there
// is no message to append, the note is stored alone. err is the error of that.
func (h *Hub) PublishEach(ctx context.Context, s *Sender, drafts []Draft, note func(errs []error) []byte) (errs []error, err error) {
	errs = make([]error, len(drafts))
	if h.closing.Load() {
		return allErrors(errs, ErrClosed), ErrClosed
	}
	begun := h.PublishBegun()
	p := Publication{UID: s.UID, Address: s.Address}
	if p.Grant, err = h.currentGrant(s); err != nil {
		return allErrors(errs, err), err
	}
	held, err := h.takeEach(ctx, drafts)
	if err != nil {
		return allErrors(errs, err), err
	}
	defer h.budget.encodings.give(held)
	e := encoders.Get().(*encoder)
	defer e.put()
	e.begin(ctx, h)
	a := each{hub: h, encoder: e, uid: s.UID, errs: errs, note: note}
	for i := range drafts {
		if errs[i] = a.add(&p, &drafts[i]); errs[i] == nil {
			a.drafts = append(a.drafts, i)
		}
	}
	err = a.append(ctx)
	if len(a.drafts) > 0 {
		h.set.Hold(ctx)
		h.PublishEnded(begun)
	}
	return errs, err
}

func allErrors(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// currentGrant returns what a sender may do now. Its token may have expired or have been revoked since it connected.
func (h *Hub) currentGrant(s *Sender) (*access.Grant, error) {
	if h.opts.Access == nil {
		return s.Grant, nil
	}
	g, err := h.opts.Access.Current(s.Grant)
	if err != nil {
		return nil, err
	}
	return g.For(s.UID), nil
}

// takeEach is takeEncoding for drafts.
func (h *Hub) takeEach(ctx context.Context, drafts []Draft) (n int64, err error) {
	for i := range drafts {
		n += (&Publication{Kind: drafts[i].Kind, Body: drafts[i].Data}).encodedSize()
	}
	return n, h.countOverload(h.budget.encodings.take(ctx, n))
}

// each is a call of PublishEach.
type each struct {
	hub     *Hub
	encoder *encoder
	uid     string
	note    func([]error) []byte
	errs    []error
	drafts  []int // indexes of those that were encoded, in the order of the encoder's entries
}

// add encodes a message.
func (a *each) add(p *Publication, d *Draft) error {
	d.UID, d.Subject = p.UID, p.Grant.Subject
	if err := checkLine(d); err != nil {
		return err
	}
	if err := p.Grant.CheckPublish(d.Group); err != nil { // before it counts for the rate
		return err
	}
	if err := a.hub.rates.of(p, 1); err != nil {
		return err
	}
	return a.encoder.add(p, *d)
}

// append appends the encoded messages together. If they cannot be appended together, because one of them needs a group
// too many, or all of them are too large, it appends each alone.
func (a *each) append(ctx context.Context) error {
	all, copies := a.encoder.entries, a.encoder.copies
	defer func() { a.encoder.entries, a.encoder.copies = all, copies }()
	err := a.appendSome(ctx, 0, len(all))
	switch {
	case err == nil, len(all) == 0:
		return err
	case len(all) == 1 || !errors.Is(err, store.ErrTooManyGroups) && !errors.Is(err, store.ErrTooLarge):
		a.fail(err)
		return nil
	}
	a.fail(err)
	for i, draft := range a.drafts {
		a.errs[draft] = nil
		a.encoder.entries, a.encoder.copies = all, copies
		a.errs[draft] = a.appendSome(ctx, i, i+1)
	}
	return nil
}

func (a *each) fail(err error) {
	for _, draft := range a.drafts {
		a.errs[draft] = err
	}
}

// appendSome appends some of the entries.
func (a *each) appendSome(ctx context.Context, from, to int) error {
	e := a.encoder
	var notes []store.Note
	if a.note != nil {
		notes = []store.Note{clientNote(a.uid, a.note(a.errs))}
	}
	if from == to {
		if a.note == nil {
			return nil
		}
		return a.hub.SetClientNote(ctx, a.uid, notes[0].Value)
	}
	e.entries = e.entries[from:to]
	if e.listens {
		e.copies = e.copies[from:to]
	}
	r, err := a.hub.append(ctx, e, notes)
	if err != nil {
		return err
	}
	if a.note != nil {
		a.hub.noteStored(a.uid, notes[0].Value)
	}
	a.hub.passMessages(r.First, e.copies)
	return nil
}
