package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// trimEvery is the interval at which the process checks for memory that it could return to the system.
const trimEvery = time.Second

// leastHeap is the heap, in bytes, below which the amount of garbage and holes is ignored. The runtime's
// default is to collect a small heap each 4 MiB, 40 times a second at 40,000 POSTs a second. That took a
// tenth of the CPU of a POST (docs/PERFORMANCE.md, S5).
const leastHeap = 16 << 20

// leastPercent and mostPercent bound GOGC. mostPercent raises the runtime's minimum heap of 4 MiB to
// leastHeap.
const (
	leastPercent = 100
	mostPercent  = 400
)

// burst is the number of additional bytes that the process may use until the next check of trim. A thousand
// streams that open at once use 30 MiB for a moment. With less, the runtime collects repeatedly to stay within
// its limit, which took half of their CPU (docs/PERFORMANCE.md, S6).
const burst = 32 << 20

// trim returns memory to the system after a burst. Otherwise the runtime would keep it for minutes, twice the
// amount in use. trim also limits the memory that a burst leaves: with a memory limit, the holes in the heap
// count when the runtime decides whether to collect.
func trim(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	limited, tuned := os.Getenv("GOMEMLIMIT") != "", os.Getenv("GOGC") != "" // set by the user
	percent := leastPercent
	var m memory
	for {
		allocated := m.allocated
		m.read()
		if !limited {
			heap := max(leastHeap, 2*m.live)
			debug.SetMemoryLimit(int64(m.other + heap + max(heap/4, burst)))
		}
		if p := m.percent(); !tuned && p != percent {
			debug.SetGCPercent(p)
			percent = p
		}
		quiet := m.allocated-allocated < 4<<20
		if waste := m.free + m.objects - min(m.live, m.objects); quiet && waste > 4<<20 && waste > m.live/4 {
			debug.FreeOSMemory()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// memory is the memory of the process in bytes.
type memory struct {
	allocated uint64 // since the start
	live      uint64 // of the heap, after the last collection
	objects   uint64 // of the heap, including garbage
	free      uint64 // of the heap, not returned to the system
	other     uint64 // outside the heap: stacks and the runtime's own data
}

// percent returns the GOGC with which the heap is collected at the larger of leastHeap and twice the live
// heap.
func (m *memory) percent() int {
	live := int(max(m.live, 1))
	return min(max(100*leastHeap/live-100, leastPercent), mostPercent)
}

func (m *memory) read() {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/total:bytes"},
	}
	metrics.Read(samples)
	n := func(i int) uint64 { return samples[i].Value.Uint64() }
	m.allocated, m.live, m.objects, m.free = n(0), n(1), n(2), n(3)+n(4)
	m.other = n(6) - n(5) - m.free - m.objects
}
