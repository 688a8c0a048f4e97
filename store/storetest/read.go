package storetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

var readTests = []test{
	{"Read returns as many whole frames as fit, at least one", capacity},
	{"Read grows the buffer for a first frame of 300 kB", hugeFrame},
	{"Read keeps a batch's buffers over calls", reusedBatch},
	{"Read stops at Through", through},
	{"Read without a result is no error", nothing},
	{"Next moves past the messages of other groups, 20000 messages", nextPastOthers},
	{"Read finds few matching messages among many, 2000 groups", fewAmongMany},
	{"frames do not change while messages are appended and evicted", ownBuffer},
}

func capacity(e *env) {
	l := e.start(Options{})
	m := newModel(l.epoch(), store.Policy{})
	for i := range 60 {
		m.add(l, []*store.Message{text([]string{"a", "b"}[i%2], strings.Repeat("x", i*i))})
	}
	for _, set := range []string{"a", "a b", "#"} {
		for room := 0; room < 12_000; room += 97 {
			m.readAll(l, filters(set), room)
		}
	}
	// The limit is exact.
	list := m.of(filters("a"), 0, l.at(40))
	sum := 0
	for n, s := range list {
		sum += len(s.Bytes)
		for _, c := range []struct{ room, want int }{{sum - 1, max(n, 1)}, {sum, n + 1}, {sum + 1, n + 1}} {
			if b := m.read(l, store.Query{Select: filters("a"), Through: l.at(40)}, c.room); len(b.Frames) != c.want {
				e.Errorf("%d frames in %d bytes, want %d", len(b.Frames), c.room, c.want)
			}
		}
	}
}

func hugeFrame(e *env) {
	l := e.start(Options{})
	m := newModel(l.epoch(), store.Policy{})
	m.add(l, []*store.Message{text("a", "small"), text("a", strings.Repeat("x", 300_000)), text("a", "small")})
	m.readAll(l, filters("a"), 1000)
	m.readAll(l, filters("#"), 0)
}

func reusedBatch(e *env) {
	l := threeOfEight(e)
	b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
	at := &b.Buf[:1][0]
	for _, c := range []struct {
		after      int
		want, gaps string
	}{{0, "6 7 8", "a:5"}, {7, "8", ""}, {8, "", ""}, {1, "6 7 8", "a:5"}} {
		if err := l.Read(store.Query{Select: filters("a"), After: l.at(c.after)}, b); err != nil {
			e.Fatal(err)
		}
		wantTexts(e, texts(b), c.want)
		if l.gaps(b) != c.gaps || cap(b.Buf) != 64<<10 || &b.Buf[:1][0] != at {
			e.Errorf("after %d: gaps %q, a buffer of %d bytes", c.after, l.gaps(b), cap(b.Buf))
		}
	}
}

func through(e *env) {
	l := e.start(Options{})
	for i := 1; i <= 10; i++ {
		l.appendTexts([]string{"b", "a"}[i%2], fmt.Sprint(i))
	}
	for _, c := range []struct {
		set            string
		after, through int
		want           string
		next           int
	}{
		{"a", 0, 5, "1 3 5", 5}, {"a", 0, 6, "1 3 5", 6}, {"a", 2, 4, "3", 4}, {"a", 3, 4, "", 4},
		{"#", 4, 5, "5", 5}, {"#", 4, 100, "5 6 7 8 9 10", 10}, {"a b", 9, 10, "10", 10}, {"#", 9, 0, "10", 10},
	} {
		e.Run(fmt.Sprintf("%s from %d through %d", c.set, c.after, c.through), func(t *testing.T) {
			l := l.in(t)
			b := l.read(store.Query{Select: filters(c.set), After: l.at(c.after), Through: l.at(c.through)})
			wantTexts(t, texts(b), c.want)
			if b.Next != l.at(c.next) {
				t.Errorf("Next is %d, want %d", b.Next, l.at(c.next))
			}
		})
	}
}

func nothing(e *env) {
	l := e.start(Options{})
	for range 2 {
		for _, set := range []string{"a", "#", "none", "none/#"} {
			end := l.newest()
			b := l.read(store.Query{Select: filters(set), After: end})
			if len(b.Frames)+len(b.Gaps) > 0 || b.Next != end || b.Epoch != l.epoch() {
				e.Errorf("%s at the end, %d: %+v", set, end, b)
			}
		}
		l.appendTexts("a", "1")
	}
	if b := l.read(store.Query{Select: filters("")}); len(b.Frames) > 0 || b.Next != l.newest() {
		e.Errorf("no filter selects %d frames, Next %d", len(b.Frames), b.Next)
	}
}

func nextPastOthers(e *env) {
	l := e.start(Options{})
	l.appendTexts("quiet", "1")
	es := make([]*store.Message, 100)
	for i := range es {
		es[i] = text("busy", "x")
	}
	for range 200 {
		l.add(es...)
	}
	l.appendTexts("quiet", "2")
	for _, set := range []string{"quiet", "quiet/#", "quiet none/#"} {
		q := store.Query{Select: filters(set)}
		var got []string
		for reads := 0; q.After < l.newest(); reads++ {
			b := &store.Batch{Buf: make([]byte, 0, 200)}
			if err := l.Read(q, b); err != nil || b.Next <= q.After || reads > 10 {
				e.Fatalf("%s after %d: Next %d, read %d: %v", set, q.After, b.Next, reads, err)
			}
			got = append(got, texts(b)...)
			q.After = b.Next
		}
		wantTexts(e, got, "1 2")
	}
}

// fewAmongMany reads patterns that match none, some or most groups, in the log and among the retained
// messages, before and after many messages are evicted.
func fewAmongMany(e *env) {
	l := e.start(Options{})
	m := newModel(l.epoch(), store.Policy{})
	var list []*store.Message
	for i := range 6000 {
		msg := text(fmt.Sprintf("%d/%c", i%2000, 'a'+i%2000%3), fmt.Sprint(i))
		if i%1500 == 1 {
			msg.Group = "rare/" + msg.Group
		}
		msg.Retain = i < 2000
		if list = append(list, msg); len(list) == 100 {
			m.add(l, list)
			list = nil
		}
	}
	for round := range 2 {
		for _, set := range []string{"+/none", "rare/#", "rare/+/b 7/b", "+/b", "#", "rare/# none/#"} {
			m.readAll(l, filters(set), 2000)
			for q := (store.Query{Select: filters(set), Retained: true}); q.After < m.newest(); {
				q.After = m.read(l, q, 3000).Next
			}
		}
		if round == 0 {
			l.policy("+/b", store.Policy{MaxMessages: 1})
			m.setPolicy(filters("+/b")[0], store.Policy{MaxMessages: 1})
		}
	}
}

func ownBuffer(e *env) {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 50)
	b := l.read(store.Query{Select: filters("a")})
	if err := l.Purge("a"); err != nil {
		e.Fatal(err)
	}
	l.appendNumbers("b", 100, 200)
	wantTexts(e, texts(b), numbers(1, 50))
}
