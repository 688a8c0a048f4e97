package mqtt

import (
	"sync"
	"time"
)

// deadlines closes connections whose CONNECT does not arrive in time. One timer serves all of them.
type deadlines struct {
	after time.Duration

	mu      sync.Mutex // guards what follows
	waiting []deadline // in order
	timer   *time.Timer
}

type deadline struct {
	conn *conn
	at   time.Time
}

// add gives a new connection its deadline.
func (d *deadlines) add(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = append(d.waiting, deadline{c, time.Now().Add(d.after)})
	switch {
	case len(d.waiting) > 1:
	case d.timer == nil:
		d.timer = time.AfterFunc(d.after, d.expire)
	default:
		d.timer.Reset(d.after)
	}
}

// expire closes the connections whose deadline has passed without a CONNECT.
func (d *deadlines) expire() {
	for _, c := range d.passed(time.Now()) {
		if !c.heard.Load() {
			_ = c.Close()
		}
	}
}

// passed takes the connections whose deadline has passed, and sets the timer for the next one.
func (d *deadlines) passed(now time.Time) (list []*conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for n < len(d.waiting) && !now.Before(d.waiting[n].at) {
		list = append(list, d.waiting[n].conn)
		n++
	}
	clear(d.waiting[:n])
	if d.waiting = d.waiting[n:]; len(d.waiting) == 0 {
		d.waiting = nil
	} else {
		d.timer.Reset(time.Until(d.waiting[0].at))
	}
	return list
}

// stop stops the timer.
func (d *deadlines) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}
