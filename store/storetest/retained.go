package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

var retainedTests = []test{
	{"I6 the retained message is the last one appended with Retain", lastRetained},
	{"I6 a retained message survives eviction by a policy", keptRetained},
	{"I6 a retained message survives eviction for memory, with 4 MiB of others in 1 MiB", pressedRetained},
	{"I6 Clear drops the retained message", clearedRetained},
	{"I6 an expired message is not retained", expiredRetained},
	{"I6 a retained message is dropped when it expires", expiringRetained},
	{"I6 Purge drops the retained message of the group, and no other", purgedRetained},
	{"I6 retained messages are read in the order of their seqs, batch by batch", pagedRetained},
}

// retain returns a message to be retained.
func retain(groupName, s string) *store.Message {
	m := text(groupName, s)
	m.Retain = true
	return m
}

// forget returns a message that clears the retained one.
func forget(groupName string) *store.Message {
	m := retain(groupName, "")
	m.Clear = true
	return m
}

func lastRetained(e *env) {
	l := e.start(Options{})
	wantTexts(e, l.retained("#"), "")
	l.add(retain("a", "1"))
	l.appendTexts("a", "2")
	l.add(retain("b", "3"))
	wantTexts(e, l.retained("a"), "1")
	l.add(retain("a", "4"), retain("a", "5"))
	wantTexts(e, l.retained("#"), "3 5")
	wantTexts(e, l.retained("a b"), "3 5")
	wantTexts(e, l.retained("none"), "")
	l.want("#", "1 2 3 4 5")
}

func keptRetained(e *env) {
	l := e.start(Options{})
	l.add(retain("a", "kept"))
	l.policy("a", store.Policy{MaxMessages: 1})
	l.appendNumbers("a", 1, 100)
	l.want("a", "100")
	wantTexts(e, l.retained("a"), "kept")
	l.policy("a", store.Policy{MaxBytes: 1})
	l.want("a", "")
	wantTexts(e, l.retained("a"), "kept")
}

func pressedRetained(e *env) {
	l := e.start(Options{MaxMemory: 1 << 20})
	l.add(retain("a", "kept"))
	filler := fmt.Sprintf("%01000d", 0)
	for i := range 4000 {
		l.appendTexts([]string{"a", "b"}[i%2], filler)
	}
	wantTexts(e, l.retained("#"), "kept")
}

func clearedRetained(e *env) {
	l := e.start(Options{})
	l.add(retain("a", "1"), retain("b", "2"))
	l.add(forget("a"))
	wantTexts(e, l.retained("#"), "2")
	l.add(forget("a")) // a second one has no effect
	l.add(retain("a", "3"), forget("a"), retain("a", "4"))
	wantTexts(e, l.retained("#"), "2 4")
	if n := len(l.held("#")); n != 7 {
		e.Errorf("%d messages are held, want 7, including those with Clear", n)
	}
}

func expiredRetained(e *env) {
	l := e.start(Options{})
	l.add(retain("a", "1"))
	old := retain("a", "2")
	old.Expires = time.Now().Add(-time.Second)
	l.add(old)
	wantTexts(e, l.retained("a"), "")
	l.add(retain("a", "3"))
	wantTexts(e, l.retained("a"), "3")
}

func expiringRetained(e *env) {
	e.bubble(Options{}, func(t *testing.T, l *log) {
		short := retain("a", "short")
		short.Expires = time.Now().Add(time.Minute)
		l.add(short, retain("b", "long"))
		wantTexts(t, l.retained("#"), "short long")
		time.Sleep(59 * time.Second)
		wantTexts(t, l.retained("#"), "short long")
		time.Sleep(2 * time.Second)
		wantTexts(t, l.retained("#"), "long")
		l.want("#", "long")
	})
}

func purgedRetained(e *env) {
	l := e.start(Options{})
	l.add(retain("a", "1"), retain("a/b", "2"), retain("c", "3"))
	if err := l.Purge("a"); err != nil {
		e.Fatal(err)
	}
	wantTexts(e, l.retained("#"), "2 3")
}

func pagedRetained(e *env) {
	l := e.start(Options{})
	const n = 100
	for i := 1; i <= n; i++ {
		l.add(retain(fmt.Sprint("group/", (i*37)%n), fmt.Sprint(i)))
	}
	l.appendTexts("group/0", "later")
	var got []string
	q := store.Query{Select: filters("#"), Retained: true, Through: l.at(n)}
	b := &store.Batch{Buf: make([]byte, 0, 1000)}
	for q.After < q.Through {
		if err := l.Read(q, b); err != nil {
			e.Fatal(err)
		}
		if b.Next <= q.After || b.Next > q.Through || len(b.Buf) > 1000 {
			e.Fatalf("Next is %d after %d through %d; %d bytes", b.Next, q.After, q.Through, len(b.Buf))
		}
		got = append(got, texts(b)...)
		q.After = b.Next
	}
	wantTexts(e, got, numbers(1, n))
	for _, c := range []struct {
		after, through int
		want           string
	}{{0, 10, numbers(1, 10)}, {90, 0, numbers(91, n)}, {40, 45, numbers(41, 45)}, {n, 0, ""}, {n + 1, 0, ""}} {
		q := store.Query{Select: filters("#"), Retained: true, After: l.at(c.after), Through: l.at(c.through)}
		wantTexts(e, texts(l.read(q)), c.want)
	}
}
