package delivery

import (
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/latency"
	"github.com/watchbox-go/watchbox/store"
)

// latencies measures the time from the append of a message until it is written to a socket. Reading the clock costs
// more than counting, so busy hubs measure one of 16 writes.
type latencies struct {
	latency.Histogram
	log  store.Dated // nil: the log does not know when messages were appended
	mask atomic.Uint32
}

// busyMask selects the writes that are measured while there are many.
const busyMask = 15

// measure is called after a write of a parcel. count is a counter of the caller's writes.
func (l *latencies) measure(p *parcel, count *uint32) {
	if *count++; *count&l.mask.Load() != 0 {
		return
	}
	l.measureMark(&p.marks[int(*count)%len(p.marks)])
}

// measureMark is called after a message was written.
func (l *latencies) measureMark(m *mark) {
	if l.log == nil || !m.form.logged() {
		return // it is no message of the log
	}
	if age, ok := l.log.Age(m.seq, time.Now()); ok {
		l.Observe(age)
	}
}

// Latency returns how long it took from the append of messages until they were written to sockets. The times of
// messages that are read as history do not count.
func (s *Set) Latency() *latency.Counts { return s.latency.Counts() }

// Busy says whether there are many writes, so that it suffices to measure some.
func (s *Set) Busy(busy bool) {
	mask := uint32(0)
	if busy {
		mask = busyMask
	}
	s.latency.mask.Store(mask)
}
