package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
)

// maxBatches is how many batches of a hub may be in flight. The servers allow 50 for a stream.
const maxBatches = 16

// Repetitions of an append.
const (
	repeatUnanswered = time.Second            // when no server answers
	repeatRefused    = 100 * time.Millisecond // when the servers cannot take it at the moment
)

// errLate is the cause of a context that ends because the servers have not stored an append in time.
var errLate = errors.New("the NATS servers have not stored a message in time")

// maxRefusals is how often a note is tried again for which there is no room.
const maxRefusals = 3

// publication is an append on its way: its messages, with the headers that say how they belong together.
type publication struct {
	number  uint64
	records []record
	msgs    []*nats.Msg
	bodies  []byte
	answers chan answer
	epoch   string                   // of the positions that it tells; "": it tells none
	acked   atomic.Bool              // a server has acknowledged it
	single  atomic.Pointer[nats.Msg] // if it is one message of a group; it has been encoded
	sent    int                      // attempts that no server has refused
	stored  func(store.ID)           // see store.Settling; may be nil
	placed  atomic.Bool              // it can be read, with first
	first   store.ID
}

// Append implements store.Log.
func (l *Log) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	return l.AppendNoted(ctx, entries)
}

// AppendNoted implements store.Noter.
func (l *Log) AppendNoted(ctx context.Context, entries []store.Entry, list ...store.Note) (store.ID, error) {
	return l.append(ctx, entries, list, appendOptions{})
}

// AppendSettling implements store.Settling.
func (l *Log) AppendSettling(ctx context.Context, entries []store.Entry, stored func(store.ID), list ...store.Note) (store.ID, error) {
	return l.append(ctx, entries, list, appendOptions{stored: stored})
}

// appendOptions say how something is appended.
type appendOptions struct {
	flags  byte           // which the records of the notes have, too
	epoch  string         // of the positions that the notes tell: they are not sent to a stream with another one; "": they tell none
	stored func(store.ID) // see store.Settling; may be nil
}

// append is AppendNoted with options.
func (l *Log) append(ctx context.Context, entries []store.Entry, list []store.Note, o appendOptions) (first store.ID, err error) {
	if err := l.admit(entries); err != nil {
		return store.ID{}, err
	}
	if len(entries) == 0 {
		done, err := l.admitNotes(list)
		if err != nil {
			return store.ID{}, err
		}
		defer done()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.opts.Times.Patience, errLate)
	defer cancel()
	records, noted := l.recordsOf(entries, list)
	if len(records) > maxBatch {
		return store.ID{}, fmt.Errorf("%w; it takes %d messages in the stream, and JetStream stores at most %d at once", store.ErrTooLarge, len(records), maxBatch)
	}
	for i := len(records) - len(noted); i < len(records); i++ {
		records[i].flags |= o.flags
	}
	p := l.pending.add(records, o)
	defer func() {
		if l.pending.end(p, err) {
			first, err = p.first, nil
		}
	}()
	if err := l.checkOnce(ctx, p); err != nil {
		return store.ID{}, err
	}
	for refusals := 0; ; {
		if err := l.notes.guard(noted, p.records[len(p.records)-len(noted):]); err != nil {
			return store.ID{}, err
		}
		err := l.commit(ctx, p)
		var changed *changedError
		var full *fullError
		switch {
		case err == nil:
			return p.first, nil
		case errors.As(err, &full) && !isRoom(p.records[0].key):
			spent := l.spendReserve(ctx, full, len(p.bodies))
			if refusals++; len(entries) > 0 || refusals > maxRefusals || refusals > 1 && !l.spendShare(ctx, list) {
				return store.ID{}, err
			}
			if !spent { // another hub may have done so just now
				pause(ctx, repeatRefused)
			}
			continue
		case !errors.As(err, &changed):
			return store.ID{}, err
		}
		// Another hub has changed a note. Its change arrives by the tail; then the guards are checked again.
		if err := l.catchUp(ctx, p, changed); err != nil {
			return store.ID{}, err
		}
		if p.placed.Load() {
			return p.first, nil
		}
	}
}

// checkOnce returns store.ErrConflict if another hub has stored the guarded brief note of an append, and this one had not caught up since. The servers
// may have forgotten the id of that append by now.
func (l *Log) checkOnce(ctx context.Context, p *publication) error {
	key := p.onceKey()
	switch {
	case key == "" || l.isCurrent():
		return nil
	case l.CatchUp(ctx) != nil:
		return l.expired(ctx, p)
	case l.notes.hasBrief(key):
		return store.ErrConflict
	}
	return nil
}

// admit returns why the entries cannot be stored.
func (l *Log) admit(entries []store.Entry) error {
	switch {
	case l.leaving.Load():
		return store.ErrClosed
	case len(entries) == 0:
		return nil
	}
	return cmp.Or(l.shortage(), l.mem.Admit(entries))
}

// recordsOf returns the records of an append: the entries, and then the notes that are records of their own,
// which it also returns.
func (l *Log) recordsOf(entries []store.Entry, list []store.Note) (records []record, noted []store.Note) {
	records = make([]record, len(entries), len(entries)+len(list))
	for i := range entries {
		records[i] = record{flags: messageFlags(&entries[i].Message), entry: entries[i]}
	}
	for _, n := range list {
		if n.Brief && len(entries) > 0 {
			records[0].brief = append(records[0].brief, n)
			continue
		}
		r := record{flags: isNote, key: n.Key, value: n.Value}
		if n.Value == nil {
			r.flags |= isRemoval
			r.value = []byte(n.Why)
		}
		records = append(records, r)
		noted = append(noted, n)
	}
	for i := range records {
		records[i].index = i
		if i < len(records)-1 {
			records[i].flags |= hasMore
		}
	}
	return records, noted
}

// commit publishes the records until they are stored and the tail has placed them, or the servers refuse them.
func (l *Log) commit(ctx context.Context, p *publication) error {
	if len(p.records) > 1 {
		select {
		case l.batches <- struct{}{}:
			defer func() { <-l.batches }()
		case <-ctx.Done():
			return l.expired(ctx, p)
		}
	}
	l.encode(p)
	if len(p.records) == 1 && !p.records[0].is(isNote) {
		p.single.Store(p.msgs[0])
	}
	repeat := time.NewTimer(repeatUnanswered)
	defer repeat.Stop()
	for attempt := 1; ; attempt++ {
		if isOver(ctx) { // the servers may have forgotten the id by now
			return l.expired(ctx, p)
		}
		if err := l.send(p, attempt); err != nil {
			if !errors.Is(err, errNotSent) {
				return err
			}
			repeat.Reset(repeatRefused)
		}
		for again := false; !again; {
			select {
			case a := <-p.answers:
				switch {
				case p.placed.Load():
					return nil
				case a.err == nil && a.duplicate && p.onceKey() != "":
					return l.awaitFirst(ctx, p)
				case a.err == nil:
					p.acked.Store(true)
				case errors.Is(a.err, errBusy), p.sent > 1 && isFull(a.err): // an attempt that nobody answered may be stored
					p.sent--
					repeat.Reset(repeatRefused)
				default:
					p.sent--
					return a.err
				}
			case <-repeat.C:
				repeat.Reset(repeatUnanswered)
				if again = !p.acked.Load(); !again && !l.tail.holding() {
					l.tail.restart() // it is stored, and the consumer does not deliver it
				}
			case <-ctx.Done():
				return l.expired(ctx, p)
			case <-l.blocked.Done():
				return l.expired(l.blocked, p)
			}
		}
	}
}

// isOver reports whether the time of a context with a deadline is over, by the clock on the wall. Its timer may not have fired yet, if the hub or its machine was stopped.
func isOver(ctx context.Context) bool {
	end, _ := ctx.Deadline()
	return ctx.Err() != nil || time.Now().Round(0).After(end.Round(0))
}

// expired returns the error of an append whose outcome cannot be waited for.
func (l *Log) expired(ctx context.Context, p *publication) error {
	switch {
	case l.closed.Load():
		return store.ErrClosed
	case p.sent > 0:
		if context.Cause(ctx) == errLate {
			l.unanswered(errLate)
		}
		return store.ErrUnknownOutcome
	case ctx == l.blocked || !errors.Is(ctx.Err(), context.Canceled):
		return store.ErrAway
	}
	return ctx.Err()
}

// awaitFirst waits until the tail has read the append that has the same guarded brief note. It may be p itself, of
// which an earlier attempt was stored. Otherwise it returns store.ErrConflict.
func (l *Log) awaitFirst(ctx context.Context, p *publication) error {
	err := l.waited(ctx, p, l.CatchUp(ctx))
	if err == nil && !p.placed.Load() {
		err = store.ErrConflict
	}
	return err
}

// catchUp waits until the tail has read what another hub changed.
func (l *Log) catchUp(ctx context.Context, p *publication, changed *changedError) error {
	var err error
	switch {
	case changed.unknown, !l.tail.following(): // it may be another stream, such as an older backup, which has older versions
		pause(ctx, repeatRefused)
		err = ctx.Err()
	case changed.seq == 0:
		return l.forgetLost(ctx, p)
	default:
		err = l.tail.waitFor(ctx, changed.seq)
	}
	return l.waited(ctx, p, err)
}

// waited returns the error of an append that has waited for the tail. What the servers have answered before says nothing any more.
func (l *Log) waited(ctx context.Context, p *publication, err error) error {
	for {
		select {
		case <-p.answers:
			continue
		default:
		}
		if err != nil {
			return l.expired(ctx, p)
		}
		return nil
	}
}

// forgetLost forgets notes that the stream no longer has: the servers forget the removal of a note after a while, and
// somebody may have purged notes. Those that were removed from its front are stored again.
func (l *Log) forgetLost(ctx context.Context, p *publication) error {
	for i := range p.records {
		r := &p.records[i]
		if r.prev == 0 {
			continue
		}
		var m *rawMessage
		first, err := l.firstReached(ctx, r.prev)
		if err == nil && first <= r.prev {
			m, err = l.lastMessage(ctx, l.subjects.note(r.key))
		}
		switch {
		case isUncertain(err):
			pause(ctx, repeatRefused) // the append is tried again
		case err != nil:
			return l.expired(ctx, p)
		case m != nil:
		case first > r.prev:
			l.notes.pass(first - 1)
		case isRoom(r.key): // another hub has purged it
			l.notes.purged(r.key, r.prev)
		default:
			l.notes.forget(r.key)
		}
	}
	return nil
}
