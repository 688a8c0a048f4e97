package session

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/group"
)

// tick is the unit of time in the random tests: every duration in them is a multiple of it.
const tick = 500 * time.Millisecond

// model computes the events that a registry should report about one session, in the simplest way: it
// checks everything at every tick. Times are in ticks.
type model struct {
	now       int
	connected bool // else lost or unknown
	streams   []*modelStream
	members   []*modelMember
	will      *Will
	lost      int
	why       Reason
	lastSign  int
	events    []string
}

type modelStream struct {
	filters   []string
	heartbeat int
}

type modelMember struct {
	filter  string
	streams int
	lost    int
	why     Reason
}

func (m *model) record(format string, args ...any) {
	m.events = append(m.events, fmt.Sprintf(format, args...))
}

func (m *model) known() bool { return m.connected || m.why != "" }

func (m *model) open(filters []string, heartbeat int) {
	switch {
	case !m.known():
		m.record("connect")
	case !m.connected:
		m.record("reconnect %s", m.why)
	}
	m.connected, m.why, m.lastSign = true, "", m.now
	m.streams = append(m.streams, &modelStream{filters: filters, heartbeat: heartbeat})
	for _, f := range filters {
		m.enter(f)
	}
}

func (m *model) enter(f string) {
	for _, x := range m.members {
		if x.filter == f {
			if x.streams++; x.streams == 1 {
				m.record("back %s %s", f, x.why)
			}
			return
		}
	}
	m.members = append(m.members, &modelMember{filter: f, streams: 1})
	m.record("join %s", f)
}

func (m *model) close(s *modelStream, why Reason) {
	m.streams = slices.DeleteFunc(m.streams, func(x *modelStream) bool { return x == s })
	for _, x := range m.members {
		if slices.Contains(s.filters, x.filter) {
			if x.streams--; x.streams == 0 {
				x.lost, x.why = m.now, why
				m.record("lost %s %s", x.filter, why)
			}
		}
	}
	if len(m.streams) == 0 {
		m.connected, m.lost, m.why = false, m.now, why
	}
}

func (m *model) join(f string) {
	if len(m.streams) == 0 {
		return
	}
	s := m.streams[len(m.streams)-1]
	if !slices.Contains(s.filters, f) && len(s.filters) < mostFilters {
		s.filters = append(slices.Clip(s.filters), f)
		m.enter(f)
	}
}

func (m *model) leave(f string) {
	if len(m.streams) == 0 {
		return
	}
	for _, s := range m.streams {
		s.filters = slices.DeleteFunc(slices.Clone(s.filters), func(x string) bool { return x == f })
	}
	m.members = slices.DeleteFunc(m.members, func(x *modelMember) bool {
		if x.filter == f {
			m.record("leave %s", f)
		}
		return x.filter == f
	})
}

func (m *model) sendWill() {
	if m.will != nil {
		m.record("will %s", m.will.Msg)
		m.will = nil
	}
}

func (m *model) end(why Reason) {
	if !m.known() {
		return
	}
	for _, x := range m.members {
		m.record("gone %s %s", x.filter, why)
	}
	if why != Ended {
		m.sendWill()
	}
	m.record("disconnect %s", why)
	*m = model{now: m.now, events: m.events}
}

// pass advances the model by a number of ticks and handles what is due at each of them.
func (m *model) pass(ticks int) {
	for ; ; ticks-- {
		m.due()
		if ticks == 0 {
			return
		}
		m.now++
	}
}

func (m *model) due() {
	const over = int(timeout / tick)
	if m.connected { // before silent streams, whose end is reported later by another goroutine
		m.members = slices.DeleteFunc(m.members, func(x *modelMember) bool {
			left := x.streams == 0 && m.now >= x.lost+over
			if left {
				m.record("leave %s %s", x.filter, x.why)
			}
			return left
		})
	}
	for _, s := range slices.Clone(m.streams) {
		if s.heartbeat > 0 && m.now >= m.lastSign+s.heartbeat*3/2 {
			m.close(s, Heartbeat)
		}
	}
	if !m.known() || m.connected {
		return
	}
	if m.will != nil && m.will.Delay != nil && m.now >= m.lost+int(*m.will.Delay/tick) {
		m.sendWill()
	}
	if m.now >= m.lost+over {
		m.end(m.why)
	}
}

const mostFilters = 2

// step is a step of a random test.
type step struct {
	do    string
	text  []string // filters
	n     int
	delay *time.Duration
}

func (s step) String() string {
	if s.delay != nil {
		return fmt.Sprintf("%s %v %d after %v", s.do, s.text, s.n, *s.delay)
	}
	return fmt.Sprintf("%s %v %d", s.do, s.text, s.n)
}

var steps = rapid.Custom(func(t *rapid.T) step {
	s := step{do: rapid.SampledFrom([]string{
		"open", "open", "open", "close", "close", "farewell", "pass", "pass", "pass", "join", "leave", "will", "clear", "end", "kick", "sign of life",
	}).Draw(t, "do")}
	s.n = rapid.IntRange(0, 3).Draw(t, "n")
	switch s.do {
	case "open":
		s.text = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), 0, mostFilters, rapid.ID[string]).Draw(t, "filters")
	case "join", "leave":
		s.text = []string{rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "filter")}
	case "pass":
		s.n = rapid.SampledFrom([]int{0, 1, 2, 5, 12, 19, 20, 21}).Draw(t, "ticks")
	case "will":
		if d := rapid.SampledFrom([]int{-1, 0, 3, 19, 20, 30}).Draw(t, "delay"); d >= 0 {
			delay := time.Duration(d) * tick
			s.delay = &delay
		}
	}
	return s
})

// queued is a stream. If the session ends it, it is detached after the streams that were ended before.
type queued struct {
	stream
	q *queue
}

func (s *queued) End(why Reason) { s.q.post(func() { s.Detach(why, Position{}) }) }

// queue runs functions one after the other.
type queue struct {
	mu      sync.Mutex
	todo    []func()
	running bool
}

func (q *queue) post(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.todo = append(q.todo, f)
	if !q.running {
		q.running = true
		go q.run()
	}
}

func (q *queue) run() {
	for {
		q.mu.Lock()
		if len(q.todo) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		f := q.todo[0]
		q.todo = q.todo[1:]
		q.mu.Unlock()
		f()
	}
}

// heartbeats are the intervals, in ticks, that a stream may ask for. None divides the timeout.
var heartbeats = []int{0, 0, 2, 14}

// play runs the steps, and describes the first difference between the registry and the model, if any.
func play(w *world, list []step) string {
	var m model
	var open []*queued // in the order of the model's streams
	q := &queue{}
	for n, s := range list {
		f := group.Exact(strings.Join(s.text, ""))
		switch s.do {
		case "open":
			a := &queued{q: q}
			a.Attachment = w.attach("u", parse(strings.Join(s.text, " ")), time.Duration(heartbeats[s.n])*tick, a)
			open = append(open, a)
			m.open(s.text, heartbeats[s.n])
		case "close":
			if s.n < len(m.streams) {
				open[s.n].Detach(Closed, Position{})
				m.close(m.streams[s.n], Closed)
			}
		case "farewell":
			if s.n < len(m.streams) {
				open[s.n].Farewell()
				open[s.n].Detach(Closed, Position{})
				m.will = nil
				m.close(m.streams[s.n], Closed)
			}
		case "join":
			_ = w.Join("u", f, mostFilters)
			m.join(f.String())
		case "leave":
			_ = w.Leave("u", f)
			m.leave(f.String())
		case "will":
			will := &Will{Msg: fmt.Append(nil, n), Delay: s.delay}
			if err := w.SetWill("u", will); err == nil {
				m.will = will
			}
		case "clear":
			_ = w.SetWill("u", nil)
			m.will = nil
		case "end":
			_ = w.End("u", Ended)
			m.end(Ended)
		case "kick":
			_ = w.End("u", Kicked)
			m.end(Kicked)
		case "sign of life":
			_ = w.SignOfLife("u", "")
			m.lastSign = m.now
		case "pass":
			time.Sleep(time.Duration(s.n) * tick)
			m.pass(s.n)
		}
		synctest.Wait()
		m.due()
		open = slices.DeleteFunc(open, func(a *queued) bool { return !w.holds(a) })
		if diff := w.differs(&m, len(open)); diff != "" {
			return fmt.Sprintf("after step %d, %v: %s", n, s, diff)
		}
	}
	return checkOrder(w.events["u"])
}

// holds reports whether a stream is still part of its session.
func (w *world) holds(a *queued) bool {
	i, err := w.Get("u")
	return err == nil && slices.ContainsFunc(i.Streams, func(s Stream) bool { return s == Stream(a) })
}

// differs describes how the registry's state and events differ from the model, or returns "".
func (w *world) differs(m *model, open int) string {
	got, want := strings.Join(w.events["u"], ", "), strings.Join(m.events, ", ")
	if got != want {
		return fmt.Sprintf("events\n%s, want\n%s", got, want)
	}
	i, err := w.Get("u")
	if m.known() != (err == nil) || open != len(m.streams) || len(i.Filters) != len(m.members) || m.known() && m.connected != i.Lost.IsZero() {
		return fmt.Sprintf("the session is %+v, %v; want %+v", i, err, m)
	}
	return ""
}

// checkOrder describes the first event of a session that cannot follow those before it, or returns "".
func checkOrder(events []string) string {
	connected := false
	members := map[string]bool{} // whether each membership is lost
	wills := map[string]bool{}
	for i, s := range events {
		kind, filter, _ := strings.Cut(s, " ")
		filter, _, _ = strings.Cut(filter, " ")
		lost, member := members[filter]
		ok := connected
		switch kind {
		case "connect":
			ok, connected = !connected, true
		case "disconnect":
			ok, connected = connected && len(members) == 0, false
		case "join":
			ok = ok && !member
			members[filter] = false
		case "lost":
			ok = ok && member && !lost
			members[filter] = true
		case "back":
			ok = ok && lost
			members[filter] = false
		case "leave", "gone":
			ok = ok && member
			delete(members, filter)
		case "will":
			ok = ok && !wills[filter]
			wills[filter] = true
		}
		if !ok {
			return fmt.Sprintf("event %d, %q, is out of order in %q", i, s, events)
		}
	}
	return ""
}

func TestRandomSessionsMatchTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		list := rapid.SliceOfN(steps, 1, 60).Draw(rt, "steps")
		wrong := ""
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			wrong = play(w, list)
			w.Close()
			synctest.Wait()
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}
