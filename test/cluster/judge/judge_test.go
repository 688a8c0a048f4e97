package judge

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func id(n int) ID { return ID{"e", uint64(n)} }

// good is a history without faults: the log is
//
//	1 a/1 "A"   2 a/2 "B"   3 b "C"   4 s joins   5 s is lost   6 s is gone   7 s's will   8 a/1 "D"
func good() *History {
	start := time.Unix(1000, 0)
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	log := []Message{{}, {"a/1", "A"}, {"a/2", "B"}, {"b", "C"},
		presence("join"), presence("lost"), presence("gone"), {"w/s", "will"}, {"a/1", "D"}}
	listener := func(name, filter string, hubs ...string) Listener {
		l := Listener{Name: name, Filter: filter, Events: []Event{{Hub: hubs[0], Kind: Position, ID: id(0)}}}
		for n := 1; n < len(log); n++ {
			e := Event{Hub: hubs[n%len(hubs)], Kind: Delivery, ID: id(n), Message: log[n]}
			if !Match(filter, log[n].Group) {
				e.Kind, e.Message = Position, Message{}
			}
			l.Events = append(l.Events, e)
		}
		return l
	}
	return &History{
		Posts: []Post{
			{Hub: "h1", Key: "k", Messages: log[1:4], Outcome: Stored, First: id(1), Last: id(3), Start: at(1), End: at(2)},
			{Hub: "h2", Key: "k", Messages: log[1:4], Outcome: Stored, First: id(1), Last: id(3), Start: at(3), End: at(4)},
			{Hub: "h1", Messages: []Message{{"a/1", "no"}}, Outcome: Refused, Start: at(3), End: at(4)},
			{Hub: "h1", Messages: []Message{{"a/1", "lost"}}, Start: at(3), End: at(4)},
			{Hub: "h3", Messages: log[8:9], Outcome: Stored, First: id(8), Last: id(8), Start: at(5), End: at(6)},
		},
		Listeners: []Listener{listener("all", "#", "h1", "h2"), listener("a", "a/+", "h2", "h3"), listener("presence", "$presence/#", "h1")},
		Sessions:  []Session{{UID: "s", Absences: 1, WillGroup: "w/s", Wills: []string{"will"}}},
		Answers:   []Answer{{"GET /v1/retained/%23", "h1", "[]"}, {"GET /v1/retained/%23", "h2", "[]"}},
	}
}

func presence(event string) Message {
	return Message{"$presence/x", fmt.Sprintf(`{"event":%q,"uid":"s"}`, event)}
}

func TestAHistoryAsPromisedHasNoFault(t *testing.T) {
	if wrong := Judge(good()); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
}

// withGap is a history in which the messages 1 and 2 were removed before a listener got them.
func withGap() *History {
	h := good()
	h.Purges = []Purge{{Filter: "a/#", Through: id(3)}}
	e := &h.Listeners[0].Events
	*e = append([]Event{(*e)[0], {Hub: "h2", Kind: Gap, ID: id(0)}}, (*e)[3:]...)
	return h
}

func TestAGapExcusesWhatWasRemoved(t *testing.T) {
	if wrong := Judge(withGap()); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
}

func TestAfterACrashASessionMayBeBackWithoutHavingBeenLost(t *testing.T) {
	h := good()
	h.Crashed = true
	for _, l := range []int{0, 2} {
		h.Listeners[l].Events[5].Message = presence("back")
	}
	if wrong := Judge(h); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
}

// TestEachFaultIsFound tampers with a history without faults.
func TestEachFaultIsFound(t *testing.T) {
	drop := func(l *Listener, n int) { l.Events = append(l.Events[:n:n], l.Events[n+1:]...) }
	for want, tamper := range map[string]func(h *History){
		"did not get e-2": func(h *History) { drop(&h.Listeners[0], 2) },
		"did not get e-1": func(h *History) { drop(&h.Listeners[1], 1) },
		"did not get e-3": func(h *History) { // it was not removed
			*h = *withGap()
			drop(&h.Listeners[0], 2)
		},
		"told of a gap at e-0": func(h *History) { h.Listeners[1].Events[0].Kind = Gap },
		"did not get e-2 {": func(h *History) {
			*h = *withGap()
			drop(&h.Listeners[0], 1)
		},
		"a (a/+) did not get e-2": func(h *History) { h.Listeners[1].Events[2].Kind = Position },
		"got e-3 at": func(h *History) {
			l := &h.Listeners[0]
			l.Events = append(l.Events[:4:4], l.Events[3:]...)
		},
		"went back": func(h *History) {
			e := h.Listeners[0].Events
			e[1], e[2] = e[2], e[1]
		},
		"names two contents":  func(h *History) { h.Listeners[1].Events[1].Body = "another" },
		"was stored twice":    func(h *History) { h.Listeners[0].Events[8].Message = Message{"a/1", "A"} },
		"refused a post":      func(h *History) { h.Posts[2].Messages = []Message{{"a/1", "D"}} },
		"1 of 2 messages":     func(h *History) { h.Posts[3].Messages = []Message{{"a/1", "D"}, {"b", "lost"}} },
		"not adjacent":        func(h *History) { h.Posts[3].Messages = []Message{{"a/1", "A"}, {"a/1", "D"}} },
		"answered e-1 to e-4": func(h *History) { h.Posts[0].Last = id(4) },
		"before e-1 was sent": func(h *History) {
			h.Posts[4].Start, h.Posts[4].End = h.Posts[0].Start.Add(-2), h.Posts[0].Start.Add(-1)
		},
		"the epoch changed": func(h *History) { h.Posts[4].First.Epoch = "f" },
		"gone at e-9": func(h *History) {
			l := &h.Listeners[2]
			l.Events = append(l.Events, Event{Hub: "h1", Kind: Delivery, ID: id(9), Message: presence("gone")})
		},
		"back at e-5": func(h *History) {
			for _, l := range []int{0, 2} {
				h.Listeners[l].Events[5].Message = presence("back")
			}
		},
		"absent only 0 times": func(h *History) { h.Sessions[0].Absences = 0 },
		"has a stream: true":  func(h *History) { h.Sessions[0].Here = true },
		"was not published":   func(h *History) { h.Sessions[0].Wills = append(h.Sessions[0].Wills, "second") },
		"was published 2 times": func(h *History) {
			l := &h.Listeners[0]
			l.Events = append(l.Events, Event{Hub: "h1", Kind: Delivery, ID: id(9), Message: Message{"w/s", "will"}})
		},
		"although it is there":        func(h *History) { h.Sessions[0].WillGroup = "b" },
		"to GET /v1/retained/%23, h1": func(h *History) { h.Answers[1].Text = "[1]" },
	} {
		t.Run(want, func(t *testing.T) {
			h := good()
			tamper(h)
			if wrong := strings.Join(Judge(h), "\n"); !strings.Contains(wrong, want) {
				t.Errorf("the judge found %q", wrong)
			}
		})
	}
}
