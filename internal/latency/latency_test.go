package latency_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/latency"
)

// TestQuantilesAreWithinTheWidthOfABucket compares quantiles of random durations with those of their sorted list.
func TestQuantilesAreWithinTheWidthOfABucket(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var h latency.Histogram
	var all []time.Duration
	for range 20_000 {
		d := time.Duration(math.Exp(random.Float64()*math.Log(50e9/2e3)) * 2e3) // 2 µs to 50 s
		all = append(all, d)
		h.Observe(d)
	}
	slices.Sort(all)
	c := h.Counts()
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	for name, v := range map[string][2]time.Duration{
		"p50": {c.Quantile(0.5), all[len(all)/2-1]}, "p99": {c.Quantile(0.99), all[len(all)*99/100-1]},
		"p100": {c.Quantile(1), all[len(all)-1]}, "sum": {c.Sum(), sum},
	} {
		if got, want := v[0], v[1]; float64(got) < float64(want)*0.9 || float64(got) > float64(want)*1.13 {
			t.Errorf("%s is %v, want about %v", name, got, want)
		}
	}
	for n := 10; n <= 36; n++ {
		want, _ := slices.BinarySearch(all, 1<<n)
		if got := c.Below(n); got != uint64(want) {
			t.Errorf("%d are below %v, want %d", got, time.Duration(1<<n), want)
		}
	}
}

func TestExtremesCountInTheOutermostBuckets(t *testing.T) {
	var h latency.Histogram
	for _, d := range []time.Duration{-1, 0, 1, 1023, math.MinInt64} {
		h.Observe(d)
	}
	before := h.Counts()
	if p := before.Quantile(1); p > 2*time.Microsecond {
		t.Errorf("the longest is %v", p)
	}
	h.Observe(math.MaxInt64)
	h.Observe(time.Hour)
	c := h.Counts().Since(before)
	if p := c.Quantile(0.1); c.Total() != 2 || p < time.Minute {
		t.Errorf("%d, the shortest is %v", c.Total(), p)
	}
	if p := new(latency.Counts).Quantile(0.5); p != 0 {
		t.Errorf("without durations p50 is %v", p)
	}
}

func TestConcurrentObservationsAreAllCounted(t *testing.T) {
	var h latency.Histogram
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 1000 {
				h.Observe(time.Duration(k*i) * time.Microsecond)
			}
		})
	}
	wg.Wait()
	if n := h.Counts().Total(); n != 8000 {
		t.Errorf("%d are counted", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h latency.Histogram
	d := 100 * time.Microsecond
	for b.Loop() {
		h.Observe(d)
		d += 7
	}
}

func BenchmarkTimedObserve(b *testing.B) {
	var h latency.Histogram
	for b.Loop() {
		begin := time.Now()
		h.Observe(time.Since(begin))
	}
}
