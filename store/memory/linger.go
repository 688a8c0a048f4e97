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

// tidy evicts by age and frees what has lingered, and has the timer do so when next due. Whatever
// evicted something ends with it.
func (l *Log) tidy(now int64) {
	for r := l.byAge.first(); r != nil && r.due <= now; r = l.byAge.first() {
		l.enforce(r, now)
	}
	for len(l.lingers) > 0 && l.lingers[0].due <= now {
		r := l.lingers[0].r
		l.lingers = l.lingers[1:]
		if l.reclaim(r, now-linger) {
			l.lingers = append(l.lingers, lingering{r, now + linger})
		} else {
			r.lingers = false
			l.noteIdle(r)
		}
	}
	l.advance()
	l.schedule(now)
}

// reclaim frees what was evicted and is older than the time given, and reports whether some is
// left for later.
func (l *Log) reclaim(r *ring, older int64) bool {
	for len(r.chunks) > 0 {
		c := r.chunks[0]
		if c.head == c.gone {
			return false
		}
		if c.time(c.head) > older {
			return true
		}
		l.removeFirst(r, older+linger)
	}
	return false
}

// schedule sets the timer for what tidy has to do next.
func (l *Log) schedule(now int64) {
	due := int64(math.MaxInt64)
	if r := l.byAge.first(); r != nil {
		due = r.due
	}
	l.nextAge.Store(due)
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

func (l *Log) onTimer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.timerDue = 0
	l.tidy(time.Now().UnixMilli())
}

// age evicts what has become too old before it is read.
func (l *Log) age(now int64) {
	if now < l.nextAge.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.tidy(now)
	}
}
