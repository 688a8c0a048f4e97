package sse

import (
	"math/rand/v2"
	"time"
)

const (
	defaultRetry      = time.Second
	defaultMaxBackoff = 30 * time.Second

	defaultAnswerTimeout = time.Minute

	// steadyAfter is how long a connection has to be open to count as success. A connection that the
	// server accepts and drops must not count, or clients would reconnect at the same rate for ever.
	steadyAfter = 10 * time.Second

	// maxAsked is the longest wait that a server may ask for, and the longest random time that is added
	// to it. Some servers use retry: to say "never", or mistake its unit.
	maxAsked = 24 * time.Hour

	// leastSpread spreads the clients of a server that asks for no wait at all.
	leastSpread = 10 * time.Millisecond
)

// backoff returns the wait before the next attempt, after a number of failures in a row: the time that
// the server asks for plus a random part of a time that doubles with each failure (full jitter). No
// client returns too early, and clients that a restart disconnected together return spread out.
func backoff(asked time.Duration, failures int, most time.Duration) time.Duration {
	asked, most = min(max(asked, 0), maxAsked), min(most, maxAsked)
	spread := max(asked, leastSpread)
	for ; failures > 0 && spread < most; failures-- {
		spread *= 2
	}
	return asked + rand.N(max(min(spread, most), 1))
}
