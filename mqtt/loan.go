package mqtt

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// The hub that has the position of a share lends messages to hubs with other members. A hub asks for messages, and says how
// much room its members have. It gets their places in the log only: it reads the messages there itself.
//
// Each request tells what has become of the messages that the hub has borrowed, so that a lost reply or request loses
// nothing. A hub that does not ask any more has lost its messages: they go to others.

// loanRequest is what a hub asks the one that has the position, or tells it.
type loanRequest struct {
	Key    string
	Hub    string      // the one that asks
	Number uint64      // later requests of the hub have higher ones
	Done   []loan      // messages that no member needs any more
	Back   []loan      // messages that have to go to another member
	Kept   bool        // sessions of members are kept
	Rooms  []int       // how many messages each of its members takes
	Leaves bool        // the hub has no members any more
	Asks   bool        // the hub waits for messages
	Has    []store.Seq // if it asks: all that it has borrowed
}

type loanReply struct {
	Elsewhere bool // the hub does not have the position, or takes the one that asks for dead
	Lent      []loan
}

// loan is the place of a message, and the position after which there is a gap that has to be told: with a message that is
// lent, or again.
type loan struct {
	Seq store.Seq
	Gap string `json:",omitempty"`
}

const (
	loanWait  = 2 * time.Second  // how long a request waits for messages
	lookAgain = 2 * time.Second  // time between two looks at the hubs that have borrowed messages
	silence   = 10 * time.Second // after this time, a hub that did not ask has lost what it has borrowed
)

// borrower is another hub with members. The share's mu guards it.
type borrower struct {
	hub    string
	rooms  []int  // that are left, while a request waits
	lent   []loan // for the reply
	answer chan struct{}
	heard  time.Time // when it asked or told something last
}

// room returns how many messages the member with the most room takes.
func (b *borrower) room() int {
	if b.answer == nil || len(b.rooms) == 0 {
		return 0
	}
	return slices.Max(b.rooms)
}

// take lends a message.
func (b *borrower) take(l loan) {
	b.rooms[slices.Index(b.rooms, b.room())]--
	if b.lent = append(b.lent, l); len(b.lent) == 1 {
		close(b.answer)
	}
}

// dismiss lets the request that waits return without messages.
func (b *borrower) dismiss() {
	if b.answer != nil && len(b.lent) == 0 {
		close(b.answer)
	}
	b.answer, b.lent, b.rooms = nil, nil, nil
}

// answerShare answers a call of another hub about a share.
func (srv *Server) answerShare(ctx context.Context, body []byte) []byte {
	var in loanRequest
	out := loanReply{Elsewhere: true}
	if err := json.Unmarshal(body, &in); err == nil {
		srv.shares.mu.Lock()
		h := srv.shares.byKey[in.Key]
		srv.shares.mu.Unlock()
		if h != nil {
			out = h.answer(ctx, &in)
		}
	}
	b, err := json.Marshal(&out)
	if err != nil {
		panic("mqtt: a reply: " + err.Error()) // impossible: numbers
	}
	return b
}

func (h *share) answer(ctx context.Context, in *loanRequest) loanReply {
	h.turn.Lock()
	if h.ended || !h.ours || !h.server.hub.Alive(in.Hub) { // look would forget the hub again at once
		h.turn.Unlock()
		return loanReply{Elsewhere: true}
	}
	b, answer, again := h.told(in)
	h.goOn(again)
	h.look()
	h.turn.Unlock()
	if answer == nil {
		return loanReply{}
	}
	return h.wait(ctx, b, answer)
}

// told takes over what a request tells, unless it is older than another one that was told. It returns the hub that asks; what
// is closed when there are messages for it, or nil if it does not ask; and whether messages have to be given again. h.turn is
// held.
func (h *share) told(in *loanRequest) (b *borrower, answer chan struct{}, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.Number <= h.newest[in.Hub] {
		return nil, nil, false
	}
	h.newest[in.Hub] = in.Number
	known := len(h.borrowers)
	b = h.borrower(in.Hub)
	b.heard = time.Now()
	if in.Asks {
		b.dismiss()
		answer = make(chan struct{})
		b.answer = answer
	}
	again = h.settle(b, in)
	if len(b.lent) == 0 { // otherwise the hub does not know yet what was lent to it
		b.rooms = in.Rooms
	}
	h.kept = h.kept || in.Kept
	if in.Leaves {
		again = h.remove(b) || again
	}
	if again || in.Leaves || len(in.Done) > 0 || len(h.borrowers) > known {
		_ = h.save() // an error: an older position repeats more
	}
	return b, answer, again
}

// borrower returns a hub that borrows messages. It may be a new one. h.mu is held.
func (h *share) borrower(id string) *borrower {
	i := slices.IndexFunc(h.borrowers, func(b *borrower) bool { return b.hub == id })
	if i < 0 {
		i = len(h.borrowers)
		h.borrowers = append(h.borrowers, &borrower{hub: id, heard: time.Now()})
	}
	return h.borrowers[i]
}

// settle takes over what has become of the messages that a hub has borrowed. It reports whether some were lost there, and
// have to be given again. h.mu is held.
func (h *share) settle(b *borrower, in *loanRequest) (lost bool) {
	done, back, has := gapsOf(in.Done), gapsOf(in.Back), setOf(in.Has)
	kept := h.lent[:0]
	for _, x := range h.lent {
		theirs := x.at == b || x.free()
		untold, over := done[x.seq]
		again, returned := back[x.seq]
		switch {
		case theirs && over:
			h.gap.add(h.server.gapAfter(untold))
			continue
		case theirs && has[x.seq]:
			x.at = b
		case x.at == b && returned:
			x.gap = h.server.gapAfter(again)
			h.lose(&x)
			lost = true
		case x.at == b && in.Asks:
			h.lose(&x)
			lost = true
		}
		kept = append(kept, x)
	}
	clear(h.lent[len(kept):])
	h.lent = kept
	return lost
}

func setOf(list []store.Seq) map[store.Seq]bool {
	set := make(map[store.Seq]bool, len(list))
	for _, seq := range list {
		set[seq] = true
	}
	return set
}

// gapsOf returns the gaps of messages.
func gapsOf(list []loan) map[store.Seq]string {
	gaps := make(map[store.Seq]string, len(list))
	for _, l := range list {
		gaps[l.Seq] = l.Gap
	}
	return gaps
}

// remove forgets a hub, and reports whether messages have to be given again. h.mu is held.
func (h *share) remove(b *borrower) (again bool) {
	b.dismiss()
	h.borrowers = slices.DeleteFunc(h.borrowers, func(x *borrower) bool { return x == b })
	for i := range h.lent {
		if x := &h.lent[i]; x.at == b {
			h.lose(x)
			again = true
		}
	}
	return again
}

// dismiss forgets all hubs that have borrowed messages. h.mu is held.
func (h *share) dismiss() {
	for len(h.borrowers) > 0 {
		h.remove(h.borrowers[0])
	}
}

// wait waits until messages were lent to a hub that asks, and returns them.
func (h *share) wait(ctx context.Context, b *borrower, answer chan struct{}) (out loanReply) {
	late := time.NewTimer(loanWait)
	defer late.Stop()
	select {
	case <-answer:
	case <-late.C:
	case <-ctx.Done():
	case <-h.server.ctx.Done():
		return loanReply{Elsewhere: true} // soon
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.answer == answer { // otherwise there is a later request
		out.Lent = b.lent
		b.answer, b.lent, b.rooms = nil, nil, nil
		if len(out.Lent) > 0 {
			_ = h.save() // an error: another hub that gets the position gives them again
		}
	}
	return out
}

// look forgets hubs that do not ask any more, and looks again later if there are others. h.turn is held.
func (h *share) look() {
	if h.watch != nil {
		h.watch.Stop()
		h.watch = nil
	}
	if h.ended || !h.ours {
		return
	}
	h.mu.Lock()
	again, gone := false, false
	for _, b := range slices.Clone(h.borrowers) {
		if time.Since(b.heard) > silence || !h.server.hub.Alive(b.hub) {
			again, gone = h.remove(b) || again, true
		}
	}
	maps.DeleteFunc(h.newest, func(id string, _ uint64) bool { return !h.server.hub.Alive(id) })
	left := len(h.borrowers)
	h.mu.Unlock()
	if gone {
		h.goOn(again)
	}
	if left > 0 && !h.ended {
		h.watch = time.AfterFunc(lookAgain, func() {
			h.turn.Lock()
			defer h.turn.Unlock()
			h.look()
		})
	}
}

// noteLoans adds to a position which hubs have borrowed its messages, so that another hub that gets the position leaves the
// messages there. h.mu is held.
func (h *share) noteLoans(p *cursor.Position) {
	if len(h.borrowers) == 0 {
		return
	}
	var ids []string
	for _, b := range h.borrowers {
		ids = append(ids, b.hub)
	}
	p.Filters[0].Options = []byte(strings.Join(ids, " "))
	for i, x := range h.lent {
		if x.at != nil {
			p.Window[i].Tag = uint16(1 + slices.Index(h.borrowers, x.at))
		}
	}
}

// restoreLoans takes over what noteLoans has added. h.mu is held.
func (h *share) restoreLoans(p *cursor.Position) {
	var ids []string
	if len(p.Filters) > 0 {
		ids = strings.Fields(string(p.Filters[0].Options))
	}
	for _, u := range p.Window {
		if slices.ContainsFunc(h.lent, func(x lending) bool { return x.seq == u.Seq }) {
			continue // a member here has it
		}
		x := lending{seq: u.Seq}
		if i := int(u.Tag) - 1; i >= 0 && i < len(ids) && ids[i] != h.server.hub.ID() && h.server.hub.Alive(ids[i]) {
			x.at = h.borrower(ids[i])
		}
		h.keep(x)
	}
}
