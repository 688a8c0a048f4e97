package hub

import (
	"context"
	"errors"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/watchbox-go/watchbox/store"
)

// What a request may hold in memory without asking for it, and the largest one that counts as
// small. Small requests have lanes of their own, so that large ones never hold them up.
const (
	FreeBytes  = 8 << 10
	SmallBytes = 64 << 10
)

// budgetPatience is how long a request waits for memory that others hold.
const budgetPatience = 10 * time.Second

// ErrOverloaded says that the requests under way left no memory for another one.
var ErrOverloaded = errors.New("the requests under way take as much memory as they may together (--max-request-memory): send it again later")

// budget bounds the bytes that requests hold in memory at once. It has two halves: one for bodies,
// which are held from their first bytes to the answer, and one for what bodies become, which is
// held from encoding to the answer. A request that holds some of the second waits for no other
// request, so the two cannot wait for each other for ever.
type budget struct{ bodies, encodings lanes }

func newBudget(bytes int64) *budget {
	b := &budget{}
	for _, half := range []*lanes{&b.bodies, &b.encodings} {
		half.small.most, half.large.most = bytes/8, bytes/2-bytes/8
	}
	return b
}

// held returns how many bytes requests hold.
func (b *budget) held() (n int64) {
	for _, l := range []*lane{&b.bodies.small, &b.bodies.large, &b.encodings.small, &b.encodings.large} {
		l.mu.Lock()
		n += l.held
		l.mu.Unlock()
	}
	return n
}

// lanes are two lanes for requests of different sizes.
type lanes struct{ small, large lane }

// take waits until n bytes may be held, and holds them. Up to FreeBytes are free.
func (l *lanes) take(ctx context.Context, n int64) error {
	switch {
	case n <= FreeBytes:
		return nil
	case n <= SmallBytes:
		return l.small.take(ctx, n)
	}
	return l.large.take(ctx, n)
}

// give gives back what was taken.
func (l *lanes) give(n int64) {
	switch {
	case n <= FreeBytes:
	case n <= SmallBytes:
		l.small.give(n)
	default:
		l.large.give(n)
	}
}

// lane lets requests hold bytes in the order in which they came.
type lane struct {
	most int64

	mu      sync.Mutex // guards what follows
	held    int64
	waiting []*waiter
}

// waiter is a request that waits for a lane.
type waiter struct {
	n     int64
	holds chan struct{} // closed once it holds n
}

// take returns once n bytes are held. A request that needs more than there is gets the lane alone.
func (l *lane) take(ctx context.Context, n int64) error {
	n = min(n, l.most)
	l.mu.Lock()
	if len(l.waiting) == 0 && l.held+n <= l.most {
		l.held += n
		l.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	late := time.NewTimer(budgetPatience)
	defer late.Stop()
	select {
	case <-w.holds:
		return nil
	case <-ctx.Done():
		return l.leave(w, ctx.Err())
	case <-late.C:
		return l.leave(w, ErrOverloaded)
	}
}

// leave ends a wait with an error, unless it was over just now.
func (l *lane) leave(w *waiter, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.waiting {
		if other == w {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			l.admit() // the next one may need less
			return err
		}
	}
	return nil
}

func (l *lane) give(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held -= min(n, l.most)
	l.admit()
}

// admit lets those hold their bytes that waited for longest.
func (l *lane) admit() {
	for len(l.waiting) > 0 && l.held+l.waiting[0].n <= l.most {
		l.held += l.waiting[0].n
		close(l.waiting[0].holds)
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	}
}

// TakeBody waits until the body of a request may take n bytes of memory. GiveBody must be called
// with the same n.
func (h *Hub) TakeBody(ctx context.Context, n int64) error {
	return h.busy(h.budget.bodies.take(ctx, n))
}

// GiveBody gives back what TakeBody took.
func (h *Hub) GiveBody(n int64) { h.budget.bodies.give(n) }

// takeEncoding waits until a publication may take the memory that it needs while it is encoded, and
// returns how much that is. A batch with too many lines is refused.
func (h *Hub) takeEncoding(ctx context.Context, p *Publication) (int64, error) {
	if p.Kind.batch() && !p.Program && countLines(p.Body) > MaxLines {
		return 0, ErrTooManyLines
	}
	n := p.encodedSize()
	return n, h.busy(h.budget.encodings.take(ctx, n))
}

// busy counts a request that is refused for want of memory.
func (h *Hub) busy(err error) error {
	if errors.Is(err, ErrOverloaded) {
		h.overloaded.Add(1)
	}
	return err
}

// lineBytes is about what a line of a batch takes beside its text, in bytes: an entry, a message for
// the hosting program, and what a frame has beside msg.
const lineBytes = int(unsafe.Sizeof(store.Entry{})+unsafe.Sizeof(Message{})) + 192

// encodedSize returns about how many bytes a publication takes while it is encoded: its value, its
// frame, and a copy for the hosting program. What the program itself publishes is its own business.
func (p *Publication) encodedSize() int64 {
	n := len(p.Body)
	switch {
	case p.Program:
		return 0
	case p.Kind.batch():
		n += countLines(p.Body) * (lineBytes + 2*len(p.Event) + len(p.Group))
	case n <= FreeBytes/8:
		return 0
	case p.Kind == Bytes && utf8.Valid(p.Body):
		n = quotedLen(p.Body)
	case p.Kind == Bytes:
		n += n / 3
	}
	return int64(2*n + len(p.Body))
}

// quotedLen returns about how long a text is as a JSON string.
func quotedLen(text []byte) int {
	n := len(text)
	for _, c := range text {
		if c < 0x20 {
			n += len(`\u0000`) - 1
		} else if c == '"' || c == '\\' {
			n++
		}
	}
	return n
}
