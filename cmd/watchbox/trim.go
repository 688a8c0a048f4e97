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

// ownMemory is what the process may take beside history, in bytes, before its garbage is collected
// sooner than usual: --max-memory leaves as much.
const ownMemory = 24 << 20

// bound keeps what a burst leaves behind from growing as large again as what is in use: the more
// that is, the more it may be, or nothing but collecting would be done.
func bound(live uint64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(ownMemory, int64(2*live)))
	}
}

// trim gives memory back to the system that a burst of connections has left behind: the runtime
// by itself would keep it for minutes, twice what is in use.
func trim(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	var allocated uint64
	bound(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(samples)
		free, unused, objects, live, allocs := samples[0].Value.Uint64(), samples[1].Value.Uint64(),
			samples[2].Value.Uint64(), samples[3].Value.Uint64(), samples[4].Value.Uint64()
		bound(live)
		quiet := allocs-allocated < 4<<20
		allocated = allocs
		if waste := free + unused + objects - min(live, objects); quiet && waste > 4<<20 && waste > live/4 {
			debug.FreeOSMemory()
		}
	}
}
