package client

import (
	"context"
	"sync"
)

// maxQueued is the number of bytes in a queue from which push blocks.
const maxQueued = 1 << 20

// itemOverhead is added to the size of each item.
const itemOverhead = 256

// queue passes items from one goroutine to another.
type queue[T any] struct {
	mu               sync.Mutex // guards the fields below
	moved            sync.Cond
	items            []T
	bytes            int
	unbounded        int // number of calls that need the queue to be unbounded
	finished, closed bool
}

func newQueue[T any]() *queue[T] {
	q := &queue[T]{}
	q.moved.L = &q.mu
	return q
}

// push waits until the queue is below its bound and adds an item of this size. It does nothing once the queue is
// finished.
func (q *queue[T]) push(item T, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes >= maxQueued && q.unbounded == 0 && !q.finished {
		q.moved.Wait()
	}
	if !q.finished {
		q.items, q.bytes = append(q.items, item), q.bytes+bytes+itemOverhead
		q.moved.Broadcast()
	}
}

// relax(1) lifts the bound, relax(-1) restores it. Calls nest.
func (q *queue[T]) relax(by int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unbounded += by
	q.moved.Broadcast()
}

// take waits for items and returns all of them, or none when the queue is closed or the context is done.
func (q *queue[T]) take(ctx context.Context) []T {
	defer context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.moved.Broadcast()
	})()
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 && !q.closed && ctx.Err() == nil {
		q.moved.Wait()
	}
	items := q.items
	q.items, q.bytes = nil, 0
	q.moved.Broadcast()
	return items
}

// put adds an item without waiting. The item does not count against the bound.
func (q *queue[T]) put(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.items = append(q.items, item)
		q.moved.Broadcast()
	}
}

// finish drops all items, present ones and those pushed later. Items that are put later are still taken.
func (q *queue[T]) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, q.finished = nil, true
	q.moved.Broadcast()
}

// close ends the queue: take returns the remaining items and then none.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.moved.Broadcast()
}

// dropped reports whether the queue is finished. Items taken before must then be dropped, too.
func (q *queue[T]) dropped() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.finished
}
