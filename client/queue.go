package client

import (
	"context"
	"sync"
)

// most is how much may wait in a queue, in bytes, before whoever adds to it has to wait.
const most = 1 << 20

// overhead is what an item counts beside its payload.
const overhead = 256

// queue is items that one goroutine adds and another takes.
type queue[T any] struct {
	mu               sync.Mutex // guards what follows
	moved            sync.Cond
	items            []T
	bytes            int
	relaxed          int // how many want it to have no bound for now
	finished, closed bool
}

func newQueue[T any]() *queue[T] {
	q := &queue[T]{}
	q.moved.L = &q.mu
	return q
}

// push adds an item of so many bytes, when there is room. Once the queue is finished it does nothing.
func (q *queue[T]) push(item T, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes >= most && q.relaxed == 0 && !q.finished {
		q.moved.Wait()
	}
	if !q.finished {
		q.items, q.bytes = append(q.items, item), q.bytes+bytes+overhead
		q.moved.Broadcast()
	}
}

// relax lifts the bound by 1, and sets it again by -1.
func (q *queue[T]) relax(by int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.relaxed += by
	q.moved.Broadcast()
}

// take waits for items and returns all there are: none when the queue is closed, or the context
// is done.
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

// put adds an item that takes no room, and does not wait.
func (q *queue[T]) put(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.items = append(q.items, item)
		q.moved.Broadcast()
	}
}

// finish drops what waits, and what is pushed from now on. What is put is taken still.
func (q *queue[T]) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, q.finished = nil, true
	q.moved.Broadcast()
}

// close ends the queue: take returns what there is, and then nothing.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.moved.Broadcast()
}

// dropped reports whether the queue was finished, so that what was taken before is not wanted any
// more.
func (q *queue[T]) dropped() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.finished
}
