package judge

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// presencePrefix is how groups begin in which sessions come and go.
const presencePrefix = "$presence/"

// after has the events that may follow another in a session's presence; "" is the begin.
var after = map[string][]string{
	"": {"join"}, "join": {"lost", "leave", "gone"}, "back": {"lost", "leave", "gone"},
	"lost": {"back", "leave", "gone"}, "leave": {"join"}, "gone": {"join"},
}

// presence checks that the states of each session follow one another, that it is gone only if it was absent, and that its
// wills were published once, at its end.
func (t *trial) presence() {
	for _, s := range t.Sessions {
		state, gone, wills := "", 0, map[string]int{}
		for _, id := range t.order {
			m := t.log[id]
			if m.Group == s.WillGroup {
				wills[m.Body]++
				if !t.ends(s, id, state) {
					t.fault("the will %v %q of %s was published although it is there", id, m, s.UID)
				}
			}
			event, ok := eventOf(s.UID, m)
			if !ok {
				continue
			}
			returned := t.Crashed && event == "back" && (state == "join" || state == "back")
			if !slices.Contains(after[state], event) && !returned {
				t.fault("%s is %s at %v, but it was %q before", s.UID, event, id, state)
			}
			if state = event; state == "gone" {
				gone++
			}
		}
		if gone > s.Absences {
			t.fault("%s is gone %d times, but was absent only %d times", s.UID, gone, s.Absences)
		}
		if here := state == "join" || state == "back"; here != s.Here && state != "" {
			t.fault("at the end %s is %q, but it has a stream: %t", s.UID, state, s.Here)
		}
		for _, w := range s.Wills {
			if wills[w] == 0 {
				t.fault("the will %q of %s was not published", w, s.UID)
			}
		}
		for w, n := range wills {
			if n > 1 {
				t.fault("the will %q of %s was published %d times", w, s.UID, n)
			}
		}
	}
}

// ends reports whether a session is gone at a position: its presence is lost before and gone next, or gone already.
func (t *trial) ends(s Session, at ID, state string) bool {
	if state == "gone" || state == "leave" {
		return true
	}
	for _, id := range t.order {
		if byID(id, at) <= 0 {
			continue
		}
		if event, ok := eventOf(s.UID, t.log[id]); ok {
			return event == "gone"
		}
	}
	return false
}

// eventOf returns the event of a session that a message announces.
func eventOf(uid string, m Message) (string, bool) {
	if !strings.HasPrefix(m.Group, presencePrefix) || !strings.Contains(m.Body, uid) {
		return "", false
	}
	var e struct{ Event, UID string }
	err := json.Unmarshal([]byte(m.Body), &e)
	return e.Event, err == nil && e.UID == uid
}

func system(group string) bool { return strings.HasPrefix(group, "$") }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Match reports whether a filter selects a group.
func Match(filter, group string) bool {
	f, g := strings.Split(filter, "/"), strings.Split(group, "/")
	if g[0] != f[0] && strings.HasPrefix(g[0], "$") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(g) || level != "+" && level != g[i] {
			return false
		}
	}
	return len(f) == len(g)
}
