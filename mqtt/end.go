package mqtt

import "sync/atomic"

// end is the end of something that others can wait for. It has a channel only if somebody does.
type end struct{ channel atomic.Pointer[chan struct{}] }

// ended is the channel of an end that was reached before somebody waited.
var ended = func() *chan struct{} {
	c := make(chan struct{})
	close(c)
	return &c
}()

// reached returns a channel that is closed when the end is reached.
func (e *end) reached() <-chan struct{} {
	if c := e.channel.Load(); c != nil {
		return *c
	}
	c := make(chan struct{})
	if e.channel.CompareAndSwap(nil, &c) {
		return c
	}
	return *e.channel.Load()
}

// reach tells that the end is reached. It is called once.
func (e *end) reach() {
	if c := e.channel.Swap(ended); c != nil {
		close(*c)
	}
}
