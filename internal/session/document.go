package session

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// document is what is known of a session beside the streams that are open here. If several hubs share the
// log, all of them know the same document.
type document struct {
	begun   bool    // whether it has had a stream; false: there is no session
	keep    seconds // for which it is lost, if it is gone sooner than otherwise; 0: it is not
	client  Client
	since   int64 // wall-clock time when it began, in Unix nanoseconds
	members []member
	lost    moment   // when its last stream closed; zero while it is connected
	lostAt  int64    // the same as wall-clock time, in Unix nanoseconds
	why     Reason   // why it was lost
	reached Position // of the stream that closed last, or of the log when it began
	will    *Will
}

// seconds is a duration, in half the memory of a time.Duration.
type seconds uint32

func secondsOf(d time.Duration) seconds {
	return seconds(min(max(0, (d+time.Second-1)/time.Second), math.MaxUint32))
}

// member is the session's membership of a filter.
type member struct {
	filter group.Filter
	lost   moment // when the last stream with the filter closed; zero while one is open
	lostAt int64  // the same as wall-clock time, in Unix nanoseconds
	why    Reason // why it was lost
}

// cause says why a document has to change, beside the streams that are open.
type cause struct {
	why     Reason   // why streams closed: memberships without a stream are lost
	reached Position // of the stream that closed last
	keep    seconds  // for which the session is lost, as in its document
	bye     []uint64 // ids of the wills that the client has taken back by a goodbye
	left    reasons  // filters that the session leaves, instead of losing them
	lost    reasons  // filters that it loses for a reason of their own
	joins   bool     // a stream has joined a filter
	due     bool     // end what has been lost for the session timeout, and send a will whose delay has passed
	end     Reason   // end the session; "": do not
	newWill bool
	will    *Will       // with newWill
	opened  *Attachment // a stream that has opened,
	by      *Opening    // with this
	from    Position    // the end of the log when the first one opened: the session has missed nothing before, if it begins
	client  *Client     // that opened the newest stream; nil: the same as before

	// What was open here when a change was postponed.
	again int64  // when a stream was, as a wall-clock time in Unix nanoseconds: if the session was lost before, it is lost anew; 0: none was
	back  times  // the same of each filter
	upTo  moment // when a stream was: memberships that were over by then have ended; 0: none was
}

// reasons is why a session leaves or loses filters.
type reasons map[group.Filter]Reason

// times is until when streams had filters, as wall-clock times in Unix nanoseconds.
type times map[group.Filter]int64

// plan computes the document that follows from the newest document, the open streams, the cause and the
// time, with the events that this means. It changes only x
// and the number of a stream that has opened. The session's mu must be held.
func (s *Session) plan(x *Change, now moment) {
	x.begin(s)
	s.shared.base(x)
	d, c := &x.doc, &x.cause
	if d.will != nil && slices.Contains(c.bye, d.will.ID) { // otherwise it is the will of another connection
		x.dropWill()
	}
	if c.newWill {
		d.will = c.will
	}
	if c.client != nil {
		postponed := c.opened == nil || c.why != "" // the stream's opening, or an earlier loss
		x.rewrite = x.rewrite || postponed && d.begun && !c.client.same(&d.client)
		d.client = *c.client
	}
	if c.end != "" {
		x.finish(c.end)
		return
	}
	open := s.open()
	here := len(s.streams) > 0 || s.shared.elsewhere()
	switch {
	case here && !d.begun:
		d.begun, d.reached = true, c.from
		x.record(Connect, group.Filter{}, "")
	case here && d.lost != 0:
		x.record(Reconnect, group.Filter{}, d.why)
		d.lost, d.lostAt, d.why, d.keep = 0, 0, "", 0
	case !d.begun:
		return
	}
	x.enter(open)
	x.lose(open, now)
	if d.lost == 0 && c.upTo != 0 {
		x.endOverdue(c.upTo)
	}
	if !here {
		x.loseSession(now)
	}
	if c.due {
		x.endDue(now)
	}
	x.shorten()
}

// loseSession makes the session lost, unless that is known.
func (x *Change) loseSession(now moment) {
	d, c := &x.doc, &x.cause
	again := d.lost != 0 && d.lostAt <= c.again
	if d.lost != 0 && !again {
		return
	}
	x.rewrite = x.rewrite || again
	d.lost, d.lostAt, d.why, d.keep = now, time.Now().UnixNano(), x.whyLost(), c.keep
	if c.reached != (Position{}) { // otherwise its hub is down, and the position before is the newest that is known
		d.reached = c.reached
	}
	if d.will != nil && d.will.Delay != nil && *d.will.Delay == 0 { // now, since the client may return at once
		x.sendWill()
	}
}

// shorten leaves out what is too large.
func (x *Change) shorten() {
	if x.omits == nothing || x.gone != "" {
		return
	}
	x.Events = slices.DeleteFunc(x.Events, func(e Event) bool { return e.Kind == Lost })
	if x.omits == everything && !x.streams {
		x.finish(cmp.Or(x.doc.why, x.whyLost()))
	} else {
		x.endMembers(func(m member) bool { return m.lost != 0 })
	}
}

// few is how many filters are searched one by one rather than with a map.
const few = 32

// enter makes the session a member of the open filters.
func (x *Change) enter(open []group.Filter) {
	find := x.doc.member
	var index map[group.Filter]int
	if len(x.doc.members)+len(open) > few {
		index = make(map[group.Filter]int, len(x.doc.members)+len(open))
		for i, m := range x.doc.members {
			index[m.filter] = i
		}
		find = func(f group.Filter) int {
			if i, ok := index[f]; ok {
				return i
			}
			return -1
		}
	}
	for _, f := range open {
		i := find(f)
		switch {
		case i < 0:
			if index != nil {
				index[f] = len(x.doc.members)
			}
			if !x.copied {
				x.copied, x.doc.members = true, slices.Clip(x.doc.members) // the append copies it
			}
			x.doc.members = append(x.doc.members, member{filter: f})
			x.record(Join, f, "")
		case x.doc.members[i].lost != 0:
			m := &x.ownMembers()[i]
			x.record(Back, f, m.why)
			m.lost, m.lostAt, m.why = 0, 0, ""
		}
	}
}

// lose ends or suspends the memberships of filters that are no longer open.
func (x *Change) lose(open []group.Filter, now moment) {
	isOpen := func(f group.Filter) bool { return slices.Contains(open, f) }
	if len(x.doc.members)+len(open) > few {
		set := make(map[group.Filter]bool, len(open))
		for _, f := range open {
			set[f] = true
		}
		isOpen = func(f group.Filter) bool { return set[f] }
	}
	for i := 0; i < len(x.doc.members); i++ {
		f, lost := x.doc.members[i].filter, x.doc.members[i].lost != 0
		again := lost && x.doc.members[i].lostAt <= x.cause.back[f]
		if lost && !again && x.cause.left == nil || isOpen(f) {
			continue
		}
		switch why, left := x.cause.left[f]; {
		case left:
			x.doc.members = slices.Delete(x.ownMembers(), i, i+1)
			x.record(Leave, f, why)
			i--
		case !lost || again:
			m := &x.ownMembers()[i]
			m.lost, m.lostAt, m.why = now, time.Now().UnixNano(), cmp.Or(x.cause.lost[f], x.whyLost())
			if x.rewrite = x.rewrite || again; !again { // otherwise its return was not told either
				x.record(Lost, f, m.why)
			}
		}
	}
}

// endDue ends the session, or memberships of a connected session, if they have been lost for the session
// timeout, and sends a will whose delay has passed.
func (x *Change) endDue(now moment) {
	d := &x.doc
	timeout := x.session.registry.timeout
	if d.lost != 0 {
		if d.will != nil && d.will.Delay != nil && now >= d.lost.add(*d.will.Delay) {
			x.sendWill()
		}
		if now >= d.end(timeout) {
			x.finish(d.why)
		}
		return
	}
	x.endOverdue(now)
}

// endOverdue ends memberships that were lost for the session timeout at a moment.
func (x *Change) endOverdue(at moment) {
	timeout := x.session.registry.timeout
	x.endMembers(func(m member) bool { return m.lost != 0 && at >= m.lost.add(timeout) })
}

// endMembers ends memberships that are over.
func (x *Change) endMembers(over func(member) bool) {
	if !slices.ContainsFunc(x.doc.members, over) {
		return
	}
	x.doc.members = slices.DeleteFunc(x.ownMembers(), func(m member) bool {
		if over(m) {
			x.record(Leave, m.filter, m.why)
			return true
		}
		return false
	})
}

// end returns when a lost session is gone.
func (d *document) end(timeout time.Duration) moment {
	if w := d.will; w != nil && w.Holds && w.Delay != nil {
		timeout = max(timeout, *w.Delay)
	}
	if d.keep > 0 {
		timeout = min(timeout, time.Duration(d.keep)*time.Second)
	}
	return d.lost.add(timeout)
}

// finish ends the session.
func (x *Change) finish(why Reason) {
	x.gone = cmp.Or(why, Closed)
	x.tell = x.cause.end == Kicked && x.session.polling()
	for i := range x.Events { // a leave that was postponed until now is none: the session has ended
		if e := &x.Events[i]; e.Kind == Leave {
			e.Kind, e.Reason = Gone, why
		}
	}
	for _, m := range x.doc.members {
		x.record(Gone, m.filter, why)
	}
	switch {
	case x.cause.end == Shutdown: // keep the will: the next start sends it if the session does not return
	case why != Ended:
		x.sendWill()
	default:
		x.dropWill()
	}
	x.record(Disconnect, group.Filter{}, why)
	x.doc = document{}
}

// sendWill records that the will must be sent, and drops it so that it is sent only once.
func (x *Change) sendWill() {
	if w := x.doc.will; w != nil {
		x.Events = append(x.Events, Event{Kind: SendWill, UID: x.UID, Will: w})
		x.doc.will = nil
	}
}

// dropWill records that the will is not sent.
func (x *Change) dropWill() {
	if w := x.doc.will; w != nil {
		x.Events = append(x.Events, Event{Kind: WillDone, UID: x.UID, Will: w})
		x.doc.will = nil
	}
}

func (x *Change) record(k Kind, f group.Filter, why Reason) {
	x.Events = append(x.Events, Event{Kind: k, UID: x.UID, Subject: x.session.owner(), Filter: f, Reason: why})
}

// whyLost returns the reason for which memberships without a stream are lost.
func (x *Change) whyLost() Reason { return cmp.Or(x.cause.why, x.session.shared.whyStale(), Closed) }

// ownMembers returns the memberships to be changed in place: a copy, since readers may use the others.
func (x *Change) ownMembers() []member {
	if !x.copied {
		x.copied = true
		x.doc.members = slices.Clone(x.doc.members)
	}
	return x.doc.members
}

// member returns the index of the membership of a filter, or -1.
func (d *document) member(f group.Filter) int {
	return slices.IndexFunc(d.members, func(m member) bool { return m.filter == f })
}
