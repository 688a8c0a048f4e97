package hub

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// History is a query for the messages that the log holds.
type History struct {
	Filters group.Set
	From    From // the zero value is the end of the log, which yields nothing
	Limit   int  // return at most this many messages, the oldest first; 0: all

	// For a poll.
	uid     string // also select the messages to this session
	notFrom string // leave out the messages of this session
}

// Answer is what messages are passed to as they are read.
type Answer struct {
	Message, Retained func(*store.Frame) error
	Gap               func(delivery.Gap) error
}

// Replay passes each message that q selects to the answer, and each gap before it. It reads batch by
// batch, so its memory does not grow with the length of the history. If the limit was reached, Replay
// returns the id of the position after which to continue.
func (h *Hub) Replay(ctx context.Context, q *History, to Answer) (next *store.ID, err error) {
	if h.closing.Load() {
		return nil, ErrClosed
	}
	start, _, err := h.start(ctx, q.Filters, q.From)
	if err != nil {
		return nil, err
	}
	next, _, err = h.replay(ctx, q, start, to)
	return next, err
}

// replay is Replay from a given start. It also returns the end of the log, up to which it has read.
func (h *Hub) replay(ctx context.Context, q *History, start delivery.Start, to Answer) (next *store.ID, end store.ID, err error) {
	b := h.openReader()
	defer b.close()
	r := replay{History: q, start: start, left: q.Limit, newest: -1, Answer: to}
	if q.From.Last != nil {
		r.newest = *q.From.Last // more may have been appended since start
	}
	for {
		_, end = h.log.Bounds()
		if end.Epoch == r.start.Epoch {
			renewed, err := r.through(ctx, b, end.Seq)
			if !renewed || err != nil {
				return r.next, end, err
			}
		}
		if err := r.renew(h.log, end.Epoch); err != nil {
			return r.next, end, closedError(err)
		}
	}
}

// through passes on what the log has from the start to a position. It reports whether the log has begun another epoch meanwhile. The
// start is then where it came to.
func (r *replay) through(ctx context.Context, b *reader, end store.Seq) (renewed bool, err error) {
	query := store.Query{Select: r.selected(), After: r.start.After, Through: end, Live: r.start.Live}
	for more := query.After < end || r.start.Unknown != ""; more; {
		if err := b.read(ctx, query); err != nil {
			return false, err
		}
		if b.Epoch != r.start.Epoch {
			r.start.After = query.After
			return true, nil
		}
		if done, err := r.give(b.Batch, query.After); done || err != nil {
			return false, err
		}
		query.After, query.Reported = b.Next, b.Reported
		more = b.Next < end
	}
	return false, nil
}

// renew starts again in another epoch, after a gap: at its beginning, as an open stream does, or where the time or the number of
// newest messages that the request asks for begins there.
func (r *replay) renew(log store.Log, epoch string) (err error) {
	unknown := store.ID{Epoch: r.start.Epoch, Seq: r.start.After}.String()
	r.start = delivery.Start{Epoch: epoch, Held: true, Unknown: cmp.Or(r.start.Unknown, unknown)}
	if r.newest > 0 || !r.From.Since.IsZero() {
		r.start.After, err = log.Find(r.Filters, store.Start{Since: r.From.Since, Last: max(r.newest, 0)})
	}
	return err
}

// selected returns the filters of all messages that may be part of the answer.
func (q *History) selected() group.Set {
	if q.uid == "" {
		return q.Filters
	}
	return append(slices.Clip(q.Filters), group.Exact(delivery.SessionPrefix+q.uid))
}

// Retained is a query for retained messages.
type Retained struct {
	Filters group.Set
	After   string // an id: skip messages up to it; ignored unless it is an id of this log
	Limit   int    // return at most this many messages, the oldest first; 0: all

	through store.ID // skip messages after it; zero: none
}

// Retained calls yield for each retained message that q selects, the oldest first. It includes messages
// that the history no longer holds. It reads batch by batch, so its memory does not grow with their
// number. If the limit was reached, it returns the id after which to continue.
func (h *Hub) Retained(ctx context.Context, q *Retained, yield func(*store.Frame) error) (next *store.ID, err error) {
	if h.closing.Load() {
		return nil, ErrClosed
	}
	after, known, err := h.position(ctx, q.After)
	if err != nil {
		return nil, err
	}
	b := h.openReader()
	defer b.close()
	r := replay{History: &History{Limit: q.Limit}, left: q.Limit, newest: -1, Answer: Answer{Message: yield}}
	for renewed := true; renewed && err == nil; { // what was found of an earlier epoch is retained no more
		_, newest := h.log.Bounds()
		query := store.Query{Select: q.Filters, Through: newest.Seq, Retained: true}
		if q.through.Seq > 0 {
			query.Through = min(seqIn(newest.Epoch, q.through), newest.Seq)
		}
		if known {
			query.After = seqIn(newest.Epoch, after)
		}
		renewed, err = r.retained(ctx, b, query, newest.Epoch)
	}
	return r.next, err
}

// retained passes on the retained messages of a query. It reports whether the log has begun another epoch meanwhile.
func (r *replay) retained(ctx context.Context, b *reader, query store.Query, epoch string) (renewed bool, err error) {
	for ; query.After < query.Through; query.After = b.Next {
		if err := b.read(ctx, query); err != nil {
			return false, err
		}
		if b.Epoch != epoch {
			return true, nil
		}
		if done, err := r.frames(b.Batch); done || err != nil {
			return false, err
		}
	}
	return false, nil
}

// seqIn returns the position that id is in an epoch: its beginning, if id is of another epoch.
func seqIn(epoch string, id store.ID) store.Seq {
	if id.Epoch != epoch {
		return 0
	}
	return id.Seq
}

// replayBytes is how many bytes a replay reads from the log at once.
const replayBytes = 64 << 10

var batches = sync.Pool{New: func() any { return newBatch() }}

func newBatch() *store.Batch { return &store.Batch{Buf: make([]byte, 0, replayBytes)} }

// reader reads the log for a response, a batch at a time. A message of more than replayBytes makes the
// batch larger. The reader then holds memory of the hub's budget until it is closed, because the response
// keeps the message until the client has read it.
type reader struct {
	*store.Batch
	hub   *Hub
	taken int64
}

func (h *Hub) openReader() *reader { return &reader{Batch: batches.Get().(*store.Batch), hub: h} }

// read reads the next batch. It drops a large message while it waits for memory, and reads it again
// then. Otherwise each waiting request would hold one.
func (r *reader) read(ctx context.Context, q store.Query) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.hub.log.Read(q, r.Batch); err != nil {
			return closedError(err)
		}
		need := 2 * int64(cap(r.Buf)) // the message, and a copy in the form in which it is written
		if cap(r.Buf) <= replayBytes || need <= r.taken {
			return nil
		}
		r.drop()
		if err := r.hub.countOverload(r.hub.budget.responses.large.take(ctx, need)); err != nil {
			return err
		}
		r.taken = need
	}
}

// drop replaces a batch that has grown, and returns its memory to the budget.
func (r *reader) drop() {
	if cap(r.Buf) > replayBytes {
		r.Batch = newBatch()
	}
	r.hub.budget.responses.large.give(r.taken)
	r.taken = 0
}

func (r *reader) close() {
	r.drop()
	batches.Put(r.Batch)
}

// replay is the state of a Replay or Retained call.
type replay struct {
	*History
	Answer
	start delivery.Start
	left  int
	next  *store.ID

	newest int // how many more messages a request for the newest gets; below 0: no bound
}

// give passes a batch's gaps and messages to the callbacks. It reports whether the limit was reached.
func (r *replay) give(b *store.Batch, after store.Seq) (done bool, err error) {
	if err := r.gaps(b, after); err != nil {
		return true, err
	}
	return r.frames(b)
}

// frames passes a batch's messages to yield. It reports whether the limit was reached.
func (r *replay) frames(b *store.Batch) (done bool, err error) {
	for i := range b.Frames {
		if r.notFrom != "" && string(b.Frames[i].UID()) == r.notFrom {
			continue
		}
		if r.newest == 0 {
			return true, nil
		}
		r.newest--
		if r.Limit > 0 {
			if r.left == 0 {
				r.next = &store.ID{Epoch: b.Epoch, Seq: b.Frames[i].Seq - 1}
				return true, nil
			}
			r.left--
		}
		if err := r.Message(&b.Frames[i]); err != nil {
			return true, err
		}
	}
	return false, nil
}

// gaps passes the gaps before a batch's messages to gap. For a request that resumes from an unknown id,
// the first batch has one gap for each filter, with the reason epoch. A request for all or the last
// held messages expects older ones to be missing, so its first batch has no gaps.
func (r *replay) gaps(b *store.Batch, after store.Seq) error {
	g := delivery.Gap{After: store.ID{Epoch: b.Epoch, Seq: after}.String(), Reason: delivery.GapEvicted}
	if len(b.Frames) > 0 {
		g.Oldest = string(b.Frames[0].ID())
	}
	held := r.start.Held
	r.start.Held = false
	if r.start.Unknown != "" {
		g.After, g.Reason = r.start.Unknown, delivery.GapEpoch
		r.start.Unknown = ""
		for _, f := range r.Filters {
			g.Filter = f.String()
			if err := r.Gap(g); err != nil {
				return err
			}
		}
		return nil
	}
	if held {
		return nil
	}
	for _, lost := range b.Gaps {
		g.Filter = lost.Filter
		if err := r.Gap(g); err != nil {
			return err
		}
	}
	return nil
}
