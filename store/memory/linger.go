package memory

import (
	"math"
	"time"
)

// linger is how long, in ms, the bytes of an evicted message are kept for live listeners that have not
// got it yet. Shards are a few milliseconds behind; flow control delays publishers beyond 30.
const linger = 250

// lingering is a ring with evicted messages, and when to check whether they can be removed.
type lingering struct {
	r   *ring
	due int64
}

// tidy does the work that is due, in a bounded number of steps: it evicts by age, frees chunks that have
// expired, and removes evicted messages. It reports whether more is due. The caller then calls schedule.
func (l *Log) tidy(now int64, steps int) (more bool) {
	left := steps
	for r := l.byAge.first(); r != nil && r.due <= now && left > 0; r = l.byAge.first() {
		left = l.enforce(r, now, left)
	}
	left = l.expire(now, left)
	for len(l.lingers) > 0 && l.lingers[0].due <= now && left > 0 {
		left = l.free(l.lingers[0].r, now, left)
	}
	l.advance()
	l.noteHold(steps - left)
	return left <= 0
}

// free removes the messages that r, the first lingering ring, evicted long enough ago.
func (l *Log) free(r *ring, now int64, left int) int {
	if !r.lingers { // it was dropped
		l.lingers = l.lingers[1:]
		return left - 1
	}
	later, left := l.reclaim(r, now-linger, left)
	if left <= 0 {
		return left
	}
	l.lingers = l.lingers[1:]
	if later {
		l.lingers = append(l.lingers, lingering{r, now + linger})
	} else {
		r.lingers = false
		l.noteIdle(r)
	}
	return left - 1
}

// reclaim removes evicted messages of a ring that are older than the given time. It takes at most left
// steps, and returns how many remain, and whether the ring has more evicted messages.
func (l *Log) reclaim(r *ring, older int64, left int) (later bool, _ int) {
	for len(r.chunks) > 0 {
		c := r.chunks[0]
		switch {
		case c.removed == c.evicted:
			return false, left
		case c.time(c.removed) > older || left <= 0:
			return true, left
		}
		l.removeFirst(r, older+linger)
		left--
	}
	return false, left
}

// schedule sets the timer to when tidy is next needed.
func (l *Log) schedule(now int64) {
	due := int64(math.MaxInt64)
	if r := l.byAge.first(); r != nil {
		due = r.due
	}
	l.nextAge.Store(due)
	if c := l.byExpiry.first(); c != nil {
		due = min(due, c.due)
	}
	if len(l.lingers) > 0 {
		due = min(due, l.lingers[0].due)
	}
	if due == math.MaxInt64 || l.closed || l.timerDue > now && l.timerDue <= due {
		return
	}
	l.timerDue = due
	wait := time.Duration(max(due-now, 10)) * time.Millisecond // not one wake-up per message
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.onTimer)
	} else {
		l.timer.Reset(wait)
	}
}

// onTimer does all work that is due. It releases the lock in between.
func (l *Log) onTimer() {
	l.mu.Lock()
	l.timerDue = 0
	l.mu.Unlock()
	for l.tidyOnce(func() bool { return true }) {
	}
}

// tidyOnce tidies for one hold of the lock. It reports whether more is due for which the caller waits.
func (l *Log) tidyOnce(waits func() bool) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	now := time.Now().UnixMilli()
	if more = l.tidy(now, maxHoldSteps) && waits(); !more {
		l.schedule(now)
	}
	return more
}

// age evicts messages that are too old before a read.
func (l *Log) age(now int64) {
	if now < l.nextAge.Load() {
		return
	}
	for l.tidyOnce(func() bool { r := l.byAge.first(); return r != nil && r.due <= now }) {
	}
}
