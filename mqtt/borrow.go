package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// While another hub has the position of a share, this one borrows messages from it for the members here. Its stream gives them
// those messages only. If that hub ends or dies, one of the others gets the position.

// repayTimeout is how long a hub tries to give messages back when it has no members any more.
const repayTimeout = time.Second

// debts is what the hub that has the position has to be told. The share's mu guards it. A nil *debts has none.
type debts struct {
	done, back []loan        // see loanRequest
	news       chan struct{} // of size 1: there is more to tell
}

// paid takes note that no member needs a message any more. The gap was not told with it.
func (d *debts) paid(seq store.Seq, untold gap) {
	if d != nil {
		d.done = append(d.done, loan{seq, untold.after})
		d.changed()
	}
}

// returns takes note that a message has to go to another member.
func (d *debts) returns(x *lending) {
	if d != nil {
		d.back = append(d.back, loan{x.seq, x.gap.after})
		d.changed()
	}
}

// changed says that there is something to tell, such as more room.
func (d *debts) changed() {
	if d == nil {
		return
	}
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// told forgets what was told.
func (d *debts) told(in *loanRequest) {
	d.done = without(d.done, in.Done)
	d.back = without(d.back, in.Back)
}

func without(list, gone []loan) []loan {
	set := gapsOf(gone)
	return slices.DeleteFunc(list, func(l loan) bool { _, is := set[l.Seq]; return is })
}

// owe makes the share one that borrows. h.mu is held.
func (h *share) owe() {
	h.debts = &debts{news: make(chan struct{}, 1)}
	h.joined = h.server.hub.End().Seq
}

// borrow begins to borrow messages. h.turn is held.
func (h *share) borrow() {
	h.mu.Lock()
	if h.debts == nil {
		h.owe()
	}
	h.mu.Unlock()
	ctx, cancel := context.WithCancel(h.server.ctx)
	h.borrows = cancel
	h.server.running.Go(func() {
		defer cancel()
		for ctx.Err() == nil {
			if err := h.borrowOnce(ctx); err != nil {
				pause(ctx, 100*time.Millisecond)
			}
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

var errNoPosition = errors.New("the hub does not have the position of the share")

// borrowOnce asks the hub that has the position for messages, or gets the position if there is no such hub.
func (h *share) borrowOnce(ctx context.Context) error {
	at := h.server.hub.Cursors().Elsewhere(h.key)
	if !h.server.hub.Alive(at) {
		return h.inherit(ctx)
	}
	in := h.request(ctx, true)
	if in == nil {
		return nil
	}
	type result struct {
		out loanReply
		err error
	}
	answered := make(chan result, 1)
	h.server.running.Go(func() {
		out, err := h.call(ctx, at, in)
		answered <- result{out, err}
	})
	for {
		select {
		case <-h.news():
			if tell := h.request(ctx, false); tell != nil {
				_, _ = h.call(ctx, at, tell) // an error: the next request tells it, too
			}
		case r := <-answered:
			switch {
			case errors.Is(r.err, store.ErrNoHub):
				return h.inherit(ctx)
			case r.err != nil:
				return r.err
			}
			h.accept(ctx, r.out.Lent)
			return nil
		}
	}
}

func (h *share) news() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.debts == nil {
		return nil
	}
	return h.debts.news
}

// request returns a request with all that has to be told, or nil if ctx is done.
func (h *share) request(ctx context.Context, asks bool) *loanRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil || h.debts == nil {
		return nil
	}
	in := &loanRequest{
		Key: h.key, Hub: h.server.hub.ID(), Number: h.server.shares.requests.Add(1), Asks: asks,
		Kept: h.server.hub.Cursors().Named(h.key), Done: slices.Clone(h.debts.done), Back: slices.Clone(h.debts.back),
	}
	for _, m := range h.members {
		in.Rooms = append(in.Rooms, m.session.room(m.qos()))
	}
	for _, x := range h.lent {
		if x.to == nil && len(in.Rooms) > 0 { // a member will get it
			if i := slices.Index(in.Rooms, slices.Max(in.Rooms)); in.Rooms[i] > 0 {
				in.Rooms[i]--
			}
		}
		if asks {
			in.Has = append(in.Has, x.seq)
		}
	}
	return in
}

// call makes a request. When it is answered, what it tells is known.
func (h *share) call(ctx context.Context, at string, in *loanRequest) (out loanReply, err error) {
	b, err := json.Marshal(in)
	if err != nil {
		panic("mqtt: a request: " + err.Error()) // impossible: strings and numbers
	}
	if b, err = h.server.hub.CallShare(ctx, at, b); err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err == nil && out.Elsewhere {
		err = errNoPosition
	}
	if err != nil {
		return out, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.debts != nil {
		h.debts.told(in)
	}
	return out, nil
}

// accept gives messages that were borrowed to members.
func (h *share) accept(ctx context.Context, list []loan) {
	if len(list) == 0 {
		return
	}
	h.turn.Lock()
	defer h.turn.Unlock()
	if ctx.Err() != nil {
		return // they were not borrowed: the next request has not got them
	}
	h.mu.Lock()
	passed := h.tail == nil || slices.ContainsFunc(list, func(l loan) bool { return l.Seq <= h.read })
	h.mu.Unlock()
	if passed {
		h.stop()
	}
	h.mu.Lock()
	for _, l := range list {
		if !slices.ContainsFunc(h.lent, func(x lending) bool { return x.seq == l.Seq }) {
			h.keep(lending{seq: l.Seq, gap: h.server.gapAfter(l.Gap)})
		}
		h.read = max(h.read, l.Seq)
	}
	h.debts.back = without(h.debts.back, list)
	h.mu.Unlock()
	if passed {
		h.run()
	} else {
		h.tail.Resume()
	}
}

// giveBack returns the messages that no member has, because the one that had them has left. h.mu is held.
func (h *share) giveBack() {
	h.lent = slices.DeleteFunc(h.lent, func(x lending) bool {
		if x.free() {
			h.debts.returns(&x)
		}
		return x.free()
	})
	h.debts.changed() // the others have less room
}

// repay ends borrowing because there are no members any more. h.turn is held.
func (h *share) repay() {
	in := h.request(context.Background(), false)
	h.borrows()
	h.borrows = nil
	if in == nil {
		return
	}
	in.Leaves = true
	at := h.server.hub.Cursors().Elsewhere(h.key)
	h.server.running.Go(func() { // also while the server closes
		ctx, cancel := context.WithTimeout(context.Background(), repayTimeout)
		defer cancel()
		_, _ = h.call(ctx, at, in) // an error: the hub notices it later
	})
}

// inherit makes this hub the one that has the position, because there is none. It returns cursor.ErrElsewhere if another hub
// was faster. ctx is that of borrow.
func (h *share) inherit(ctx context.Context) error {
	h.turn.Lock()
	defer h.turn.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	if err := h.claim(); !h.ours {
		return err
	}
	h.borrows() // also after an error: then the position is written later
	h.borrows = nil
	return nil
}

// settleDebts ends that the share borrows, because this hub gets the position. The members here keep what they have.
// h.mu is held.
func (h *share) settleDebts(p *cursor.Position) {
	if d := h.debts; d != nil {
		done := gapsOf(d.done)
		p.Window = slices.DeleteFunc(p.Window, func(u cursor.Unacked) bool { _, is := done[u.Seq]; return is })
		h.debts = nil
	}
	h.lent = slices.DeleteFunc(h.lent, func(x lending) bool { return x.to == nil })
	h.restoreLoans(p)
}

// shareLost takes note that another hub has got the position of a share, as this one seemed to be dead.
func (srv *Server) shareLost(key string) {
	srv.shares.mu.Lock()
	h := srv.shares.byKey[key]
	srv.shares.mu.Unlock()
	if h == nil {
		return
	}
	h.turn.Lock()
	defer h.turn.Unlock()
	if h.ended || !h.ours {
		return
	}
	h.giveUp()
	if h.borrow(); len(h.members) == 0 {
		h.end()
	}
}

// giveUp ends that this hub has the position. The members here keep what they have. h.turn is held.
func (h *share) giveUp() {
	h.stop()
	h.ours = false
	h.mu.Lock()
	h.dismiss()
	h.lent = slices.DeleteFunc(h.lent, func(x lending) bool { return x.to == nil })
	h.read, h.gap = 0, gap{}
	if n := len(h.lent); n > 0 {
		h.read = h.lent[n-1].seq
	}
	h.owe()
	h.mu.Unlock()
	h.look()
}
