package jetstream

import (
	"context"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// leaderLate is how long the leader of the stream may not have a message yet that another server has delivered. Both have agreed
// on it, but a server that is busy stores it later.
const leaderLate = 2 * time.Second

// Reach implements store.Shared. A position that is taken for one behind the end costs a client all that it has, so a
// single answer of the leader, or none, does not say that.
func (l *Log) Reach(ctx context.Context, id store.ID) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.blocked, cancel)()
	switch {
	case l.blocked.Err() != nil:
		return false, store.ErrClosed
	case l.tail.ended(id.Epoch):
		return false, nil
	}
	wait := answerAge // the first answer may be older than the message
	for late := time.Now().Add(leaderLate); !l.tail.has(id); wait = leaderLate / 4 {
		exists, asked, err := l.leaderHas(ctx, id)
		if exists && l.tail.waitForID(ctx, id) == nil {
			return true, nil
		}
		switch {
		case l.blocked.Err() != nil:
			return false, store.ErrClosed
		case l.tail.ended(id.Epoch):
			return false, nil
		case ctx.Err() != nil:
			return false, store.ErrAway
		case err != nil: // the leader that answers next may be another one, or have been stopped
			late = time.Now().Add(leaderLate)
		case !exists && asked.After(late):
			return false, nil
		}
		pause(ctx, wait)
	}
	return true, nil
}

// CatchUp implements store.Shared.
func (l *Log) CatchUp(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.blocked, cancel)()
	for ctx.Err() == nil {
		i := l.askEnd.askNext(ctx, l, l.leaderEnd)
		if i.err == nil && l.tail.waitForID(ctx, i.answer) == nil {
			l.readAt.Store(&i.asked)
			return nil
		}
		pause(ctx, repeatRefused)
	}
	if l.blocked.Err() != nil {
		return store.ErrClosed
	}
	return store.ErrAway
}

// currentFor is for how many beats a hub is current that has caught up: much shorter than the servers remember ids.
const currentFor = 20

// isCurrent reports whether this hub has caught up lately, also by the clock on the wall: others go on while the machine is suspended.
func (l *Log) isCurrent() bool {
	at := l.readAt.Load()
	if at == nil {
		return false
	}
	byWall := time.Since(at.Round(0))
	return byWall >= 0 && max(byWall, time.Since(*at)) < currentFor*l.opts.Times.Beat
}

// leaderEnd returns where the stream ends, as its leader says. An answer is not believed that lacks what this hub had received before it
// asked: the leader is late, or the stream was replaced and the hub does not know it yet.
func (l *Log) leaderEnd(ctx context.Context) (store.ID, error) {
	at := l.tail.received()
	info, err := l.infoReached(ctx, at.Seq)
	if err != nil {
		return store.ID{}, err
	}
	return store.ID{Epoch: at.Epoch, Seq: store.Seq(info.State.LastSeq)}, nil
}

// leaderHas reports whether the stream has an id, as its leader says that was asked at a time. If the stream has an epoch that this hub
// does not know yet, it has the ids of that.
func (l *Log) leaderHas(ctx context.Context, id store.ID) (has bool, asked time.Time, err error) {
	if id.Epoch != "" && id.Epoch != l.epoch() {
		i := l.askEpoch.ask(ctx, l, func(ctx context.Context) (string, error) {
			epoch, _, err := l.storedEpoch(ctx)
			return epoch, err
		})
		return i.err == nil && i.answer == id.Epoch, i.asked, i.err
	}
	i := l.askEnd.ask(ctx, l, l.leaderEnd)
	return i.err == nil && i.answer.Seq >= id.Seq, i.asked, i.err
}

// question is one that many ask the leader at once: when a hub dies, all its clients come to the others, with positions that those may
// not have. They share the answers.
type question[T any] struct {
	mu      sync.Mutex
	last    *inquiry[T]
	waiting *inquiry[T] // is sent when last is answered; nil: nobody needs it
}

// answerAge is how old an answer may be that ask shares.
const answerAge = 100 * time.Millisecond

// inquiry is a request to the leader.
type inquiry[T any] struct {
	asked  time.Time
	done   chan struct{} // closed when it is answered
	answer T
	err    error
}

// ask returns the answer to the last request, which is sent if there is none or it is too old.
func (q *question[T]) ask(ctx context.Context, l *Log, request func(context.Context) (T, error)) inquiry[T] {
	return q.current(l, request).wait(ctx)
}

// askNext returns the answer to a request that is sent after the call began. All who call while a request is on its way share the
// next one, so that there is never more than one at a time.
func (q *question[T]) askNext(ctx context.Context, l *Log, request func(context.Context) (T, error)) inquiry[T] {
	return q.next(l, request).wait(ctx)
}

func (i *inquiry[T]) wait(ctx context.Context) inquiry[T] {
	select {
	case <-i.done:
		return *i
	case <-ctx.Done():
		return inquiry[T]{err: ctx.Err()}
	}
}

// answered reports whether the inquiry is not on its way any more.
func (i *inquiry[T]) answered() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// current returns the inquiry that is on its way or was answered just now.
func (q *question[T]) current(l *Log, request func(context.Context) (T, error)) *inquiry[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := q.last; i != nil && (!i.answered() || time.Since(i.asked) < answerAge) {
		return i
	}
	return q.begin(l, request)
}

// next returns the inquiry that is sent next: at once, unless one is on its way.
func (q *question[T]) next(l *Log, request func(context.Context) (T, error)) *inquiry[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.waiting != nil:
		return q.waiting
	case q.last != nil && !q.last.answered():
		q.waiting = &inquiry[T]{done: make(chan struct{})}
		return q.waiting
	}
	return q.begin(l, request)
}

// begin sends the inquiry that waits, or a new one. q.mu is held. The request has its own goroutine: while the client of NATS waits for a
// server to accept a connection, its methods do not return when their context ends.
func (q *question[T]) begin(l *Log, request func(context.Context) (T, error)) *inquiry[T] {
	i := q.waiting
	if i == nil {
		i = &inquiry[T]{done: make(chan struct{})}
	}
	i.asked = time.Now()
	q.last, q.waiting = i, nil
	l.running.Go(func() {
		ctx, cancel := context.WithTimeout(l.blocked, answerTimeout)
		defer cancel()
		i.answer, i.err = request(ctx)
		q.mu.Lock()
		defer q.mu.Unlock()
		close(i.done)
		if q.waiting != nil {
			q.begin(l, request)
		}
	})
	return i
}
