package memory

import "github.com/watchbox-go/watchbox/store"

// mergeHeap orders the cursors of a merge, the one with the lowest key in front. It has keys and
// indices and not the cursors themselves, which are larger and would take longer to move.
type mergeHeap []mergeItem

type mergeItem struct {
	key    store.Seq
	cursor int
}

// sort makes a heap of items in any order.
func (h mergeHeap) sort() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}

// raise sets the key of the item in front, which is higher than before.
func (h mergeHeap) raise(key store.Seq) {
	h[0].key = key
	h.sink(0)
}

// sink moves an item down to its place.
func (h mergeHeap) sink(i int) {
	for item := h[i]; ; {
		child := 2*i + 1
		if child+1 < len(h) && h[child+1].key < h[child].key {
			child++
		}
		if child >= len(h) || item.key <= h[child].key {
			h[i] = item
			return
		}
		h[i] = h[child]
		i = child
	}
}

// second returns the key of the item after the one in front.
func (h mergeHeap) second() store.Seq {
	key := noSeq
	for _, item := range h[1:min(3, len(h))] {
		key = min(key, item.key)
	}
	return key
}
