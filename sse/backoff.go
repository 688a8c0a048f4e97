package sse

import (
	"math/rand/v2"
	"time"
)

const (
	defaultRetry      = time.Second
	defaultMaxBackoff = 30 * time.Second

	defaultAnswerTimeout = time.Minute

	// steadyAfter is how long a connection has to be open to count as success. One that a server
	// accepts and drops does not: its clients would come at the same pace for ever.
	steadyAfter = 10 * time.Second

	// maxAsked is the longest wait that a server may ask for, and the longest that is added to it.
	// Some take retry: for a way to say never, or mistake its unit.
	maxAsked = 24 * time.Hour

	// leastSpread spreads the clients of a server that asks for no wait at all.
	leastSpread = 10 * time.Millisecond
)

// backoff returns how long to wait after so many failures in a row before this one: what the
// server asks for, and then a random part of a time that doubles with each (full jitter). So no
// client comes too early, and those that a restart cut off at once do not come back at once.
func backoff(asked time.Duration, failures int, most time.Duration) time.Duration {
	asked, most = min(max(asked, 0), maxAsked), min(most, maxAsked)
	spread := max(asked, leastSpread)
	for ; failures > 0 && spread < most; failures-- {
		spread *= 2
	}
	return asked + rand.N(max(min(spread, most), 1))
}
