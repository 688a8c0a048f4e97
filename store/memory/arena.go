package memory

import "math/bits"

const (
	blockSize  = 64 << 10
	slabBlocks = 16  // mapped at once
	minPiece   = 256 // the smallest piece; a block has at most 256 of them
	pageSize   = 4096
	spare      = 4 << 20 // how many bytes of free blocks stay resident for reuse

	// Bytes on the Go heap for each, including the tables that refer to it.
	pieceCost = 160 // a chunk or page
	blockCost = 96
)

// arena allocates memory outside the Go heap. It counts how much of it is resident, including the heap
// memory that goes with it. A block of 64 KiB is divided into pieces of one size; larger pieces are
// mapped by themselves.
type arena struct {
	limit   int64
	used    [2]int64 // by purpose: whole blocks, larger pieces, and costs
	slabs   [][]byte
	warm    [][]byte             // free blocks whose pages are resident
	cold    [][]byte             // free blocks without resident pages
	partial [2]map[int]*[]*block // by purpose and piece size: blocks with room
}

// purpose separates memory that can be evicted from memory that cannot, so that eviction frees whole
// blocks.
type purpose uint8

const (
	history purpose = iota
	pinned
)

// piece is memory from the arena.
type piece struct {
	data    []byte
	from    *block // nil for a whole block or more
	purpose purpose
	no      uint8 // its index in the block
}

type block struct {
	mem  []byte
	size int // of its pieces
	at   int // its index in the list of blocks with room
	out  int // pieces in use
	next int // the first piece that was never used
	free []uint8
}

// pieces returns how many pieces a block has.
func (b *block) pieces() int { return blockSize / b.size }

// take allocates a piece of a block with room.
func (b *block) take() (no uint8) {
	b.out++
	if no, ok := pop(&b.free); ok {
		return no
	}
	b.next++
	return uint8(b.next - 1)
}

func newArena(limit int64) *arena {
	return &arena{limit: limit, partial: [2]map[int]*[]*block{{}, {}}}
}

// roundUp returns the size of the piece that holds n bytes.
func roundUp(n int) int {
	if n > blockSize {
		return (n + pageSize - 1) &^ (pageSize - 1)
	}
	return pieceSize(blockSize / max(n, minPiece))
}

// pieceSize returns the size of the pieces of a block that is divided into k or slightly fewer. There
// are four sizes per doubling, so that pieces of one size are frequent enough to share blocks.
func pieceSize(k int) int {
	if drop := bits.Len(uint(k)) - 3; drop > 0 {
		k = k >> drop << drop
	}
	return blockSize / k
}

// taken returns how many bytes are resident.
func (a *arena) taken() int64 {
	return a.used[history] + a.used[pinned] + int64(len(a.warm))*blockSize
}

// room reports whether n more bytes are within the limit. It gives up spare blocks for them.
func (a *arena) room(n int64) bool {
	for a.taken()+n > a.limit {
		k := len(a.warm) - 1
		if k < 0 || !discardMemory(a.warm[k]) {
			return false
		}
		a.cold = append(a.cold, a.warm[k])
		a.warm = a.warm[:k]
	}
	return true
}

// alloc returns a piece of at least n bytes, or false if that would exceed the limit. With force it
// exceeds the limit.
func (a *arena) alloc(n int, purpose purpose, force bool) (piece, bool) {
	size := roundUp(n)
	if size < blockSize {
		return a.allocSmall(size, purpose, force)
	}
	if size == blockSize {
		if !force && !a.blockFits(pieceCost) {
			return piece{}, false
		}
		a.used[purpose] += blockSize + pieceCost
		return piece{data: a.block(), purpose: purpose}, true
	}
	if !a.room(int64(size)+pieceCost) && !force {
		return piece{}, false
	}
	a.used[purpose] += int64(size) + pieceCost
	return piece{data: mapMemory(size), purpose: purpose}, true
}

func (a *arena) allocSmall(size int, purpose purpose, force bool) (piece, bool) {
	list := a.partial[purpose][size]
	if list == nil {
		list = new([]*block)
		a.partial[purpose][size] = list
	}
	if len(*list) == 0 {
		if !force && !a.blockFits(pieceCost+blockCost+int64(blockSize/size)) {
			return piece{}, false
		}
		a.share(list, size, purpose)
	} else if !a.room(pieceCost) && !force {
		return piece{}, false
	}
	b := (*list)[len(*list)-1]
	no := b.take()
	if b.out == b.pieces() {
		*list = (*list)[:len(*list)-1]
	}
	a.used[purpose] += pieceCost
	i := int(no)
	return piece{b.mem[i*size : (i+1)*size : (i+1)*size], b, purpose, no}, true
}

// share adds a block that is divided into pieces of one size.
func (a *arena) share(list *[]*block, size int, purpose purpose) {
	*list = append(*list, &block{mem: a.block(), size: size, at: len(*list)})
	a.used[purpose] += blockSize + blockCost + int64(blockSize/size)
}

// blockFits reports whether another block, with its cost, is within the limit. Spare blocks are
// counted already.
func (a *arena) blockFits(cost int64) bool {
	if len(a.warm) > 0 && a.taken()+cost <= a.limit {
		return true
	}
	return a.room(blockSize + cost)
}

// release frees a piece.
func (a *arena) release(p piece) {
	a.used[p.purpose] -= pieceCost
	switch {
	case p.from != nil:
		a.releaseSmall(p)
	case len(p.data) == blockSize:
		a.used[p.purpose] -= blockSize
		a.keep(p.data)
	default:
		a.used[p.purpose] -= int64(len(p.data))
		unmapMemory(p.data)
	}
}

func (a *arena) releaseSmall(p piece) {
	b, list := p.from, a.partial[p.purpose][p.from.size]
	if b.out == b.pieces() {
		b.at = len(*list)
		*list = append(*list, b)
	}
	b.free = append(b.free, p.no)
	if b.out--; b.out > 0 {
		return
	}
	last := len(*list) - 1
	(*list)[b.at] = (*list)[last]
	(*list)[b.at].at = b.at
	(*list)[last] = nil
	*list = (*list)[:last]
	a.used[p.purpose] -= blockSize + blockCost + int64(b.pieces())
	a.keep(b.mem)
}

// block returns a free block, or one from a new slab.
func (a *arena) block() []byte {
	if b, ok := pop(&a.warm); ok {
		return b
	}
	if len(a.cold) == 0 {
		slab := mapMemory(slabBlocks * blockSize)
		a.slabs = append(a.slabs, slab)
		for i := slabBlocks - 1; i >= 0; i-- {
			a.cold = append(a.cold, slab[i*blockSize:(i+1)*blockSize:(i+1)*blockSize])
		}
	}
	b, _ := pop(&a.cold)
	return b
}

// keep takes a free block. If there are enough spare blocks, it returns its pages to the system.
func (a *arena) keep(b []byte) {
	if len(a.warm)*blockSize >= spare && discardMemory(b) {
		a.cold = append(a.cold, b)
	} else {
		a.warm = append(a.warm, b)
	}
}

func pop[T any](list *[]T) (v T, ok bool) {
	k := len(*list) - 1
	if k < 0 {
		return v, false
	}
	v = (*list)[k]
	*list = (*list)[:k]
	return v, true
}

// close unmaps all slabs.
func (a *arena) close() {
	for _, s := range a.slabs {
		unmapMemory(s)
	}
	*a = *newArena(a.limit)
}
