package delivery_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// parked waits until all of these streams are parked.
func (r *rig) parked(all ...*listener) {
	r.t.Helper()
	late := time.Now().Add(patience)
	for _, l := range all {
		for ; !l.stream.Parked(); runtime.Gosched() {
			if time.Now().After(late) {
				r.t.Fatal("the streams did not park")
			}
		}
	}
}

func TestAPublisherDeliversToAFewStreamsItself(t *testing.T) {
	r := newRig(t, memory.Options{}, true)
	l := r.listen(filters("a"))
	r.parked(l)
	for late := time.Now().Add(time.Minute); ; {
		seq := r.say("a", "now")
		l.mu.Lock()
		at := l.parser.last().seq
		l.mu.Unlock()
		if at == seq {
			return // it was delivered before publish returned
		}
		if time.Now().After(late) {
			t.Fatal("every message was left to the shard, though the shard is idle")
		}
		l.awaitSeq(t, seq) // the shard was not idle yet
	}
}

func TestMessagesForManyStreamsAreLeftToTheShards(t *testing.T) {
	r := newRig(t, memory.Options{}, true)
	var all []*listener
	for range 4 * delivery.Few {
		all = append(all, r.listen(filters("a", "a/#")))
	}
	r.parked(all...)
	end := r.say("a", "to all")
	for _, l := range all {
		l.awaitSeq(t, end)
	}
}

// TestConcurrentPublishersMissNoStream has publishers deliver at the same time, find shards locked, and
// leave the rest to the shards. Each round ends only when every stream has received the round's messages,
// so no later message can make up for a missed wake-up.
func TestConcurrentPublishersMissNoStream(t *testing.T) {
	const rounds, publishers = 500, 8
	r := newRig(t, memory.Options{}, true)
	var streams []*listener
	for i := range publishers {
		streams = append(streams, r.listen(filters(fmt.Sprint(i)), takes(func(n int) int { return n - n/3*(i%2) })))
	}
	streams = append(streams, r.listen(filters("+")))
	for i := range rounds {
		var all sync.WaitGroup
		seqs := make([]store.Seq, publishers+1)
		for p := range publishers {
			all.Go(func() {
				m := store.Message{Group: fmt.Sprint(p), Time: time.Now(), Msg: []byte(`"x"`)}
				entries := []store.Entry{m.Entry(nil)}
				first, err := r.log.Append(context.Background(), entries)
				if err != nil {
					t.Error(err)
				}
				seqs[p] = first.Seq
				r.set.Appended(first.Seq, entries, delivery.Few)
			})
			if p == i%publishers {
				l := r.listen(filters("none", "#"))
				all.Go(l.hangUp)
			}
		}
		all.Wait()
		seqs[publishers] = r.newest()
		for p, l := range streams {
			l.awaitSeq(t, seqs[p])
		}
	}
	for p, l := range streams {
		want := rounds
		if p == publishers {
			want *= publishers
		}
		got := l.blocks()
		for k := 1; k < len(got); k++ {
			if got[k].seq <= got[k-1].seq {
				t.Fatalf("stream %d: got %d after %d", p, got[k].seq, got[k-1].seq)
			}
		}
		if len(got) != want {
			t.Errorf("stream %d got %d messages, want %d", p, len(got), want)
		}
	}
}
