package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// liveTests run in a bubble, where no time passes between an append and the read that follows.
var liveTests = []test{
	{"a live reader of a group that keeps one message gets all, 20 appends per read", live(singly)},
	{"a live reader of a group that keeps one message gets all, 20 entries per append", live(together)},
	{"a live reader gets a gap for earlier evictions", liveEvicted},
}

func singly(l *log, list []*store.Message) {
	for _, m := range list {
		l.add(m)
	}
}

func together(l *log, list []*store.Message) { l.add(list...) }

func live(add func(*log, []*store.Message)) func(e *env) {
	return func(e *env) {
		for _, set := range []string{"a", "#", "b a"} {
			e.bubble(Options{Server: store.Policy{MaxMessages: 1}}, func(t *testing.T, l *log) {
				q := store.Query{Select: filters(set), Live: true}
				for round := range 50 {
					var list []*store.Message
					for i := 1; i <= 20; i++ {
						list = append(list, text("a", fmt.Sprint(round*20+i)))
					}
					add(l, list)
					b := l.read(q)
					wantTexts(t, texts(b), numbers(round*20+1, round*20+20))
					if len(b.Gaps) > 0 {
						t.Fatalf("round %d: gaps %v", round, b.Gaps)
					}
					q.After = b.Next
				}
				l.want("a", "1000")
			})
		}
	}
}

// liveEvicted checks that a live reader gets a gap for messages that are removed.
func liveEvicted(e *env) {
	e.bubble(Options{Server: store.Policy{MaxMessages: 1}}, func(t *testing.T, l *log) {
		for i := range 4000 {
			m := text("a", fmt.Sprint(i))
			l.add(m)
			if i%100 == 0 {
				time.Sleep(500 * time.Millisecond)
			}
		}
		b := l.read(store.Query{Select: filters("a"), Live: true})
		if len(b.Gaps) != 1 || len(b.Frames) == 0 || l.count(b.Gaps[0].Evicted)+1 < l.count(b.Frames[0].Seq) {
			t.Fatalf("%d messages of 4000, gaps %v", len(b.Frames), b.Gaps)
		}
		if b.Gaps[0].Evicted >= b.Frames[0].Seq {
			t.Errorf("the gap reaches to %d, and %d is there", b.Gaps[0].Evicted, b.Frames[0].Seq)
		}
	})
}
