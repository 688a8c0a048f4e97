package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
)

// How much of the stream is read at once.
const (
	windowMessages = 1024
	windowBytes    = 1 << 20
)

// stored is a message of the stream.
type stored struct {
	record
	group   string
	damaged bool
}

// window is a part of the stream: all its messages after a position, up to through.
type window struct {
	epoch          string
	after, through store.Seq
	missing        store.Seq // the last seq in it at which there is nothing; 0: none
	list           []stored
}

// load makes the window begin at a position or before, and reach beyond it, up to end at most.
func (w *window) load(l *Log, after, end store.Seq) error {
	epoch := l.epoch()
	if w.epoch == epoch && w.after <= after && after < w.through {
		return nil
	}
	ctx, cancel := context.WithTimeout(l.blocked, l.opts.Times.Patience)
	defer cancel()
	for {
		*w = window{epoch: epoch, after: after, through: after, list: w.list[:0]}
		err := w.fetch(ctx, l, request{Seq: after + 1, Batch: windowMessages, MaxBytes: windowBytes})
		if err == nil && w.through == after {
			err = w.end(ctx, l, anySubject, end)
		}
		if err == nil && w.missing > 0 {
			err = w.explain(ctx, l)
		}
		switch {
		case err == nil && w.through > after, l.epoch() != epoch:
			return nil
		case l.closed.Load():
			return store.ErrClosed
		case ctx.Err() != nil:
			return store.ErrAway
		}
		pause(ctx, repeatRefused) // no server answers, or only one that lags
	}
}

var errRemoving = errors.New("the leader of the stream is about to remove what another server has removed already")

// explain waits until this hub knows of each purge that may be the reason why something is missing in the window. Most
// often a newer note has replaced an older one, or a message was evicted long ago.
func (w *window) explain(ctx context.Context, l *Log) error {
	m, err := l.nextReached(ctx, anySubject, w.missing, w.through)
	switch {
	case err != nil:
		return err
	case m != nil && store.Seq(m.Seq) == w.missing:
		return errRemoving
	}
	if err := l.unheard.wait(ctx); err != nil {
		return err
	}
	return l.hearPurges(ctx)
}

// anySubject stands for all subjects of the stream.
const anySubject = ">"

// pause waits for a moment.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// end is called if a server has no message with a subject after the window. If the stream's leader has none up to end either, the
// window reaches to end.
func (w *window) end(ctx context.Context, l *Log, subject string, end store.Seq) error {
	m, err := l.nextReached(ctx, subject, w.through+1, end)
	if err == nil && (m == nil || store.Seq(m.Seq) > end) {
		w.through, w.missing = end, end
	}
	return err
}

// request asks a server for messages, as its API defines it.
type request struct {
	Seq      store.Seq  `json:"seq,omitempty"`
	Since    *time.Time `json:"start_time,omitempty"`
	Batch    int        `json:"batch,omitempty"`
	MaxBytes int        `json:"max_bytes,omitempty"`
	Next     string     `json:"next_by_subj,omitempty"`
	Last     string     `json:"last_by_subj,omitempty"`
}

var errSilent = errors.New("no server answers")

// fetch adds messages of the stream to the window. Any server that has the stream may answer, one that lags too:
// what it sends is complete up to the last message of its answer.
func (w *window) fetch(ctx context.Context, l *Log, r request) error {
	if l.offline.Load() {
		return errNotSent
	}
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	inbox := nats.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails if the connection is closed
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	if err := l.nc.PublishRequest("$JS.API.DIRECT.GET."+l.opts.Stream, inbox, body); err != nil {
		return err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		switch status := m.Header.Get(headerStatus); status {
		case "":
		case noResponders:
			return errSilent
		case "204", "404": // the end of the answer, nothing found
			return nil
		default:
			return fmt.Errorf("reading the stream: %s %s", status, m.Header.Get("Description"))
		}
		if err := w.add(l, m); err != nil {
			return err
		}
	}
}

// add adds a message of an answer.
func (w *window) add(l *Log, m *nats.Msg) error {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return fmt.Errorf("reading the stream: %w", err)
	}
	if store.Seq(seq) > w.through+1 {
		w.missing = store.Seq(seq) - 1
	}
	w.through = store.Seq(seq)
	subject := m.Header.Get("Nats-Subject")
	rest, isMessage := l.subjects.group(subject)
	if !isMessage {
		return nil
	}
	s := stored{}
	if err := s.decode(m.Data); err != nil {
		l.opts.Logger.Error("a message of the stream is damaged, or was not written by a hub", "subject", subject, "seq", seq)
		s.damaged = true
		if s.group, isMessage = unescape(rest); !isMessage {
			return nil
		}
	} else {
		s.group = s.entry.Group
	}
	s.seq = store.Seq(seq)
	w.list = append(w.list, s)
	return nil
}
