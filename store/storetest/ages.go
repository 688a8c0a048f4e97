package storetest

import (
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// ageTests test max_age, and how expired messages are read. Their eviction is in expiry.go.
var ageTests = []test{
	{"max_age keeps younger messages", maxAge},
	{"max_age evicts as time passes", aging},
	{"max_age evicts without a read", agingUnseen},
	{"ttl: an expired message is not read, and is no gap", ttl},
	{"ttl: a message that is held expires", expiringHeld},
	{"ttl: expired messages take no space in a batch", expiredRoom},
}

func maxAge(e *env) {
	l := e.start(Options{})
	l.add(ago(3*time.Hour, "a", "1"))
	l.add(ago(2*time.Hour, "a", "2"), ago(2*time.Hour, "b", "3"))
	l.add(ago(time.Hour, "a", "4"))
	l.appendTexts("a", "5")
	l.policy("a", store.Policy{MaxAge: 90 * time.Minute})
	l.want("a", "4 5")
	l.want("b", "3")
	l.wantGaps(store.Query{Select: filters("#")}, "#:2")
	l.wantGaps(store.Query{Select: filters("#"), After: l.at(2)}, "")
	l.policy("a", store.Policy{MaxAge: 30 * time.Minute})
	l.want("#", "3 5")
	l.wantGaps(store.Query{Select: filters("a"), After: l.at(2)}, "a:4")
}

func aging(e *env) {
	e.bubble(Options{Server: store.Policy{MaxAge: time.Hour}}, func(t *testing.T, l *log) {
		l.policy("short", store.Policy{MaxAge: time.Minute})
		l.appendTexts("a", "1")
		l.appendTexts("short", "2")
		time.Sleep(30 * time.Second)
		l.appendTexts("short", "3")
		l.want("#", "1 2 3")
		time.Sleep(31 * time.Second)
		l.want("#", "1 3")
		l.wantGaps(store.Query{Select: filters("short")}, "short:2")
		time.Sleep(time.Hour)
		l.want("#", "")
		l.wantGaps(store.Query{Select: filters("#")}, "#:3")
		l.appendTexts("a", "4")
		l.want("a", "4")
		l.policy("#", store.Policy{MaxAge: store.Unbounded})
		time.Sleep(24 * time.Hour)
		l.want("a", "4")
	})
}

func agingUnseen(e *env) {
	e.bubble(Options{}, func(t *testing.T, l *log) {
		l.policy("a", store.Policy{MaxAge: time.Minute})
		l.appendNumbers("a", 1, 100)
		time.Sleep(2 * time.Minute)
		if u := l.Usage(); u.Messages != 0 || u.Bytes != 0 {
			t.Errorf("a minute after their max_age, %d messages of %d bytes are held", u.Messages, u.Bytes)
		}
	})
}

func ttl(e *env) {
	l := e.start(Options{})
	l.add(expiring(-time.Second, "a", "1"), expiring(time.Hour, "a", "2"), expiring(-time.Hour, "a/b", "3"), text("a", "4"))
	for _, f := range []string{"a", "a/#", "#", "a a/b"} {
		l.want(f, "2 4")
		l.wantGaps(store.Query{Select: filters(f)}, "")
	}
	l.want("a/b", "")
	if b := l.read(store.Query{Select: filters("a/b")}); b.Next != l.at(4) {
		e.Errorf("Next is %d after an expired message, want %d", b.Next, l.at(4))
	}
}

func expiringHeld(e *env) {
	e.bubble(Options{}, func(t *testing.T, l *log) {
		l.add(expiring(time.Minute, "a", "1"), text("a", "2"), expiring(time.Hour, "a", "3"))
		time.Sleep(59 * time.Second)
		l.want("a", "1 2 3")
		time.Sleep(time.Second)
		l.want("a", "2 3")
		time.Sleep(time.Hour)
		l.want("a", "2")
		l.wantGaps(store.Query{Select: filters("a")}, "")
	})
}

func expiredRoom(e *env) {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 1)
	room := len(l.read(store.Query{Select: filters("a")}).Buf)
	for range 20 {
		l.add(expiring(-time.Minute, "a", "gone"))
	}
	l.appendTexts("a", "2")
	b := &store.Batch{Buf: make([]byte, 0, 2*room+40)} // the later id may have more digits
	if err := l.Read(store.Query{Select: filters("a")}, b); err != nil {
		e.Fatal(err)
	}
	wantTexts(e, texts(b), "1 2")
}
