//go:build !windows

package logs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestAppendsSurviveARestartOfTheServer appends all the time while the server is killed and started again.
func TestAppendsSurviveARestartOfTheServer(t *testing.T) {
	s := servers.ForTest(t, 1)
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), Times: jetstream.Times{Beat: 200 * time.Millisecond}}
	a, b := open(t, o), open(t, o)
	var stop atomic.Bool
	var writers sync.WaitGroup
	var mu sync.Mutex
	stored := map[store.Seq]string{}
	for w := range 4 {
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				word := fmt.Sprint("writer ", w, " message ", i)
				list := []store.Entry{text("x", word)}
				if i%5 == 0 {
					list = append(list, text("y", word))
				}
				id, err := a.Append(context.Background(), list)
				mu.Lock()
				if err == nil {
					stored[id.Seq] = word
				}
				mu.Unlock()
			}
		})
	}
	for range 3 {
		mu.Lock()
		before := len(stored)
		mu.Unlock()
		s.Kill()
		must(t, s[0].Restart())
		must(t, s.Ready())
		eventually(t, "messages are taken again", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(stored) > before+20
		})
	}
	stop.Store(true)
	writers.Wait()
	wantOnce(t, stored, a, b, open(t, o))
}

// wantOnce reports messages to x that a log does not have though they were stored, or has more than once.
func wantOnce(t *testing.T, stored map[store.Seq]string, logs ...*jetstream.Log) {
	t.Helper()
	_, last := end(logs[0])
	for _, l := range logs {
		eventually(t, "each log has everything", func() bool { _, n := end(l); return n >= last })
		h := read(t, l, "x", 0)
		seen := h.texts()
		for seq, word := range stored {
			if seen[word] != 1 {
				t.Errorf("%q, %d, was stored and is there %d times", word, seq, seen[word])
			}
		}
		for word, n := range seen {
			if n > 1 {
				t.Errorf("%q is there %d times", word, n)
			}
		}
		if h.gap > 0 {
			t.Errorf("a gap up to %d", h.gap)
		}
	}
}

// TestAppendsGoOnWithoutTheLeader kills the leader of the stream, or pauses it, while two hubs append.
func TestAppendsGoOnWithoutTheLeader(t *testing.T) {
	s := servers.ForTest(t, 3)
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), Replicas: 3, Times: jetstream.Times{Grace: time.Hour}}
	a, b := open(t, o), open(t, o)
	var mu sync.Mutex
	stored := map[store.Seq]string{}
	longest, last := time.Duration(0), time.Now()
	var stop atomic.Bool
	var writers sync.WaitGroup
	for w, l := range []*jetstream.Log{a, b, a, b} {
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				word := fmt.Sprint("writer ", w, " message ", i)
				id, err := l.Append(context.Background(), []store.Entry{text("x", word)})
				mu.Lock()
				if err == nil {
					stored[id.Seq] = word
					longest, last = max(longest, time.Since(last)), time.Now()
				}
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(stored)
	}
	for _, pause := range []bool{false, true, false} {
		leader, err := s.Leader(t.Context(), o.Stream)
		if err != nil {
			t.Fatal(err)
		}
		before := count()
		if pause {
			leader.Pause()
		} else {
			leader.Kill()
		}
		eventually(t, "messages are taken without the leader", func() bool { return count() > before+50 })
		if pause {
			leader.Continue()
		} else {
			must(t, leader.Restart())
		}
		must(t, s.Ready())
		mu.Lock()
		t.Logf("paused %v: no message was taken for at most %v", pause, longest)
		longest = 0
		mu.Unlock()
	}
	stop.Store(true)
	writers.Wait()
	wantOnce(t, stored, a, b, open(t, o))
}
