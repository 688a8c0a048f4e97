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

// Sizes of requests. Small requests have lanes of their own, so that large ones never hold them up.
const (
	FreeBytes  = 8 << 10  // memory that a request may use without taking it from the budget
	SmallBytes = 64 << 10 // the largest request that counts as small
)

// budgetTimeout is how long a request waits for memory that other requests hold.
const budgetTimeout = 10 * time.Second

// ErrOverloaded reports that the requests in progress left no memory for another one.
var ErrOverloaded = errors.New("the requests in progress have reached their common memory limit (--max-request-memory): retry later")

// budget bounds the bytes that requests hold in memory at once. It has two halves: one for bodies,
// which are held from their first byte to the response, and one for encoded messages, which are held
// from encoding to the response. A request takes from the second half after the first, and once it
// holds memory of the second half it waits for no other request. So requests cannot deadlock.
//
// Long responses have half as much on top: the small lane for their buffers, and the large lane for
// messages that do not fit into those. A response takes from the small lane first.
type budget struct{ bodies, encodings, responses lanes }

func newBudget(bytes int64) *budget {
	b := &budget{}
	for _, half := range []*lanes{&b.bodies, &b.encodings} {
		half.small.limit, half.large.limit = bytes/8, bytes/2-bytes/8
	}
	b.responses.small.limit, b.responses.large.limit = bytes/4, bytes/4
	return b
}

// held returns the number of bytes that requests hold.
func (b *budget) held() (n int64) {
	for _, part := range []*lanes{&b.bodies, &b.encodings, &b.responses} {
		for _, l := range []*lane{&part.small, &part.large} {
			l.mu.Lock()
			n += l.held
			l.mu.Unlock()
		}
	}
	return n
}

// lanes is one half of the budget, divided between small and large requests.
type lanes struct{ small, large lane }

// of returns the lane for n bytes, or nil if they are not counted: up to FreeBytes.
func (l *lanes) of(n int64) *lane {
	switch {
	case n <= FreeBytes:
		return nil
	case n <= SmallBytes:
		return &l.small
	}
	return &l.large
}

// take waits until n bytes are available and takes them. Up to FreeBytes, it takes nothing and does not wait.
func (l *lanes) take(ctx context.Context, n int64) error {
	if lane := l.of(n); lane != nil {
		return lane.take(ctx, n)
	}
	return nil
}

// give returns the n bytes that take took.
func (l *lanes) give(n int64) {
	if lane := l.of(n); lane != nil {
		lane.give(n)
	}
}

// lane is a number of bytes that requests share. It serves them in the order of their arrival.
type lane struct {
	limit int64

	mu      sync.Mutex // guards what follows
	held    int64
	waiting []*waiter
}

// waiter is a request that waits for a lane.
type waiter struct {
	n        int64
	admitted chan struct{} // closed once it holds n
}

// take waits until n bytes are available and takes them. A request that needs more than the limit
// gets the whole lane.
func (l *lane) take(ctx context.Context, n int64) error {
	n = min(n, l.limit)
	l.mu.Lock()
	if l.takeNow(n) {
		l.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	timeout := time.NewTimer(budgetTimeout)
	defer timeout.Stop()
	select {
	case <-w.admitted:
		return nil
	case <-ctx.Done():
		return l.leave(w, ctx.Err())
	case <-timeout.C:
		return l.leave(w, ErrOverloaded)
	}
}

// takeNow takes n bytes if they are available and nobody waits. l.mu is held.
func (l *lane) takeNow(n int64) bool {
	now := len(l.waiting) == 0 && l.held+n <= l.limit
	if now {
		l.held += n
	}
	return now
}

// leave takes w out of the queue and returns err. It returns nil if w was admitted in the meantime.
func (l *lane) leave(w *waiter, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.waiting {
		if other == w {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			l.admit() // the next waiter may need fewer bytes
			return err
		}
	}
	return nil
}

func (l *lane) give(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held -= min(n, l.limit)
	l.admit()
}

// admit gives available bytes to the waiters, the longest waiting first.
func (l *lane) admit() {
	for len(l.waiting) > 0 && l.held+l.waiting[0].n <= l.limit {
		l.held += l.waiting[0].n
		close(l.waiting[0].admitted)
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	}
}

// TakeBody waits until n bytes of memory are available for a request's body and takes them. The
// caller returns them with GiveBody and the same n.
func (h *Hub) TakeBody(ctx context.Context, n int64) error {
	return h.countOverload(h.budget.bodies.take(ctx, n))
}

// TakeBodyNow is TakeBody if that need not wait. Otherwise it takes nothing and returns false.
func (h *Hub) TakeBodyNow(n int64) bool {
	l := h.budget.bodies.of(n)
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeNow(min(n, l.limit))
}

// GiveBody returns the n bytes that TakeBody or TakeBodyNow took.
func (h *Hub) GiveBody(n int64) { h.budget.bodies.give(n) }

// responseBytes is about how much memory a long response takes: a batch, and the bytes that wait to be written.
const responseBytes = 96 << 10

// TakeResponse waits until a long response may take memory for its buffers. The caller must call
// GiveResponse when the response has ended.
func (h *Hub) TakeResponse(ctx context.Context) error {
	return h.countOverload(h.budget.responses.small.take(ctx, responseBytes))
}

// GiveResponse returns the memory that TakeResponse took.
func (h *Hub) GiveResponse() { h.budget.responses.small.give(responseBytes) }

// takeEncoding waits until the memory for encoding a publication is available, takes it and returns
// the number of bytes. It refuses a batch with too many lines.
func (h *Hub) takeEncoding(ctx context.Context, p *Publication) (int64, error) {
	if p.Kind.batch() && !p.Program && countLines(p.Body) > MaxLines {
		return 0, ErrTooManyLines
	}
	n := p.encodedSize()
	return n, h.countOverload(h.budget.encodings.take(ctx, n))
}

// countOverload counts a request that is refused for lack of memory. It returns err.
func (h *Hub) countOverload(err error) error {
	if errors.Is(err, ErrOverloaded) {
		h.overloaded.Add(1)
	}
	return err
}

// lineBytes is the approximate memory that a line of a batch takes besides its text: a store entry, a
// copy of the message for the embedding program, and the members of a frame other than msg.
const lineBytes = int(unsafe.Sizeof(store.Entry{})+unsafe.Sizeof(Message{})) + 192

// encodedSize estimates the bytes that a publication takes while it is encoded: the JSON value, the
// frame, and a copy for the embedding program. The program's own publications are not counted.
func (p *Publication) encodedSize() int64 {
	n := len(p.Body)
	switch {
	case p.Program:
		return 0
	case p.Kind.batch():
		n += countLines(p.Body) * (lineBytes + 2*len(p.Event) + len(p.Group) + metaSize(p.Meta))
	case n <= FreeBytes/8:
		return 0
	case p.Kind == Bytes && utf8.Valid(p.Body):
		n = quotedLen(p.Body)
	case p.Kind == Bytes:
		n += n / 3
	}
	return int64(2*n + len(p.Body))
}

// quotedLen estimates the length of a text as a JSON string.
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
