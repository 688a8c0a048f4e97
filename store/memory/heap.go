package memory

import "container/heap"

// ringHeap orders rings, the first to act on in front, each of which knows its place.
type ringHeap struct {
	rings []*ring
	less  func(a, b *ring) bool
	place func(*ring) *int
}

// largest has the ring with the most memory in front; among equals, that with the oldest message,
// so that what was stored together is freed together.
func largest() *ringHeap {
	return &ringHeap{
		less: func(a, b *ring) bool {
			if a.memory != b.memory {
				return a.memory > b.memory
			}
			return a.memory > 0 && a.chunks[0].base < b.chunks[0].base
		},
		place: func(r *ring) *int { return &r.sizeAt },
	}
}

// soonest has the ring in front that loses a message by age next.
func soonest() *ringHeap {
	return &ringHeap{
		less:  func(a, b *ring) bool { return a.due < b.due },
		place: func(r *ring) *int { return &r.ageAt },
	}
}

// first returns the ring in front, or nil.
func (h *ringHeap) first() *ring {
	if len(h.rings) == 0 {
		return nil
	}
	return h.rings[0]
}

func (h *ringHeap) add(r *ring)    { heap.Push(h, r) }
func (h *ringHeap) fix(r *ring)    { heap.Fix(h, *h.place(r)) }
func (h *ringHeap) remove(r *ring) { heap.Remove(h, *h.place(r)) }

// Len implements heap.Interface, as do those below.
func (h *ringHeap) Len() int { return len(h.rings) }

// Less reports which ring is nearer to the front.
func (h *ringHeap) Less(i, j int) bool { return h.less(h.rings[i], h.rings[j]) }

// Push puts a ring last.
func (h *ringHeap) Push(x any) {
	r := x.(*ring)
	*h.place(r) = len(h.rings)
	h.rings = append(h.rings, r)
}

// Swap has two rings change places.
func (h *ringHeap) Swap(i, j int) {
	h.rings[i], h.rings[j] = h.rings[j], h.rings[i]
	*h.place(h.rings[i]), *h.place(h.rings[j]) = i, j
}

// Pop takes the last ring.
func (h *ringHeap) Pop() any {
	last := len(h.rings) - 1
	r := h.rings[last]
	h.rings[last] = nil
	h.rings = h.rings[:last]
	return r
}
