package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// expiryTests test I8: expired messages are evicted without a read.
var expiryTests = []test{
	{"I8 a group whose messages have all expired holds nothing, 1000 messages", expiredGroup},
	{"I8 expired groups are replaced by new ones, 10 times 3 of 3", expiredGroupsGo},
	{"I8 large expired messages among others are evicted, 64 KiB each", expiredAmongOthers},
	{"I8 expiry is no gap", expiryIsNoGap},
	{"I8 expired retained messages free their memory, 8 times 800 KiB in 2 MiB", expiredRetainedRoom},
	{"I8 an expired retained message is not listed as retained", expiredRetainedListed},
}

// soon is how long an expired message may still take space.
const soon = 5 * time.Second

// keeps returns a retained message that expires after d.
func keeps(d time.Duration, groupName, s string) *store.Message {
	m := expiring(d, groupName, s)
	m.Retain = true
	return m
}

func expiredGroup(e *env) {
	e.bubble(Options{}, func(t *testing.T, l *log) {
		for i := range 100 {
			var list []*store.Message
			for k := range 10 {
				list = append(list, expiring(time.Minute+time.Duration(k)*time.Second, "a", fmt.Sprint(i)))
			}
			l.add(list...)
		}
		l.appendTexts("b", "stays")
		time.Sleep(time.Minute + 10*time.Second + soon)
		if u := l.Usage(); u.Messages != 1 || u.Evicted != 1000 {
			t.Errorf("1000 messages have expired: %+v", u)
		}
		for g := range store.EachGroup(l, "") {
			if g.Group != "b" {
				t.Errorf("%+v is listed", g)
			}
		}
		l.want("#", "stays")
		l.appendTexts("a", "new")
		l.want("a", "new")
	})
}

func expiredGroupsGo(e *env) {
	e.bubble(Options{MaxGroups: 3}, func(t *testing.T, l *log) {
		for round := range 10 {
			for i := range 3 {
				name := fmt.Sprintf("%d/%d", round, i)
				l.add(expiring(time.Minute, name, "x"), keeps(time.Minute, name, "y"))
			}
			if _, err := l.Append(t.Context(), entries(text("more", "x"))); !errors.Is(err, store.ErrTooManyGroups) {
				t.Fatalf("a fourth group of three: %v", err)
			}
			time.Sleep(time.Minute + soon)
		}
	})
}

func expiredAmongOthers(e *env) {
	e.bubble(Options{}, func(t *testing.T, l *log) {
		filler := strings.Repeat("x", 64<<10)
		for i := range 9 {
			m := text("a", filler)
			if i%3 == 1 {
				m.Expires = time.Now().Add(time.Minute)
			}
			l.add(m)
		}
		before := l.Usage()
		time.Sleep(time.Minute + soon)
		b := l.read(store.Query{Select: filters("a")})
		if u := l.Usage(); len(b.Frames) != 6 || u.Messages != 6 || u.Bytes != int64(len(b.Buf)) || u.Bytes >= before.Bytes {
			t.Errorf("%d messages are read, held are %+v", len(b.Frames), u)
		}
		if len(b.Gaps) > 0 {
			t.Errorf("gaps %v", b.Gaps)
		}
		l.policy("a", store.Policy{MaxMessages: 1})
		l.wantGaps(store.Query{Select: filters("a")}, "a:7")
	})
}

func expiryIsNoGap(e *env) {
	e.bubble(Options{}, func(t *testing.T, l *log) {
		l.add(expiring(time.Minute, "a", "1"), expiring(time.Hour, "b", "2"), expiring(time.Minute, "b", "3"))
		time.Sleep(2 * time.Minute)
		for _, live := range []bool{false, true} {
			for _, f := range []string{"a", "#", "a b"} {
				l.wantGaps(store.Query{Select: filters(f), Live: live}, "")
			}
		}
		l.want("#", "2")
		time.Sleep(time.Hour)
		l.wantGaps(store.Query{Select: filters("#")}, "")
		if oldest, newest := l.Bounds(); oldest.Seq != l.at(3) || newest.Seq != l.at(3) {
			t.Errorf("an empty log goes from %v to %v", oldest, newest)
		}
	})
}

func expiredRetainedRoom(e *env) {
	e.bubble(Options{MaxMemory: 2 << 20}, func(t *testing.T, l *log) {
		filler := strings.Repeat("x", 100<<10)
		for round := range 8 {
			for i := range 8 {
				if _, err := l.Append(t.Context(), entries(keeps(time.Minute, fmt.Sprintf("%d/%d", round, i), filler))); err != nil {
					t.Fatalf("round %d, message %d: %v", round, i, err)
				}
			}
			time.Sleep(time.Minute + soon)
		}
	})
}

func expiredRetainedListed(e *env) {
	e.bubble(Options{}, func(t *testing.T, l *log) {
		l.add(keeps(time.Minute, "a", "1"), text("a", "2"))
		time.Sleep(time.Minute + soon)
		for g := range store.EachGroup(l, "") {
			if g.Retained {
				t.Errorf("%+v", g)
			}
		}
		l.add(retain("a", "3"))
		wantTexts(t, l.retained("a"), "3")
		time.Sleep(time.Hour)
		wantTexts(t, l.retained("a"), "3")
	})
}
