package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// promises are tested with one goroutine. The tests of I2 with many are in order.go, those of I5 in
// gaps.go, and those of I8 in expiry.go.
var promises = []test{
	{"I1 appended messages can be read until a policy evicts them, 5000 messages", readBack},
	{"I2 ids rise over all groups, those of one Append by one", risingIDs},
	{"I3 an id never names two contents, across 4 lives", lives},
	{"I3 the id of a purged message is not used again", purgedID},
	{"I4 Read returns each matching message once, in order", matching},
	{"I4 Read returns the frame that was appended, member by member", wholeFrames},
	{"I4 the caller may change the entries after Append returned", ownBytes},
	{"I7 a watcher's channel holds a wake-up after each append", wakes},
	{"I7 a full channel does not block an append", fullChannel},
	{"I7 a stopped watcher is not woken", stopped},
}

func readBack(e *env) {
	l := e.start(Options{})
	m := newModel(l.epoch(), store.Policy{})
	for i := range 5000 {
		m.add(l, []*store.Message{text([]string{"a", "a/b", "c"}[i%3], fmt.Sprint("message ", i))})
	}
	for _, f := range []string{"#", "a", "a/#", "c a", "a/+"} {
		m.readAll(l, filters(f), 64<<10)
	}
}

func risingIDs(e *env) {
	l := e.start(Options{})
	for i, n := range []int{1, 3, 1, 5} {
		var list []*store.Message
		for k := range n {
			list = append(list, text(fmt.Sprintf("group/%d", i*k), "x"))
		}
		_, before := l.Bounds()
		id, err := l.Append(e.Context(), entries(list...))
		if err != nil {
			e.Fatal(err)
		}
		if id.Epoch != before.Epoch || id.Seq <= before.Seq {
			e.Errorf("append of %d entries: first id %v after %v", n, id, before)
		}
		last := store.ID{Epoch: id.Epoch, Seq: id.Seq + store.Seq(n) - 1}
		if _, newest := l.Bounds(); newest != last {
			e.Errorf("newest is %v, want %v", newest, last)
		}
		b := l.read(store.Query{Select: filters("#"), After: before.Seq})
		for k := range b.Frames {
			if seq := b.Frames[k].Seq; seq != id.Seq+store.Seq(k) {
				e.Errorf("entry %d of the append at %v has the seq %d", k, id, seq)
			}
		}
		if len(b.Frames) != n {
			e.Errorf("%d entries of %d are read", len(b.Frames), n)
		}
	}
}

func lives(e *env) {
	seen := map[store.ID]string{}
	dir := e.TempDir()
	for life := range 4 {
		l := newLog(e.open(e.T, Options{Dir: dir}), e.T)
		if life > 0 && l.epoch() != "" {
			kept(l, seen)
		}
		for i := range 10 {
			s := fmt.Sprintf("life %d, message %d", life, i)
			id := store.ID{Epoch: l.epoch(), Seq: l.add(text("a", s))}
			if old, ok := seen[id]; ok {
				e.Errorf("%v names %q and %q", id, old, s)
			}
			seen[id] = s
		}
		if err := l.Close(); err != nil {
			e.Fatal(err)
		}
	}
}

// kept fails unless the messages of earlier lives in the same epoch are held.
func kept(l *log, seen map[store.ID]string) {
	epoch, n := l.epoch(), 0
	for id := range seen {
		if id.Epoch == epoch {
			n++
		}
	}
	b := l.read(store.Query{Select: filters("#")})
	if len(b.Frames) != n {
		l.t.Errorf("the epoch continues with %d messages of %d", len(b.Frames), n)
	}
	for i := range b.Frames {
		f := &b.Frames[i]
		if old := seen[store.ID{Epoch: epoch, Seq: f.Seq}]; old != string(f.Payload(nil)) {
			l.t.Errorf("%d was %q and is %q", f.Seq, old, f.Payload(nil))
		}
	}
}

func purgedID(e *env) {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 5)
	if err := l.Purge("a"); err != nil {
		e.Fatal(err)
	}
	if seq := l.add(text("a", "6")); seq <= l.at(5) {
		e.Errorf("the message after five purged ones is %d, the last of these was %d", seq, l.at(5))
	}
}

func matching(e *env) {
	l := e.start(Options{})
	for i, name := range []string{"a", "a/b", "a/b/c", "d", "$sys/x", "a", "a/c", "d/b"} {
		l.appendTexts(name, fmt.Sprint(i+1))
	}
	for filter, list := range map[string]string{
		"a":              "1 6",
		"d":              "4",
		"none":           "",
		"#":              "1 2 3 4 6 7 8",
		"+":              "1 4 6",
		"+/b":            "2 8",
		"a/+":            "2 7",
		"a/#":            "1 2 3 6 7",
		"$sys/#":         "5",
		"d a":            "1 4 6",
		"a a":            "1 6",
		"a a/# #":        "1 2 3 4 6 7 8",
		"a/b/c $sys/x d": "3 4 5",
	} {
		e.Run(filter, func(t *testing.T) {
			l.in(t).want(filter, list)
		})
	}
}

func wholeFrames(e *env) {
	l := e.start(Options{})
	m := newModel(l.epoch(), store.Policy{})
	const uid = "11111111-2222-5333-8444-555555555555"
	pairs := [][2]string{{"a", "1"}, {"a", "2"}, {`"é" ],["b`, "\n]}"}, {"", ""}}
	now := time.Now()
	for _, msg := range []*store.Message{
		{Msg: []byte(`{"a":[1,2]}`)},
		{Msg: []byte(`""`), UID: uid},
		{Msg: []byte(`null`), Event: "alarm"},
		{Msg: []byte(`"aGk="`), Base64: true},
		{Msg: []byte(`1`), Retain: true},
		{Msg: []byte(`""`), Retain: true, Clear: true},
		{Msg: []byte(`2`), Meta: pairs[:1]},
		{Msg: []byte(`"é\n"`), Meta: pairs, UID: uid, Event: `a "b" é`, Retain: true, Base64: true, Expires: now.Add(time.Hour)},
	} {
		msg.Group, msg.Time = `home/"é"`, now
		m.add(l, []*store.Message{msg})
	}
	m.readAll(l, filters("#"), 64)
	m.readAll(l, filters(`home/"é"`), 1<<20)
	frames := l.read(store.Query{Select: filters("#")}).Frames
	if got := frames[len(frames)-1].Meta(); !slices.Equal(got, pairs) {
		e.Errorf("the metadata %q is read as %q", pairs, got)
	}
}

func ownBytes(e *env) {
	l := e.start(Options{})
	list := entries(text("a", "mine"))
	if _, err := l.Append(e.Context(), list); err != nil {
		e.Fatal(err)
	}
	clear(list[0].Tail)
	l.want("a", "mine")
}

func wakes(e *env) {
	l := e.start(Options{})
	one, two := make(chan struct{}, 1), make(chan struct{}, 1)
	defer l.Watch(one)()
	defer l.Watch(two)()
	for i := range 100 {
		l.appendTexts("a", fmt.Sprint(i))
		for _, ch := range []chan struct{}{one, two} {
			if !woken(ch) {
				e.Fatalf("no wake-up after append %d", i)
			}
		}
	}
	if woken(one) || woken(two) {
		e.Error("a wake-up with nothing appended")
	}
}

func fullChannel(e *env) {
	l := e.start(Options{})
	room, none := make(chan struct{}, 1), make(chan struct{})
	defer l.Watch(room)()
	defer l.Watch(none)()
	l.appendNumbers("a", 1, 10)
	if !woken(room) || woken(room) {
		e.Error("a channel of one does not hold one wake-up after ten appends")
	}
}

func stopped(e *env) {
	l := e.start(Options{})
	gone, here := make(chan struct{}, 1), make(chan struct{}, 1)
	stop := l.Watch(gone)
	defer l.Watch(here)()
	stop()
	stop() // a second call has no effect
	l.appendTexts("a", "1")
	if woken(gone) || !woken(here) {
		e.Error("the stopped watcher was woken, or the other one was not")
	}
}

// woken takes a wake-up from the channel, if there is one.
func woken(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
