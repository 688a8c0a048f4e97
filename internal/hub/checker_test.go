package hub

import (
	"fmt"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

// checker checks what a log says of sessions: the announcements of each membership alternate, each will
// is sent at most once, and never while its session is here.
type checker struct {
	state map[string]map[string]string // of memberships, here or lost, by uid and filter
	sent  map[string]bool              // wills
	over  map[string]int               // wills that were replaced or removed, and the message before which that was
	wrong []string
}

func newChecker() *checker {
	return &checker{state: map[string]map[string]string{}, sent: map[string]bool{}, over: map[string]int{}}
}

// willsPrefix is followed by a uid: the group of the wills of a session.
const willsPrefix = "wills/"

// moves are the states in which an event may happen, and the one that follows.
var moves = map[string]struct{ from, to string }{
	"join": {"none", "here"}, "lost": {"here", "lost"}, "back": {"lost", "here"}, "leave": {"here lost", "none"}, "gone": {"here lost", "none"},
}

func (c *checker) all(list []store.Message) {
	for i, m := range list {
		if uid, ok := strings.CutPrefix(m.Group, willsPrefix); ok {
			c.will(i, uid, string(m.Msg))
		} else if a, ok := parseAnnouncement(m); ok {
			c.announcement(i, a)
		}
	}
}

func (c *checker) will(i int, uid, name string) {
	if c.sent[name] {
		c.fail("message %d: the will %s was sent twice", i, name)
	}
	c.sent[name] = true
	if at, ok := c.over[name]; ok && at <= i {
		c.fail("message %d: the will %s was sent, though it was replaced before message %d", i, name, at)
	}
	for f, is := range c.state[uid] {
		if is == "here" {
			c.fail("message %d: the will %s was sent while its session is in %s", i, name, f)
		}
	}
}

func (c *checker) announcement(i int, a told) {
	is := c.is(a.UID, a.filter)
	move, ok := moves[a.Event]
	if !ok || !strings.Contains(move.from, is) {
		c.fail("message %d: %s of %s in %s, which is %s", i, a.Event, a.UID, a.filter, is)
	}
	if c.state[a.UID] == nil {
		c.state[a.UID] = map[string]string{}
	}
	c.state[a.UID][a.filter] = move.to
}

// is returns the state of a membership: here, lost or none.
func (c *checker) is(uid, filter string) string {
	if s := c.state[uid][filter]; s != "" {
		return s
	}
	return "none"
}

func (c *checker) fail(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// TestTheCheckerFindsFaults shows that the checker can fail.
func TestTheCheckerFindsFaults(t *testing.T) {
	say := func(event string) store.Message {
		return store.Message{Group: presencePrefix + "x", Msg: []byte(`{"event":"` + event + `","uid":"u"}`)}
	}
	will := store.Message{Group: willsPrefix + "u", Msg: []byte("1")}
	for want, list := range map[string][]store.Message{
		"":                       {say("join"), say("lost"), say("back"), say("lost"), say("gone"), will, say("join"), say("leave")},
		"join of u":              {say("join"), say("lost"), say("join")},
		"back of u":              {say("join"), say("back")},
		"lost of u":              {say("join"), say("lost"), say("lost")},
		"gone of u":              {say("join"), say("gone"), say("gone")},
		"which is none":          {say("lost")},
		"sent twice":             {will, will},
		"while its session":      {say("join"), say("lost"), say("back"), will},
		"though it was replaced": {say("join"), {Group: willsPrefix + "u", Msg: []byte("2")}},
	} {
		c := newChecker()
		c.over["2"] = 1
		c.all(list)
		if got := strings.Join(c.wrong, "; "); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("for %q the checker says %q", want, got)
		}
	}
}
