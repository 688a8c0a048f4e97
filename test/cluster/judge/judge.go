package judge

import (
	"fmt"
	"slices"
)

// trial collects what is wrong with a history.
type trial struct {
	*History
	log    map[ID]Message   // everything that anyone saw or was told
	order  []ID             // its ids
	bodies map[Message]ID   // of the log
	twice  map[Message]bool // reported as stored twice
	wrong  []string
}

// Judge returns what is wrong with a history: nothing if it is as promised.
func Judge(h *History) []string {
	t := &trial{History: h, log: map[ID]Message{}, bodies: map[Message]ID{}, twice: map[Message]bool{}}
	t.collect()
	t.oneEpoch()
	for _, l := range h.Listeners {
		t.positionsRise(l)
		t.complete(l)
	}
	t.posts()
	t.inOrderOfTime()
	t.presence()
	t.agreement()
	return t.wrong
}

func (t *trial) fault(format string, args ...any) {
	t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
}

// collect puts together the log, in which an id has one content, and a body one id.
func (t *trial) collect() {
	for _, l := range t.Listeners {
		for _, e := range l.Events {
			if e.Kind == Delivery {
				t.saw(e.ID, e.Message, l.Name+" at "+e.Hub)
			}
		}
	}
	for _, p := range t.Posts {
		for i, m := range p.Messages {
			if p.Outcome == Stored {
				t.saw(ID{p.First.Epoch, p.First.Seq + uint64(i)}, m, "the publisher at "+p.Hub)
			}
		}
	}
	for id := range t.log {
		t.order = append(t.order, id)
	}
	slices.SortFunc(t.order, byID)
}

func (t *trial) saw(id ID, m Message, who string) {
	if was, ok := t.log[id]; ok && was != m {
		t.fault("%v names two contents: %q, and to %s %q", id, was, who, m)
	}
	t.log[id] = m
	if system(m.Group) {
		return
	}
	if was, ok := t.bodies[m]; !ok {
		t.bodies[m] = id
	} else if was != id && !t.twice[m] {
		t.twice[m] = true
		t.fault("%q was stored twice: %v and, to %s, %v", m, was, who, id)
	}
}

func (t *trial) oneEpoch() {
	if n := len(t.order); n > 0 && t.order[0].Epoch != t.order[n-1].Epoch {
		t.fault("the epoch changed from %v to %v", t.order[0], t.order[n-1])
	}
}

func (t *trial) positionsRise(l Listener) {
	for i := 1; i < len(l.Events); i++ {
		before, e := l.Events[i-1], l.Events[i]
		switch d := byID(before.ID, e.ID); {
		case d > 0:
			t.fault("%s went back from %v at %s to %v at %s", l.Name, before.ID, before.Hub, e.ID, e.Hub)
		case d == 0 && e.Kind == Delivery:
			t.fault("%s got %v at %s, and again at %s", l.Name, e.ID, before.Hub, e.Hub)
		}
	}
}

// complete checks that a listener got each message of its filter up to its last position, unless it was removed and a gap
// came before. A gap without a removal is a fault, too.
func (t *trial) complete(l Listener) {
	if len(l.Events) == 0 {
		return
	}
	var due []ID
	for _, id := range t.order {
		if Match(l.Filter, t.log[id].Group) && byID(id, l.Events[0].ID) > 0 {
			due = append(due, id)
		}
	}
	told := false
	for _, e := range l.Events {
		if told = told || e.Kind == Gap; e.Kind == Gap && !t.mayHaveGap(l.Filter) {
			t.fault("%s (%s) was told of a gap at %v by %s, but nothing was removed: %s", l.Name, l.Filter, e.ID, e.Hub, e.Body)
		}
		for ; len(due) > 0 && byID(due[0], e.ID) <= 0; due = due[1:] {
			got := due[0] == e.ID && e.Kind == Delivery
			if !got && (!told || !t.removed(due[0])) {
				t.fault("%s (%s) did not get %v %q: it moved on to %v at %s", l.Name, l.Filter, due[0], t.log[due[0]], e.ID, e.Hub)
			}
		}
	}
}

// removed reports whether a message may have been removed.
func (t *trial) removed(id ID) bool {
	if t.Crashed && system(t.log[id].Group) {
		return true
	}
	for _, p := range t.Purges {
		if (p.Filter == "" || Match(p.Filter, t.log[id].Group)) && byID(id, p.Through) <= 0 {
			return true
		}
	}
	return false
}

// mayHaveGap reports whether a message of the filter may have been removed.
func (t *trial) mayHaveGap(filter string) bool {
	if t.Crashed && system(filter) {
		return true
	}
	for _, p := range t.Purges {
		if p.Filter == "" || Match(filter, p.Filter) || Match(p.Filter, filter) {
			return true
		}
	}
	return false
}

// posts checks that refused messages are not in the log, and batches are there as a whole, adjacent.
func (t *trial) posts() {
	for _, p := range t.Posts {
		var ids []ID
		excused := false
		for _, m := range p.Messages {
			if id, ok := t.bodies[m]; ok {
				ids = append(ids, id)
			}
			excused = excused || t.mayHaveGap(m.Group) || t.twice[m]
		}
		switch {
		case p.Outcome == Refused && len(ids) > 0:
			t.fault("%s refused a post whose message %v exists", p.Hub, ids[0])
		case p.Outcome == Stored && !t.twice[p.Messages[0]] && byID(p.Last, ids[len(ids)-1]) != 0:
			t.fault("%s answered %v to %v for %d messages, but the last is %v", p.Hub, p.First, p.Last, len(p.Messages), ids[len(ids)-1])
		case len(ids) > 0 && len(ids) < len(p.Messages) && !excused:
			t.fault("%d of %d messages of a post at %s exist: %v", len(ids), len(p.Messages), p.Hub, ids)
		}
		for i := 1; i < len(ids) && !excused; i++ {
			if ids[i].Seq != ids[i-1].Seq+1 {
				t.fault("the messages of a post at %s are not adjacent: %v", p.Hub, ids)
			}
		}
	}
}

// inOrderOfTime checks that a post that began after another was answered is behind it in the log.
func (t *trial) inOrderOfTime() {
	var stored []Post
	first := map[string]int{} // by key: only the first answer of repeats says when the messages were stored
	for _, p := range t.Posts {
		if p.Outcome != Stored {
			continue
		}
		if i, ok := first[p.Key]; ok && p.Key != "" {
			stored[i].Start = earlier(stored[i].Start, p.Start)
			stored[i].End = earlier(stored[i].End, p.End)
			continue
		}
		first[p.Key] = len(stored)
		stored = append(stored, p)
	}
	for _, p := range t.Posts { // an attempt whose answer was lost may have stored them
		if i, ok := first[p.Key]; ok && p.Key != "" {
			stored[i].Start = earlier(stored[i].Start, p.Start)
		}
	}
	slices.SortFunc(stored, func(a, b Post) int { return byID(a.First, b.First) })
	for i := len(stored) - 1; i > 0; i-- { // the later in the log, the later its end must be than any start before it
		for j := range i {
			if stored[i].End.Before(stored[j].Start) {
				t.fault("%v was stored before %v was sent, but comes later", stored[i].First, stored[j].First)
			}
		}
	}
}

// agreement checks that all hubs give one answer to a question.
func (t *trial) agreement() {
	first := map[string]Answer{}
	for _, a := range t.Answers {
		if was, ok := first[a.Question]; ok && was.Text != a.Text {
			t.fault("to %s, %s answers %s, and %s answers %s", a.Question, was.Hub, was.Text, a.Hub, a.Text)
		} else if !ok {
			first[a.Question] = a
		}
	}
}
