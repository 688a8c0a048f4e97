package hub

import (
	"container/heap"
	"slices"
)

// top keeps the first rows of a sorted list, up to a limit, without sorting the others.
type top[T any] struct {
	limit int // above 0
	less  func(a, b *T) int
	rows  []T // a heap with the last row in front
	more  bool
}

// add adds a copy of a row, unless it is behind limit others.
func (t *top[T]) add(row *T) {
	if len(t.rows) < t.limit {
		heap.Push((*topHeap[T])(t), *row)
		return
	}
	t.more = true
	if t.less(row, &t.rows[0]) < 0 {
		t.rows[0] = *row
		heap.Fix((*topHeap[T])(t), 0)
	}
}

// sorted returns the rows in their order, and whether there were more. It ends the use of t.
func (t *top[T]) sorted() (rows []T, more bool) {
	slices.SortFunc(t.rows, func(a, b T) int { return t.less(&a, &b) })
	return t.rows, t.more
}

// topHeap implements heap.Interface.
type topHeap[T any] top[T]

func (h *topHeap[T]) Len() int           { return len(h.rows) }
func (h *topHeap[T]) Less(i, k int) bool { return h.less(&h.rows[i], &h.rows[k]) > 0 }
func (h *topHeap[T]) Swap(i, k int)      { h.rows[i], h.rows[k] = h.rows[k], h.rows[i] }
func (h *topHeap[T]) Push(x any)         { h.rows = append(h.rows, x.(T)) }

// Pop is not used: a row that is no longer among the first is replaced.
func (h *topHeap[T]) Pop() any { panic("hub: top") }
