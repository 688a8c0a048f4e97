package store_test

import (
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

func TestStampsKnowTheNewestMessages(t *testing.T) {
	s := new(store.Stamps)
	begin := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	const first, n = 1<<40 + 5, 10_000
	for i := range n {
		s.Note(first+store.Seq(i), begin.Add(time.Duration(i)*time.Second))
	}
	now := begin.Add(n * time.Second)
	known := 0
	for i := range n {
		if age, ok := s.Age(first+store.Seq(i), now); ok {
			known++
			if want := time.Duration(n-i) * time.Second; age != want {
				t.Fatalf("message %d is %v old, want %v", i, age, want)
			}
		} else if known > 0 {
			t.Fatalf("message %d is not known, but an older one is", i)
		}
	}
	if known != 4096 {
		t.Errorf("%d messages are known", known)
	}
	if _, ok := s.Age(first+n, now); ok {
		t.Error("a message of the future is known")
	}
	if age, ok := s.Age(first+n-1, begin); !ok || age != 0 {
		t.Errorf("after the clock was set back, a message is %v old, %v", age, ok)
	}
	if _, ok := new(store.Stamps).Age(0, now); ok {
		t.Error("the message 0 is known")
	}
}

func BenchmarkStamp(b *testing.B) {
	s, now := new(store.Stamps), time.Now()
	for i := 0; b.Loop(); i++ {
		s.Note(store.Seq(i), now)
	}
}
