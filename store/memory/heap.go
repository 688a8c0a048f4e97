package memory

import "container/heap"

// queue is a heap whose items store their index in it, so that an item can be moved or removed.
type queue[T any] struct {
	items []T
	less  func(a, b T) bool
	place func(T) *int32 // index of the item plus one; 0 if it is not in the queue
}

// largest has the ring with the most memory in front, and among equals the one with the oldest message,
// so that messages that were stored together are freed together.
func largest() *queue[*ring] {
	return &queue[*ring]{
		less: func(a, b *ring) bool {
			if a.memory != b.memory {
				return a.memory > b.memory
			}
			return a.memory > 0 && a.chunks[0].base < b.chunks[0].base
		},
		place: func(r *ring) *int32 { return &r.sizeAt },
	}
}

// soonest has the ring in front that next loses a message by age.
func soonest() *queue[*ring] {
	return &queue[*ring]{
		less:  func(a, b *ring) bool { return a.due < b.due },
		place: func(r *ring) *int32 { return &r.ageAt },
	}
}

// furthest has the ring in front with the newest spilled message.
func furthest() *queue[*ring] {
	return &queue[*ring]{
		less:  func(a, b *ring) bool { return a.spill.horizon > b.spill.horizon },
		place: func(r *ring) *int32 { return &r.spill.at },
	}
}

// expiring has the chunk in front that expires next.
func expiring() *queue[*chunk] {
	return &queue[*chunk]{
		less:  func(a, b *chunk) bool { return a.due < b.due },
		place: func(c *chunk) *int32 { return &c.dueAt },
	}
}

// first returns the item in front, or the zero value.
func (q *queue[T]) first() (item T) {
	if len(q.items) == 0 {
		return item
	}
	return q.items[0]
}

func (q *queue[T]) has(item T) bool { return *q.place(item) > 0 }
func (q *queue[T]) add(item T)      { heap.Push(q, item) }
func (q *queue[T]) fix(item T)      { heap.Fix(q, int(*q.place(item))-1) }

// remove removes an item, if it is there.
func (q *queue[T]) remove(item T) {
	if q.has(item) {
		heap.Remove(q, int(*q.place(item))-1)
	}
}

// Len implements heap.Interface, as do the methods below.
func (q *queue[T]) Len() int { return len(q.items) }

// Less reports which item is nearer to the front.
func (q *queue[T]) Less(i, j int) bool { return q.less(q.items[i], q.items[j]) }

// Push puts an item last.
func (q *queue[T]) Push(x any) {
	item := x.(T)
	q.items = append(q.items, item)
	*q.place(item) = int32(len(q.items))
}

// Swap exchanges two items.
func (q *queue[T]) Swap(i, j int) {
	q.items[i], q.items[j] = q.items[j], q.items[i]
	*q.place(q.items[i]), *q.place(q.items[j]) = int32(i+1), int32(j+1)
}

// Pop takes the last item.
func (q *queue[T]) Pop() any {
	last := len(q.items) - 1
	item := q.items[last]
	var none T
	q.items[last] = none
	q.items = q.items[:last]
	*q.place(item) = 0
	return item
}
