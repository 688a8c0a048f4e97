package sse

import (
	"sync"
	"time"
)

// idle calls expired when a wait, from wait to endWait, takes longer than the timeout. The time that
// callbacks take does not count.
type idle struct {
	expired func()

	mu      sync.Mutex // guards what follows
	timeout time.Duration
	timer   *time.Timer
	waiting bool
	since   time.Time
}

// newIdle returns an idle that never expires if the timeout is 0.
func newIdle(timeout time.Duration, expired func()) *idle {
	i := &idle{expired: expired, timeout: timeout}
	i.timer = time.AfterFunc(time.Hour, i.fire)
	i.timer.Stop()
	return i
}

func (i *idle) wait() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiting, i.since = true, time.Now()
	i.arm()
}

// endWait ends the wait. It leaves the timer running, because stopping it costs more than letting it fire
// without effect.
func (i *idle) endWait() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiting = false
}

// set changes the timeout, also for a wait that has begun.
func (i *idle) set(timeout time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.timeout == timeout {
		return
	}
	i.timeout = timeout
	i.arm()
}

func (i *idle) arm() {
	if i.waiting && i.timeout > 0 {
		i.timer.Reset(i.timeout - time.Since(i.since))
	}
}

func (i *idle) fire() {
	i.mu.Lock()
	late := i.waiting && i.timeout > 0 && time.Since(i.since) >= i.timeout
	i.mu.Unlock()
	if late {
		i.expired()
	}
}

func (i *idle) end() { i.timer.Stop() }
