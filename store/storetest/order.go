package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/watchbox-go/watchbox/store"
)

// orderTests test I2 with many goroutines.
var orderTests = []test{
	{"I2 an Append that returned before another began has the lower ids, 8 writers", realTime},
	{"I2 the entries of one Append are adjacent, all or none, 8 writers and 4 readers", atomicity},
	{"I2 a refused Append adds no entry, among others that are accepted", refusedAtOnce},
}

// writers runs n goroutines that each call append rounds times, and waits for them.
func writers(n, rounds int, append func(writer, round int)) {
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for r := range rounds {
				append(w, r)
			}
		})
	}
	wg.Wait()
}

func realTime(e *env) {
	l := e.start(Options{})
	type call struct {
		began, ended int64
		seq          store.Seq
	}
	const rounds = 100
	var ticks atomic.Int64
	calls := make([]call, 8*rounds)
	writers(8, rounds, func(w, r int) {
		began := ticks.Add(1)
		id, err := l.Append(context.Background(), entries(text(fmt.Sprint("group/", w%3), "x")))
		if err != nil {
			e.Error(err)
		}
		calls[w*rounds+r] = call{began, ticks.Add(1), id.Seq}
	})
	for _, a := range calls {
		for _, b := range calls {
			if a.ended < b.began && a.seq >= b.seq {
				e.Fatalf("%d was returned before the Append of %d began", a.seq, b.seq)
			}
		}
	}
}

// atomicity appends three entries in two groups at a time.
func atomicity(e *env) {
	l := e.start(Options{})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			r := follower{log: l}
			wake := make(chan struct{}, 1)
			defer l.Watch(wake)()
			for {
				select {
				case <-wake:
					r.catchUp(e)
				case <-stop:
					r.catchUp(e)
					if r.seen != 8*50*3 {
						e.Errorf("a reader got %d messages of %d", r.seen, 8*50*3)
					}
					return
				}
			}
		})
	}
	writers(8, 50, func(w, r int) {
		list := make([]*store.Message, 3)
		for i := range list {
			list[i] = text(fmt.Sprint("group/", i%2), fmt.Sprintf("%d %d %d %d", w, r, i, len(list)))
		}
		if _, err := l.Append(context.Background(), entries(list...)); err != nil {
			e.Error(err)
		}
	})
	close(stop)
	readers.Wait()
}

// follower reads a log whose texts are "writer round index count".
type follower struct {
	*log
	batch store.Batch
	pos   store.Seq
	seen  int
}

// catchUp reads to the end, and fails unless that is the end of an Append.
func (f *follower) catchUp(e *env) {
	if cap(f.batch.Buf) == 0 {
		f.batch.Buf = make([]byte, 0, 4<<20)
	}
	if err := f.Read(store.Query{Select: filters("group/#"), After: f.pos}, &f.batch); err != nil {
		e.Error(err)
		return
	}
	f.pos = f.batch.Next
	f.seen += len(f.batch.Frames)
	var w, r, i, n int
	next, of := 0, [2]int{}
	for _, s := range texts(&f.batch) {
		if _, err := fmt.Sscan(s, &w, &r, &i, &n); err != nil {
			e.Errorf("%q: %v", s, err)
		}
		if i != next || i > 0 && of != [2]int{w, r} {
			e.Errorf("entry %d of writer %d, round %d where entry %d of %v was expected", i, w, r, next, of)
		}
		next, of = (i+1)%n, [2]int{w, r}
	}
	if next != 0 {
		e.Errorf("a reader saw %d entries of %d of one append", next, n)
	}
}

func refusedAtOnce(e *env) {
	l := e.start(Options{MaxGroups: 2})
	l.appendTexts("a", "x")
	l.appendTexts("b", "x")
	writers(4, 50, func(w, r int) {
		if w%2 == 0 {
			l.add(text("a", "x"), text("b", "x"))
			return
		}
		_, err := l.Append(context.Background(), entries(text("a", "refused"), text("c", "refused"), text("b", "refused")))
		if !errors.Is(err, store.ErrTooManyGroups) {
			e.Errorf("a third group: %v", err)
		}
	})
	held := l.held("#")
	if len(held) != 202 || l.newest() != l.at(202) {
		e.Errorf("%d of 202 messages are held, the newest is %d", len(held), l.newest())
	}
	for i, s := range held {
		if s != "x" {
			e.Fatalf("message %d is of a refused append", i)
		}
	}
}
