package delivery

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

var errSlow = errors.New("delivery: the stream is slow, and its policy or a lack of room ends it")

// turnBytes is how much a turn reads of the log at once.
const turnBytes = 64 << 10

// turn is the memory that a stream needs for one step. There are only a few turns, so that thousands of
// streams can catch up at once with the memory of a few.
type turn struct {
	batch  store.Batch
	parcel parcel
	next   store.Seq // the position after all of the parcel is sent
	sel    group.Set // the filters of the stream that has the turn
	writes uint32    // how many were measured or left out; see latencies
}

// has reports whether the batch contains, or lacks, messages that a filter matches.
func (t *turn) has(f group.Filter) bool {
	return slices.ContainsFunc(t.batch.Frames, func(m store.Frame) bool { return f.Match(m.Group) }) ||
		t.lacks(f.String())
}

// lacks reports whether the batch lacks messages that a filter matches.
func (t *turn) lacks(filter string) bool {
	return slices.ContainsFunc(t.batch.Gaps, func(g store.Gap) bool { return g.Filter == filter })
}

// turns hands out turns in the order of the requests, and measures how long streams wait for one.
type turns struct {
	gate    *gate
	free    chan *turn
	waiting atomic.Int64
	waited  atomic.Int64 // how long the last stream to get a turn waited for it, ns
}

func newTurns(n int, g *gate) *turns {
	t := &turns{gate: g, free: make(chan *turn, n)}
	for range n {
		t.free <- &turn{batch: store.Batch{Buf: make([]byte, 0, turnBytes)}}
	}
	return t
}

func (t *turns) take() *turn {
	select {
	case x := <-t.free:
		t.waited.Store(0)
		return x
	default:
	}
	begin := time.Now()
	t.waiting.Add(1)
	x := <-t.free
	t.waiting.Add(-1)
	t.waited.Store(int64(time.Since(begin)))
	return x
}

func (t *turns) give(x *turn) {
	if cap(x.batch.Buf) > turnBytes { // it grew for one large message
		x.batch.Buf = make([]byte, 0, turnBytes)
	}
	x.parcel.trim(4 * turnBytes)
	t.free <- x
	t.gate.open()
}

// behind reports whether streams wait for a turn, and wait longer than holdAfter.
func (t *turns) behind() bool {
	return t.waiting.Load() > 0 && time.Duration(t.waited.Load()) > holdAfter
}
