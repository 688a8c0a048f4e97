package store

import (
	"sync/atomic"
	"time"
)

// Dated is a Log that knows when its newest messages were appended.
type Dated interface {
	// Age returns how long ago a message was appended, or false if the log does not know it. It takes a few
	// nanoseconds.
	Age(seq Seq, now time.Time) (time.Duration, bool)
}

// Stamps holds the times at which the newest messages of a log were appended. Its methods may be called
// concurrently.
type Stamps struct{ slots [1 << stampBits]atomic.Uint64 }

// A slot holds the low 48 bits of the time in µs, and above them the 16 bits of the seq that follow those of the
// slot's index.
const (
	stampBits = 12 // of the newest 4096 messages
	timeBits  = 48
	timeMask  = 1<<timeBits - 1
)

// Note sets the time of a message. It is called before readers can see the message. A nil *Stamps knows no times.
func (s *Stamps) Note(seq Seq, at time.Time) {
	if s == nil {
		return
	}
	s.slots[seq%(1<<stampBits)].Store(uint64(seq)>>stampBits<<timeBits | uint64(at.UnixMicro())&timeMask)
}

// Age implements Dated.
func (s *Stamps) Age(seq Seq, now time.Time) (time.Duration, bool) {
	if s == nil {
		return 0, false
	}
	v := s.slots[seq%(1<<stampBits)].Load()
	if v == 0 || v>>timeBits != uint64(seq)>>stampBits&(1<<(64-timeBits)-1) {
		return 0, false
	}
	µs := (uint64(now.UnixMicro()) - v) & timeMask
	if µs > timeMask/2 { // the clock was set back
		µs = 0
	}
	return time.Duration(µs) * time.Microsecond, true
}
