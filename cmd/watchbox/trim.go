package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// trimEvery is how often the process looks whether it holds memory that it could give back.
const trimEvery = time.Second

// leastHeap is the heap, in bytes, up to which it does not matter how much of it is garbage or holes.
// The runtime by itself collects a small heap each 4 MiB, 40 times a second at 40,000 POSTs a
// second: that was a tenth of the CPU of a POST (docs/PERFORMANCE.md, S5).
const leastHeap = 16 << 20

// leastPercent and mostPercent bound GOGC. The most makes the runtime's 4 MiB leastHeap.
const (
	leastPercent = 100
	mostPercent  = 400
)

// burst is how much more the process may take until trim looks again, in bytes. A thousand streams
// that open at once take 30 MiB for a moment. With less, the runtime collects again and again to
// stay within its limit, which was half of their CPU (docs/PERFORMANCE.md, S6).
const burst = 32 << 20

// trim gives memory back to the system that a burst has left behind: the runtime by itself would
// keep it for minutes, twice what is in use. And it keeps a burst from leaving much: the holes in
// a heap count, too, when the runtime decides whether to collect.
func trim(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	limited, tuned := os.Getenv("GOMEMLIMIT") != "", os.Getenv("GOGC") != "" // by the user
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

// memory is how much the process holds, in bytes.
type memory struct {
	allocated uint64 // since it began
	live      uint64 // of the heap, when it was last collected
	objects   uint64 // of the heap, with what is garbage by now
	free      uint64 // of the heap, and not given back
	other     uint64 // beside the heap: stacks, and what the runtime knows of itself
}

// percent returns the GOGC that has the heap collected at leastHeap, or at twice what is live if that
// is more.
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
