package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"

	"github.com/watchbox-go/watchbox/store"
)

// closeTests test Close. Like all tests, they fail if a goroutine is left after it.
var closeTests = []test{
	{"Close: later calls return ErrClosed", closed},
	{"Close: calls without an error result are safe afterwards", closedQuietly},
	{"Close leaves no goroutine, with max_age and watchers", closedLeaves},
	{"Close ends running calls, 4 writers and 4 readers", closedUnderWay},
}

func closed(e *env) {
	l := e.start(Options{})
	l.add(text("a", "1"), retain("b", "2"))
	if err := l.Close(); err != nil {
		e.Fatal(err)
	}
	if _, err := l.Append(e.Context(), entries(text("a", "3"))); !errors.Is(err, store.ErrClosed) {
		e.Errorf("append: %v", err)
	}
	for _, q := range []store.Query{{Select: filters("a")}, {Select: filters("#")}, {Select: filters("#"), Retained: true}} {
		b := &store.Batch{}
		if err := l.Read(q, b); !errors.Is(err, store.ErrClosed) || len(b.Frames) > 0 {
			e.Errorf("read: %v, %d frames", err, len(b.Frames))
		}
	}
	if err := l.SetPolicy(filters("a")[0], store.Policy{MaxMessages: 1, MaxAge: time.Nanosecond}); !errors.Is(err, store.ErrClosed) {
		e.Errorf("set policy: %v", err)
	}
	if err := l.Purge("a"); !errors.Is(err, store.ErrClosed) {
		e.Errorf("purge: %v", err)
	}
	if err := l.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
		e.Errorf("close again: %v", err)
	}
}

func closedQuietly(e *env) {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 100)
	l.add(retain("b", "x"))
	if err := l.Close(); err != nil {
		e.Fatal(err)
	}
	l.Watch(make(chan struct{}, 1))()
	l.Find(filters("#"), store.Start{})
	l.Find(filters("#"), store.Start{Last: 3})
	l.Find(filters("a"), store.Start{Last: 3})
	l.Find(filters("a"), store.Start{Since: time.Now().Add(-time.Hour)})
	l.Policy(filters("a")[0])
	l.Usage()
	if oldest, newest := l.Bounds(); oldest.Seq > newest.Seq {
		e.Errorf("bounds %v to %v", oldest, newest)
	}
	l.Groups(store.GroupQuery{Limit: 10})
}

func closedLeaves(e *env) {
	before := goleak.IgnoreCurrent()
	l := newLog(e.open(e.T, Options{Server: store.Policy{MaxMessages: 1, MaxAge: time.Hour, Compress: store.Yes}}), e.T)
	l.Watch(make(chan struct{}, 1))
	l.appendNumbers("a", 1, 100)
	l.want("a", "100")
	if err := l.Close(); err != nil {
		e.Fatal(err)
	}
	leak.None(e.T, before)
}

func closedUnderWay(e *env) {
	l := e.start(Options{})
	l.appendTexts("a", "1")
	started := make(chan struct{}, 8)
	var calls sync.WaitGroup
	until := func(call func() error) {
		calls.Go(func() {
			err := call()
			started <- struct{}{}
			for ; err == nil; err = call() {
			}
			if !errors.Is(err, store.ErrClosed) {
				e.Errorf("a call that Close ended: %v", err)
			}
		})
	}
	es := entries(text("a", "x"), text("b", "y"))
	for range 4 {
		until(func() error {
			_, err := l.Append(context.Background(), es)
			return err
		})
		b := &store.Batch{Buf: make([]byte, 0, 10_000)}
		until(func() error { return l.Read(store.Query{Select: filters("#"), After: b.Next}, b) })
	}
	for range 8 {
		<-started
	}
	if err := l.Close(); err != nil {
		e.Error(err)
	}
	calls.Wait()
}
