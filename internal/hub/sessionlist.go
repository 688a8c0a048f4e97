package hub

import (
	"cmp"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/session"
)

// SessionListing asks for a list of sessions.
type SessionListing struct {
	Sort  SessionOrder
	Limit int    // most sessions; 0: all, only with SortSince
	After string // what the previous page returned as next
}

// SessionOrder is the order of a list of sessions.
type SessionOrder string

// The orders. Sessions with the same value are in the order in which they began.
const (
	SortSince SessionOrder = "since" // the order in which they began
	SortLag   SessionOrder = "lag"   // the one whose stream is furthest behind in the log first
	SortSent  SessionOrder = "sent"  // the one with the most bytes sent first
)

// SessionOrders lists the orders.
var SessionOrders = []SessionOrder{SortSince, SortLag, SortSent}

// value returns what the list is sorted by, the largest value first. Counting the bytes that a session is behind is
// too expensive for all of them, but the position of a stream is known.
func (o SessionOrder) value(e session.Entry) (v uint64) {
	if o == SortSince {
		return 0
	}
	e.Streams(func(s session.Stream) {
		stream := s.(progress)
		switch o {
		case SortLag:
			if stream.Behind() {
				v = max(v, math.MaxUint64-uint64(stream.Position()))
			}
		case SortSent:
			_, bytes := stream.Sent()
			v += bytes
		}
	})
	return v
}

// add combines the values of a session's streams at two hubs.
func (o SessionOrder) add(a, b uint64) uint64 {
	if o == SortLag {
		return max(a, b)
	}
	return a + b
}

// maxValues is how many sessions a hub tells another one the values of: those with the largest.
const maxValues = 5000

// topValues returns by what the sessions with streams here are sorted, by uid.
func (h *Hub) topValues(o SessionOrder) map[string]uint64 {
	best := top[sessionRow]{limit: maxValues, less: (*sessionRow).compare}
	for e := range h.entries(0) {
		if row := h.row(e, o.value(e)); row.value > 0 {
			best.add(&row)
		}
	}
	rows, _ := best.sorted()
	values := make(map[string]uint64, len(rows))
	for i := range rows {
		values[rows[i].UID()] = rows[i].value
	}
	return values
}

// values returns by what sessions are sorted because of their streams at other hubs, by uid. A hub that does not answer counts
// nothing.
func (c *cluster) values(o SessionOrder) map[string]uint64 {
	if c == nil || o == SortSince {
		return nil
	}
	requests := map[string]*request{}
	for _, hub := range c.hubs.List() {
		if hub.ID != c.hubs.Self() {
			requests[hub.ID] = &request{Do: doValues, Sort: o}
		}
	}
	sum := map[string]uint64{}
	c.gather(requests, func(_ string, r *reply) {
		for uid, v := range r.Values {
			sum[uid] = o.add(sum[uid], v)
		}
	})
	return sum
}

// sessionRow is a session and its place in a list.
type sessionRow struct {
	session.Entry
	sessionPlace
}

// sessionPlace is a place in a list, which is also that of the page before the next one. Each hub has numbers of its own for
// sessions, so several hubs have them in the order of when they began.
type sessionPlace struct {
	value uint64
	began uint64 // the session's number; with several hubs, the Unix time in ns
	uid   string // of sessions that began at once
}

// row returns a session's row in a list.
func (h *Hub) row(e session.Entry, value uint64) sessionRow {
	p := sessionPlace{value, e.Number(), e.UID()}
	if h.cluster != nil {
		p.began = uint64(e.Since())
	}
	return sessionRow{e, p}
}

func (r *sessionRow) compare(other *sessionRow) int {
	return r.sessionPlace.compare(&other.sessionPlace)
}

func (p *sessionPlace) compare(other *sessionPlace) int {
	return cmp.Or(cmp.Compare(other.value, p.value), cmp.Compare(p.began, other.began), cmp.Compare(p.uid, other.uid))
}

func (p *sessionPlace) cursor() string {
	return strconv.FormatUint(p.value, 10) + "," + strconv.FormatUint(p.began, 10) + "," + p.uid
}

// Check returns a *CursorError if After is invalid.
func (q *SessionListing) Check() error {
	_, err := q.cursor()
	return err
}

// cursor reads After: the place of the last session of the previous page.
func (q *SessionListing) cursor() (p sessionPlace, err error) {
	if q.After == "" {
		return sessionPlace{value: math.MaxUint64}, nil
	}
	value, rest, _ := strings.Cut(q.After, ",")
	began, uid, _ := strings.Cut(rest, ",")
	p.uid = uid
	p.value, err = strconv.ParseUint(value, 10, 64)
	if err == nil {
		p.began, err = strconv.ParseUint(began, 10, 64)
	}
	if err != nil || p.began == 0 || uid == "" {
		return p, &CursorError{q.After}
	}
	return p, nil
}

// Sessions yields the sessions that are connected, or lost and not gone yet. It stops at the first error of yield
// and returns it. If there are more than the limit, it returns what to pass as After to get the next ones.
func (h *Hub) Sessions(q *SessionListing, yield func(*Session) error) (next string, err error) {
	after, err := q.cursor()
	switch {
	case err != nil:
		return "", err
	case q.Sort == SortSince && h.cluster == nil:
		return h.sessionsSince(after.began, q.Limit, yield)
	}
	limit := q.Limit
	if limit == 0 {
		limit = math.MaxInt
	}
	best := top[sessionRow]{limit: limit, less: (*sessionRow).compare}
	h.cluster.catchUpToShow()
	elsewhere := h.cluster.values(q.Sort)
	for e := range h.entries(0) {
		row := h.row(e, q.Sort.add(q.Sort.value(e), elsewhere[e.UID()]))
		if row.began > 0 && row.sessionPlace.compare(&after) > 0 {
			best.add(&row)
		}
	}
	rows, more := best.sorted()
	out := described{hub: h, yield: yield}
	for i := range rows {
		info, ok := rows[i].Info()
		if !ok {
			continue // it has ended meanwhile
		}
		if err := out.add(info); err != nil {
			return "", err
		}
	}
	if more {
		next = rows[len(rows)-1].cursor()
	}
	return next, out.flush()
}

// described yields sessions with the figures of their streams, also of those at other hubs. Each of these is
// asked about many sessions at once.
type described struct {
	hub     *Hub
	waiting []*Session
	yield   func(*Session) error
}

func (d *described) add(i session.Info) error {
	s := d.hub.describe(i)
	d.waiting = append(d.waiting, &s)
	if d.hub.cluster != nil && len(d.waiting) < sessionPage {
		return nil
	}
	return d.flush()
}

func (d *described) flush() error {
	d.hub.cluster.addTraits(d.waiting)
	for _, s := range d.waiting {
		if err := d.yield(s); err != nil {
			return err
		}
	}
	d.waiting = d.waiting[:0]
	return nil
}

// sessionPage is after how many sessions a list pauses.
const sessionPage = 256

// entries yields the sessions behind a number, with a pause now and then.
func (h *Hub) entries(no uint64) iter.Seq[session.Entry] {
	return func(yield func(session.Entry) bool) {
		n := 0
		for e := range h.sessions.Entries(no) {
			if n++; n%sessionPage == 0 {
				time.Sleep(pause)
			}
			if !yield(e) {
				return
			}
		}
	}
}

// sessionsSince yields the sessions behind a number, in the order in which they began.
func (h *Hub) sessionsSince(no uint64, limit int, yield func(*Session) error) (next string, err error) {
	n := 0
	var last sessionPlace
	out := described{hub: h, yield: yield}
	for e := range h.entries(no) {
		i, ok := e.Info()
		switch {
		case !ok:
			continue
		case limit > 0 && n == limit:
			return last.cursor(), out.flush()
		}
		n++
		last = h.row(e, 0).sessionPlace
		if err := out.add(i); err != nil {
			return "", err
		}
	}
	return "", out.flush()
}
