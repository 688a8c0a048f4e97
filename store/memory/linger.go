package memory

import (
	"math"
	"time"
)

// linger is how long, in ms, an evicted message's bytes are kept for listeners that are just
// about to get it. Shards are a few milliseconds behind; publishers are held back beyond 30.
const linger = 250

// lingering is a ring that has evicted bytes, and when to look whether they can go.
type lingering struct {
	r   *ring
	due int64
}

// tidy does what is due, in at most so many steps: it evicts by age, drops what has expired, and
// frees what has lingered. It reports whether more is due. Whoever calls it schedules what comes
// next.
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

// free frees what the first of the lingering rings has evicted long enough ago.
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

// reclaim frees what was evicted and is older than the time given, in at most so many steps, of
// which it returns how many are left. It reports whether some is left for later.
func (l *Log) reclaim(r *ring, older int64, left int) (later bool, _ int) {
	for len(r.chunks) > 0 {
		c := r.chunks[0]
		switch {
		case c.head == c.gone:
			return false, left
		case c.time(c.head) > older || left <= 0:
			return true, left
		}
		l.removeFirst(r, older+linger)
		left--
	}
	return false, left
}

// schedule sets the timer for what tidy has to do next.
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
	wait := time.Duration(max(due-now, 10)) * time.Millisecond // not a wake-up a message
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.onTimer)
	} else {
		l.timer.Reset(wait)
	}
}

// onTimer does all that is due, and lets go of the lock in between.
func (l *Log) onTimer() {
	l.mu.Lock()
	l.timerDue = 0
	l.mu.Unlock()
	for l.tidyOnce(func() bool { return true }) {
	}
}

// tidyOnce tidies for one hold of the lock. It reports whether more is due that is waited for.
func (l *Log) tidyOnce(waits func() bool) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	now := time.Now().UnixMilli()
	if more = l.tidy(now, holdMost) && waits(); !more {
		l.schedule(now)
	}
	return more
}

// age evicts what has become too old before it is read.
func (l *Log) age(now int64) {
	if now < l.nextAge.Load() {
		return
	}
	for l.tidyOnce(func() bool { r := l.byAge.first(); return r != nil && r.due <= now }) {
	}
}
