// Package latency counts durations in histograms whose updates cost a few nanoseconds.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Each power of two nanoseconds has 8 buckets, so that a bucket is at most 12.5 % wide.
const (
	subBits = 3
	subs    = 1 << subBits
	least   = 10 // durations below 2^10 ns, about 1 µs, count in the first bucket
	most    = 36 // those of 2^36 ns, 69 s, and more in the last one
	buckets = (most-least)*subs + 1
)

// Histogram counts durations. Its methods may be called concurrently. The zero value is empty.
type Histogram struct{ counts [buckets]atomic.Uint64 }

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) { h.counts[bucket(d)].Add(1) }

func bucket(d time.Duration) int {
	if d < 1<<least {
		return 0
	}
	n := bits.Len64(uint64(d)) - 1 // the power of two
	return min((n-least)<<subBits+int(d>>(n-subBits))&(subs-1), buckets-1)
}

// above returns the end of a bucket.
func above(bucket int) time.Duration {
	n := least + bucket>>subBits
	return 1<<n + time.Duration(bucket&(subs-1)+1)<<(n-subBits)
}

// Counts returns the counts so far.
func (h *Histogram) Counts() *Counts {
	c := &Counts{}
	for i := range h.counts {
		c.counts[i] = h.counts[i].Load()
		c.total += c.counts[i]
	}
	return c
}

// Counts are the counts of a histogram at some time. The zero value is that of an empty one.
type Counts struct {
	counts [buckets]uint64
	total  uint64
}

// Since returns what was counted since earlier counts of the same histogram.
func (c *Counts) Since(earlier *Counts) *Counts {
	d := &Counts{total: c.total - earlier.total}
	for i := range c.counts {
		d.counts[i] = c.counts[i] - earlier.counts[i]
	}
	return d
}

// Total returns how many durations were counted.
func (c *Counts) Total() uint64 { return c.total }

// Sum returns the sum of all durations, within the width of the buckets.
func (c *Counts) Sum() (sum time.Duration) {
	begin := time.Duration(0)
	for i, n := range c.counts {
		end := above(i)
		sum += time.Duration(n) * (begin + end) / 2
		begin = end
	}
	return sum
}

// Quantile returns a duration that the part q of all durations does not exceed, within the width of the buckets; 0
// if there are none.
func (c *Counts) Quantile(q float64) time.Duration {
	if c.total == 0 {
		return 0
	}
	left := q * float64(c.total)
	for i, n := range c.counts {
		if left -= float64(n); n > 0 && left <= 0 {
			return above(i)
		}
	}
	return above(buckets - 1)
}

// Below returns how many durations were less than 2^n ns, for n from 10 to 36.
func (c *Counts) Below(n int) (count uint64) {
	for i := range (n - least) * subs {
		count += c.counts[i]
	}
	return count
}
