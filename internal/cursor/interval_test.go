package cursor_test

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// noter keeps notes, and says when it got some.
type noter struct {
	notes   map[string][]byte
	appends []time.Time
	slow    time.Duration // how long an append takes
}

func (l *noter) AppendNoted(_ context.Context, _ []store.Entry, notes ...store.Note) (store.ID, error) {
	time.Sleep(l.slow)
	l.appends = append(l.appends, time.Now())
	for _, n := range notes {
		if l.notes[n.Key] = n.Value; n.Value == nil {
			delete(l.notes, n.Key)
		}
	}
	return store.ID{}, nil
}

func (l *noter) Notes(yield func(store.Note) error) error {
	for _, key := range slices.Sorted(maps.Keys(l.notes)) {
		if err := yield(store.Note{Key: key, Value: l.notes[key]}); err != nil {
			return err
		}
	}
	return nil
}

// TestPositionsAreWrittenOnceASecond changes 20 positions 100 times a second, for 10 seconds. Others expire soon.
func TestPositionsAreWrittenOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &noter{notes: map[string][]byte{}, slow: 100 * time.Millisecond}
		s := cursor.New(cursor.Options{Log: l})
		for n := range 1000 {
			for k := range 20 {
				p := position(fmt.Sprint("k", k), n)
				if n == 0 {
					if _, _, err := s.Claim(t.Context(), p.Key); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Save(p); err != nil {
					t.Fatal(err)
				}
			}
			p := position(fmt.Sprint("short", n), n)
			if _, _, err := s.Claim(t.Context(), p.Key); err != nil {
				t.Fatal(err)
			}
			p.Away, p.Expiry = time.Now(), 50*time.Millisecond
			if err := s.Save(p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		s.Close()
		l.appends = l.appends[:len(l.appends)-1] // that of Close
		for i, at := range l.appends[1:] {
			if pause := at.Sub(l.appends[i]) - l.slow; pause < cursor.DefaultInterval || pause > cursor.DefaultInterval+10*time.Millisecond {
				t.Errorf("write %d begins %v after the end of the one before", i+1, pause)
			}
		}
		if n := len(l.appends); n < 9 || n > 11 {
			t.Errorf("there were %d writes in 10 s", n)
		}
	})
}

// TestWhatWasSavedASecondAgoIsNotRepeated ends at any moment without Close.
func TestWhatWasSavedASecondAgoIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &noter{notes: map[string][]byte{}}
		s := cursor.New(cursor.Options{Log: l})
		defer s.Close()
		if _, _, err := s.Claim(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		const each = 70 * time.Millisecond
		for n := range 100 {
			if err := s.Save(position("k", n)); err != nil {
				t.Fatal(err)
			}
			pass(each)
			next := cursor.New(cursor.Options{Log: l})
			if err := l.Notes(next.Learn); err != nil {
				t.Fatal(err)
			}
			if p, _ := next.Get("k"); n >= 15 && int(p.Done) < n-int(cursor.DefaultInterval/each) || int(p.Done) > n {
				t.Errorf("number %d is left of %d", p.Done, n)
			}
			next.Close()
		}
	})
}

// TestASetThatIsIdleWritesNothing has a position that expires much later.
func TestASetThatIsIdleWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &noter{notes: map[string][]byte{}}
		s := cursor.New(cursor.Options{Log: l})
		if _, _, err := s.Claim(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		p := position("k", 5)
		p.Away, p.Expiry = time.Now(), 100*time.Hour
		for range 10 {
			if err := s.Save(p); err != nil {
				t.Fatal(err)
			}
			pass(2 * time.Second)
		}
		if n := len(l.appends); n > 2 {
			t.Errorf("a position that did not change was written %d times", n)
		}
		time.Sleep(99 * time.Hour)
		if _, ok := s.Get("k"); !ok {
			t.Error("the position has expired early")
		}
		pass(time.Hour)
		if _, ok := s.Get("k"); ok || len(l.notes) > 0 {
			t.Errorf("the position has not expired: %d notes", len(l.notes))
		}
		s.Close()
	})
}

// pass sleeps, and waits until everything due by then has run.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func position(key string, n int) *cursor.Position {
	return &cursor.Position{Key: key, Epoch: "e", Done: store.Seq(n), Read: store.Seq(n), Expiry: cursor.ForEver}
}

// BenchmarkOfflinePosition measures the memory of a position whose reader is away: an MQTT session with two filters and
// three messages that it has not acknowledged. Its key is that of a session.
func BenchmarkOfflinePosition(b *testing.B) {
	s := cursor.New(cursor.Options{MaxPositions: b.N + 1, MaxBytes: 1 << 40})
	left := time.Now()
	before := heap()
	for i := range b.N {
		key := fmt.Sprintf("mqtt/%08x-0000-4000-8000-%012x", i, i)
		if _, _, err := s.Claim(b.Context(), key); err != nil {
			b.Fatal(err)
		}
		p := cursor.Position{
			Key: key, Epoch: "4k7q9x", Done: 123_456_789, Read: 123_456_800, Expiry: 7 * 24 * time.Hour, Away: left,
			Filters: []cursor.Filter{{Filter: fmt.Sprint("devices/", i, "/commands/#"), Options: []byte{1, 0}}, {Filter: "announcements", Options: []byte{1, 0}}},
			Window:  []cursor.Unacked{{Seq: 123_456_790, Tag: 1, State: 1}, {Seq: 123_456_792, Tag: 2, State: 1}, {Seq: 123_456_799, Tag: 3, State: 2}},
		}
		if err := s.Save(&p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(heap()-before)/float64(b.N), "B/position")
	_, counted := s.Usage()
	b.ReportMetric(float64(counted)/float64(b.N), "counted/position")
	s.Close()
}

// BenchmarkSave measures a change of a position with a full window.
func BenchmarkSave(b *testing.B) {
	s := cursor.New(cursor.Options{})
	defer s.Close()
	if _, _, err := s.Claim(b.Context(), "k"); err != nil {
		b.Fatal(err)
	}
	p := position("k", 1)
	for i := range 64 {
		p.Window = append(p.Window, cursor.Unacked{Seq: store.Seq(i + 2), Tag: uint16(i), State: 1})
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Read++
		if err := s.Save(p); err != nil {
			b.Fatal(err)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
