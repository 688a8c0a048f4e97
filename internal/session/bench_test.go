package session

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/watchbox-go/watchbox/internal/access"
)

// BenchmarkTurn opens a stream of a new session, closes it, and ends the session.
func BenchmarkTurn(b *testing.B) {
	r := NewRegistry(timeout, func([]Event) {})
	filters := parse("home/kitchen/temp")
	s := &stream{}
	b.ReportAllocs()
	for b.Loop() {
		a, err := r.Attach("u", &Opening{Grant: access.Everything, Filters: filters, Stream: s})
		if err != nil {
			b.Fatal(err)
		}
		a.Detach(Closed, Position{})
		if err := r.End("u", Ended); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdleSession reports the memory of a connected session.
func BenchmarkIdleSession(b *testing.B) {
	r := NewRegistry(timeout, func([]Event) {})
	filters := parse("home/kitchen/temp")
	uids := make([]string, b.N)
	for i := range uids {
		uids[i] = fmt.Sprintf("%036d", i)
	}
	list := make([]*Attachment, b.N)
	before := heapSize()
	b.ResetTimer()
	for i := range list {
		list[i], _ = r.Attach(uids[i], &Opening{Grant: access.Everything, Filters: filters, Stream: &stream{}})
	}
	b.StopTimer()
	b.ReportMetric(float64(heapSize()-before)/float64(b.N), "B/session")
	runtime.KeepAlive(list)
}

func heapSize() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
