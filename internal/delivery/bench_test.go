package delivery_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// counting is a connection that counts its writes.
type counting struct {
	writes *atomic.Int64
	wake   chan struct{} // is sent to when the last write has come
}

func (c counting) TryWrite(p []byte) (int, error) {
	if c.writes.Add(-1) == 0 {
		c.wake <- struct{}{}
	}
	return len(p), nil
}
func (c counting) Write(p []byte) (int, error) { return c.TryWrite(p) }
func (c counting) Blocking() bool              { return false }
func (c counting) Watch(func(error))           {}
func (c counting) Serve()                      {}
func (c counting) Close() error                { return nil }

// BenchmarkFanOut delivers messages to many streams, without sockets.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 1000} {
		for name, set := range map[string]func(*delivery.Config){
			"JSON": func(*delivery.Config) {},
			"raw":  func(c *delivery.Config) { c.View.Raw = true },
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { benchmarkFanOut(b, n, set) })
		}
	}
}

func benchmarkFanOut(b *testing.B, n int, change func(*delivery.Config)) {
	log := memory.New(memory.Options{})
	set := delivery.NewSet(log, true, 1<<30)
	var left atomic.Int64
	conn := counting{&left, make(chan struct{}, 1)}
	var ended atomic.Int64
	for range n {
		c := delivery.Config{
			Filters: filters("a"), Heartbeat: time.Hour, Start: delivery.Start{Live: true},
			Done: func(delivery.Reason) { ended.Add(1) },
		}
		change(&c)
		set.New(c).Run(conn)
	}
	m := store.Message{Group: "a", Msg: []byte(`"0123456789012345678901234567890123456789"`)}
	for b.Loop() {
		left.Store(int64(n))
		m.Time = time.Now()
		entries := []store.Entry{m.Entry(nil)}
		id, err := log.Append(context.Background(), entries)
		if err != nil {
			b.Fatal(err)
		}
		set.Appended(id.Seq, entries, delivery.Few)
		<-conn.wake
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/delivery")
	left.Store(-1)
	set.Close("shutdown")
	_ = log.Close()
}
