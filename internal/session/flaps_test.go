package session

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// flapping is a log that two hubs share, with the documents of one session. Each hub may be unable to reach it for a while.
type flapping struct {
	mu   sync.Mutex     // guards what follows
	docs [][]byte       // all versions, from 1; nil: removed
	by   []*flappingHub // who has stored or removed them
	told []string       // the events of all changes that are stored
	hubs []*flappingHub
}

type flappingHub struct {
	*world
	log     *flapping
	open    []*stream
	line    line
	read    int      // how many documents
	stored  []string // the events of its changes that are stored
	reports []string // and those that it has reported
}

// line is how a hub reaches the log.
type line struct {
	fails  bool // changes seem to fail
	stores bool // though they are stored
	deaf   bool // what is stored is not read
}

var lines = map[string]line{
	"away": {fails: true, deaf: true}, "away, and reads": {fails: true},
	"unsure": {fails: true, stores: true, deaf: true}, "unsure, and reads": {fails: true, stores: true},
}

func newFlapping(t *testing.T, ids ...string) *flapping {
	l := &flapping{}
	for _, id := range ids {
		h := &flappingHub{world: newWorld(t), log: l}
		l.hubs = append(l.hubs, h)
		h.Share(Sharing{Self: id, Commit: h.commit, Committed: h.committed, Ended: func(string, uint64) {}})
	}
	return l
}

func (h *flappingHub) commit(x *Change) (uint64, error) {
	l := h.log
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := uint64(0)
	if l.document() != nil {
		newest = uint64(len(l.docs))
	}
	current := x.Version() == newest && h.read == len(l.docs)
	switch {
	case h.line.fails && !h.line.stores:
		return 0, fmt.Errorf("%w: %w", ErrNotStored, errAway)
	case h.line.fails && !current:
		return 0, errAway
	case !current:
		return 0, ErrConflict
	}
	doc := x.Document()
	l.docs, l.by = append(l.docs, doc), append(l.by, h)
	for _, e := range x.Events {
		l.told, h.stored = append(l.told, describe(e)), append(h.stored, report(e))
	}
	version := uint64(len(l.docs))
	l.deliver()
	if h.line.fails {
		return 0, errAway
	}
	return version, nil
}

func (h *flappingHub) committed(x *Change) {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	for _, e := range x.Events {
		h.reports = append(h.reports, report(e))
	}
}

// report describes an event. If a hub is unsure of two changes that end a session, it takes its end for that of the later one.
func report(e Event) string {
	if e.Kind == Gone || e.Kind == Disconnect {
		e.Reason = ""
	}
	return describe(e)
}

// document returns the newest document. mu must be held.
func (l *flapping) document() []byte {
	if len(l.docs) == 0 {
		return nil
	}
	return l.docs[len(l.docs)-1]
}

// events returns the events of all changes that are stored.
func (l *flapping) events() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

// deliver has the hubs read what is stored. mu must be held.
func (l *flapping) deliver() {
	for _, h := range l.hubs {
		for ; !h.line.deaf && h.read < len(l.docs); h.read++ {
			h.must(h.Adopt("u", l.docs[h.read], Ended, uint64(h.read+1), l.by[h.read] == h))
		}
	}
}

func (h *flappingHub) setLine(to line) {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.line = to
	h.log.deliver()
}

// catchUp has the hub read what it has stored: if it did so after a session timeout only, it could not tell.
func (h *flappingHub) catchUp() {
	if h.line.stores {
		h.setLine(lines["unsure, and reads"])
	}
}

// flap is a step of the random test.
type flap struct {
	do   string
	hub  int
	n    int    // which stream, or how long
	text string // filters, a reason or a line
}

var flaps = rapid.Custom(func(t *rapid.T) flap {
	f := flap{do: rapid.SampledFrom([]string{
		"open", "open", "open", "close", "close", "join", "leave", "leave on one", "renew", "kick", "end", "pass", "pass", "pass", "line", "line", "mend",
	}).Draw(t, "do")}
	f.hub, f.n = rapid.IntRange(0, 1).Draw(t, "hub"), rapid.IntRange(0, 3).Draw(t, "n")
	from := []string{"x", "y", "z"}
	switch f.do {
	case "open":
		from = []string{"", "x", "x y", "y z"}
	case "close":
		from = []string{string(Closed), string(Slow), string(Timeout)}
	case "renew":
		from = []string{"x", "y", ""}
	case "line":
		from = slices.Sorted(maps.Keys(lines))
	}
	f.text = rapid.SampledFrom(from).Draw(t, "text")
	return f
})

// do runs a step.
func (h *flappingHub) do(f flap) (err error) {
	var s *stream
	if f.n < len(h.open) {
		s = h.open[f.n]
	}
	filter := group.Exact(f.text)
	switch f.do {
	case "open":
		h.open = append(h.open, h.world.open("u", f.text, 0))
	case "close":
		if s != nil {
			s.close(Reason(f.text))
		}
	case "join":
		_ = h.Join("u", filter, 3)
	case "leave":
		err = h.Leave("u", filter)
	case "leave on one":
		if err = ErrNoStream; s != nil {
			err = s.Attachment.Leave(filter)
		}
	case "renew":
		g := &access.Grant{Subscribe: group.Set{filter}}
		if f.text == "" {
			g = access.Everything
		}
		_ = h.Renew("u", g)
	case "kick":
		_ = h.End("u", Kicked)
	case "end":
		_ = h.End("u", Ended)
	case "pass":
		for _, h := range h.log.hubs {
			h.catchUp()
		}
		time.Sleep([]time.Duration{tick, 3 * tick, timeout - tick, timeout + tick}[f.n])
	case "line":
		h.catchUp()
		h.setLine(lines[f.text])
	case "mend":
		for _, h := range h.log.hubs {
			h.setLine(line{})
		}
		time.Sleep(timeout / 2)
	}
	synctest.Wait()
	return err
}

// filters returns the filters that are open at a hub, and the number of its streams.
func (h *flappingHub) filters() (list []group.Filter, streams int) {
	s := h.find("u")
	if s == nil {
		return nil, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.open = slices.DeleteFunc(h.open, func(a *stream) bool { return !slices.Contains(s.streams, a.Attachment) })
	return s.openHere(), len(s.streams)
}

// differs describes how what was told, the newest document and the open streams differ, or returns "". All hubs reach the log. If it is
// late, what was lost is over.
func (l *flapping) differs(late bool) string {
	streams, open := 0, map[string]bool{}
	for _, h := range l.hubs {
		list, n := h.filters()
		streams += n
		for _, f := range list {
			open[f.String()] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if wrong := checkOrder(l.told); wrong != "" {
		return wrong
	}
	for _, h := range l.hubs {
		if !slices.Equal(h.reports, h.stored) {
			return fmt.Sprintf("a hub has reported\n%q, and stored\n%q", h.reports, h.stored)
		}
	}
	var doc record
	if l.document() != nil {
		if err := json.Unmarshal(l.document(), &doc); err != nil {
			return err.Error()
		}
	}
	connected, members := replay(l.told)
	stored := map[string]bool{} // whether each membership is lost
	for _, m := range doc.Members {
		stored[m.Filter] = m.Lost != 0
		if open[m.Filter] == (m.Lost != 0) || late && m.Lost != 0 {
			return fmt.Sprintf("the streams have %v, the document is\n%s", open, l.document())
		}
	}
	for f := range open {
		if _, ok := stored[f]; !ok {
			return fmt.Sprintf("the streams have %v, the document is\n%s", open, l.document())
		}
	}
	begun := l.document() != nil && doc.Gone == ""
	if connected != begun || !maps.Equal(members, stored) || begun && (doc.Lost != 0) != (streams == 0) || begun && streams == 0 && late || !begun && streams > 0 {
		return fmt.Sprintf("%d streams are open, the document is\n%s, and was told were\n%q", streams, l.document(), l.told)
	}
	return ""
}

// replay returns whether there is a session after events, and whether each of its memberships is lost.
func replay(events []string) (begun bool, members map[string]bool) {
	members = map[string]bool{}
	for _, s := range events {
		word := strings.Fields(s)
		switch word[0] {
		case "connect", "disconnect":
			begun = word[0] == "connect"
		case "join", "back":
			members[word[1]] = false
		case "lost":
			members[word[1]] = true
		case "leave", "gone":
			delete(members, word[1])
		}
	}
	return begun, members
}

// TestRandomSessionsOnALogThatFlapsAreToldAsTheyAre has one hub or two reach their log now and then only.
func TestRandomSessionsOnALogThatFlapsAreToldAsTheyAre(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ids := rapid.SampledFrom([][]string{{here}, {here, there}}).Draw(rt, "hubs")
		list := rapid.SliceOfN(flaps, 30, 60).Draw(rt, "steps")
		wrong := ""
		synctest.Test(t, func(t *testing.T) {
			l := newFlapping(t, ids...)
			wrong = l.play(list)
			for _, h := range l.hubs {
				h.Close()
			}
			synctest.Wait()
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// play runs the steps, and then waits until all that is lost is over. It describes the first thing that is wrong, if any. If one hub is
// alone, it also checks the reasons and times of what is told.
func (l *flapping) play(list []flap) string {
	alone := len(l.hubs) == 1
	ends := endings{why: map[string]Reason{}, open: map[string]time.Time{}}
	list = append(list, flap{do: "mend"}, flap{do: "pass", n: 3}, flap{do: "pass", n: 3}, flap{do: "mend"})
	for n, f := range list {
		h := l.hubs[f.hub%len(l.hubs)]
		before, streams := h.filters()
		ends.note(before, streams)
		told := len(l.events())
		err := h.do(f)
		after, streams := h.filters()
		ends.step(f, before, after, err)
		wrong := ""
		if alone {
			wrong = ends.judge(l.events()[told:])
		}
		ends.note(after, streams) // what is told of an earlier time comes before a filter is opened
		if wrong == "" && f.do == "mend" {
			wrong = l.differs(n == len(list)-1)
		}
		if wrong != "" {
			return fmt.Sprintf("after step %d, %v: %s", n, f, wrong)
		}
	}
	return ""
}

// endings is when and why streams had filters for the last time.
type endings struct {
	why  map[string]Reason
	open map[string]time.Time // "": any stream
}

func (e *endings) note(open []group.Filter, streams int) {
	if streams > 0 {
		e.open[""] = time.Now()
	}
	for _, f := range open {
		e.open[f.String()] = time.Now()
	}
}

func (e *endings) step(f flap, before, after []group.Filter, err error) {
	why := map[string]Reason{"close": Reason(f.text), "renew": Forbidden}[f.do]
	for _, x := range before {
		if !slices.Contains(after, x) {
			e.why[x.String()] = why
		}
	}
	left := strings.HasPrefix(f.do, "leave") && err != ErrNoStream && err != ErrUnknown
	if left && !slices.Contains(after, group.Exact(f.text)) && e.why[f.text] != Forbidden { // the first reason to leave counts
		e.why[f.text] = ""
	}
}

// judge describes the first event that has another reason or comes too early, or returns "".
func (e *endings) judge(events []string) string {
	for _, s := range events {
		word := append(strings.Fields(s), "", "")
		f, why := word[1], Reason(word[2])
		if word[0] == "disconnect" {
			f, why = "", Reason(word[1])
		}
		timed := word[0] == "leave" && why != "" && why != Forbidden || word[0] == "disconnect" && why != Kicked && why != Ended
		switch {
		case (word[0] == "lost" || word[0] == "leave") && why != e.why[f]:
			return fmt.Sprintf("%q, want the reason %q", s, e.why[f])
		case timed && time.Since(e.open[f]) < timeout:
			return fmt.Sprintf("%q comes after %v", s, time.Since(e.open[f]))
		}
	}
	return ""
}
