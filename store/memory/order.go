package memory

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

const (
	entrySize = 8
	pageSpan  = 8192 // the most seqs that a page covers
)

// order maps the seq of a message to its place. It has pages of entries by seq, the oldest first. An
// entry is the delta from the page's base (2 bytes), the slot (2), and the chunk's number + 1 (4; 0 if
// the message was removed).
type order struct {
	arena   *arena
	purpose purpose
	pages   []*page
}

type page struct {
	base store.Seq
	mem  piece
	n    int // entries, including removed ones
	live int
}

// place is the chunk and slot of a message.
type place struct{ chunk, slot int }

func (p *page) entry(i int) uint64 { return binary.LittleEndian.Uint64(p.mem.data[i*entrySize:]) }

func (p *page) put(i int, e uint64) { binary.LittleEndian.PutUint64(p.mem.data[i*entrySize:], e) }

func (p *page) seq(e uint64) store.Seq { return p.base + store.Seq(e&0xffff) }

func entryPlace(e uint64) place { return place{int(e>>32) - 1, int(e >> 16 & 0xffff)} }

// reserve makes room for seq, which is the highest so far. alloc may remove entries.
func (o *order) reserve(seq store.Seq, alloc func(n int, purpose purpose) piece) {
	if k := len(o.pages); k > 0 {
		last := o.pages[k-1]
		if seq-last.base < pageSpan {
			if (last.n+1)*entrySize > len(last.mem.data) {
				o.move(last, alloc(min(2*len(last.mem.data), pageSpan*entrySize), o.purpose))
			}
			return
		}
	}
	o.pages = append(o.pages, &page{base: seq, mem: alloc(minPiece, o.purpose)})
	if k := len(o.pages); k > 1 {
		o.shrink(k - 2) // the last page is never shrunk
	}
}

func (o *order) move(p *page, to piece) {
	copy(to.data, p.mem.data[:p.n*entrySize])
	o.arena.release(p.mem)
	p.mem = to
}

// add records the place of seq. reserve made room for it.
func (o *order) add(seq store.Seq, at place) {
	p := o.pages[len(o.pages)-1]
	p.put(p.n, uint64(seq-p.base)|uint64(at.slot)<<16|uint64(at.chunk+1)<<32)
	p.n++
	p.live++
}

// find returns the page and entry of the first seq above after. The page may be len(o.pages), and the
// entry may be after the last of its page.
func (o *order) find(after store.Seq) (int, int) {
	i := sort.Search(len(o.pages), func(i int) bool { return o.pages[i].base > after }) - 1
	if i < 0 {
		return 0, 0
	}
	return i, o.pages[i].above(after)
}

// above returns the first entry with a seq above after. after is at least the base.
func (p *page) above(after store.Seq) int {
	d := int(min(after-p.base, pageSpan)) + 1
	if d <= p.n && p.seq(p.entry(d-1)) == after {
		return d // the page was never compacted before this entry
	}
	return sort.Search(p.n, func(k int) bool { return p.seq(p.entry(k)) > after })
}

// remove removes seq, which must be there.
func (o *order) remove(seq store.Seq) {
	i := sort.Search(len(o.pages), func(i int) bool { return o.pages[i].base > seq }) - 1
	p := o.pages[i]
	k := p.above(seq) - 1
	p.put(k, p.entry(k)&0xffffffff)
	p.live--
	if i < len(o.pages)-1 {
		o.shrink(i)
	}
}

// shrink frees a page that is empty, and compacts one where most entries are removed. It is not called
// for the last page, which grows again.
func (o *order) shrink(i int) {
	switch p := o.pages[i]; {
	case p.live == 0:
		o.arena.release(p.mem)
		o.pages = slices.Delete(o.pages, i, i+1)
	case p.live*2 < p.n && len(p.mem.data) > minPiece:
		o.compact(p)
	}
}

func (o *order) compact(p *page) {
	n := 0
	for i := range p.n {
		if e := p.entry(i); e>>32 != 0 {
			p.put(n, e)
			n++
		}
	}
	p.n = n
	if smaller, ok := o.arena.alloc(n*entrySize, o.purpose, false); ok {
		o.move(p, smaller)
	}
}

// walk is an iteration over the order, valid under the log's lock.
type walk struct {
	o       *order
	page, i int
}

func (o *order) after(seq store.Seq) walk {
	page, i := o.find(seq)
	return walk{o, page, i}
}

// next returns the next message's seq and place.
func (w *walk) next() (store.Seq, place, bool) {
	for ; w.page < len(w.o.pages); w.page, w.i = w.page+1, 0 {
		p := w.o.pages[w.page]
		for w.i < p.n {
			e := p.entry(w.i)
			w.i++
			if e>>32 != 0 {
				return p.seq(e), entryPlace(e), true
			}
		}
	}
	return 0, place{}, false
}

// follows consumes the next message if it has that place and a seq up to end, and reports whether it
// has.
func (w *walk) follows(at place, end store.Seq) bool {
	if w.page >= len(w.o.pages) {
		return false
	}
	p := w.o.pages[w.page]
	if w.i >= p.n {
		return false // the next message is on another page: the run ends early
	}
	e := p.entry(w.i)
	if entryPlace(e) != at || p.seq(e) > end {
		return false
	}
	w.i++
	return true
}

// backward calls yield for each message below a seq, the newest first, until it returns false.
func (o *order) backward(below store.Seq, yield func(store.Seq, place) bool) {
	page := sort.Search(len(o.pages), func(i int) bool { return o.pages[i].base >= below })
	for _, p := range slices.Backward(o.pages[:page]) {
		for i := p.above(below-1) - 1; i >= 0; i-- {
			if e := p.entry(i); e>>32 != 0 && !yield(p.seq(e), entryPlace(e)) {
				return
			}
		}
	}
}

// first returns the first message for which reached is true. It is true for all later ones, too.
func (o *order) first(reached func(place) bool) (store.Seq, bool) {
	from := func(page, i int) bool {
		w := walk{o, page, i}
		_, at, ok := w.next()
		return !ok || reached(at)
	}
	page := max(sort.Search(len(o.pages), func(i int) bool { return from(i, 0) })-1, 0)
	if page == len(o.pages) {
		return 0, false
	}
	w := walk{o, page, sort.Search(o.pages[page].n, func(i int) bool { return from(page, i) })}
	seq, _, ok := w.next()
	return seq, ok
}
