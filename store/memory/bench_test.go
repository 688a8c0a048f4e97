package memory_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

func perMessage(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/message")
}

// BenchmarkAppend appends messages of 128 bytes to a full log.
func BenchmarkAppend(b *testing.B) {
	for _, groups := range []int{1, 1000} {
		for _, n := range []int{1, 100} {
			b.Run(fmt.Sprintf("%d groups/%d entries", groups, n), func(b *testing.B) {
				l := memory.New(memory.Options{MaxMemory: 32 << 20})
				defer l.Close()
				batches := make([][]store.Entry, groups)
				for i := range batches {
					for range n {
						batches[i] = append(batches[i], entry(fmt.Sprint("group/", i), 128))
					}
				}
				for i := 0; l.Usage().Evicted == 0; i++ {
					add(b, l, batches[i%groups]...)
				}
				b.ResetTimer()
				for i := 0; b.Loop(); i++ {
					if _, err := l.Append(context.Background(), batches[i%groups]); err != nil {
						b.Fatal(err)
					}
				}
				perMessage(b, n)
			})
		}
	}
	b.Run("1 group that keeps one/1 entries", func(b *testing.B) {
		l := memory.New(memory.Options{Server: store.Policy{MaxMessages: 1, MaxAge: time.Hour}})
		defer l.Close()
		e := []store.Entry{entry("group", 128)}
		for b.Loop() {
			if _, err := l.Append(context.Background(), e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// index is a selector that looks names up in maps by level, like a shard's index.
type index map[string]map[string]bool

// Match implements store.Selector.
func (x index) Match(name string) bool {
	first, rest, _ := strings.Cut(name, "/")
	return x["#"] != nil || x[first][rest] || x[first]["+"]
}

// BenchmarkRead reads batches of 64 KiB, of messages of 128 bytes.
func BenchmarkRead(b *testing.B) {
	all, _ := group.ParseFilter("group/#")
	for _, groups := range []int{1, 10, 1000} {
		l := memory.New(memory.Options{})
		defer l.Close()
		for i := range 100_000 {
			add(b, l, entry(fmt.Sprint("group/", i%groups), 128))
		}
		var names group.Set
		for i := range min(groups, 10) {
			names = append(names, group.Exact(fmt.Sprint("group/", i)))
		}
		for _, c := range []struct {
			name string
			sel  store.Selector
		}{
			{"named", names}, {"pattern", group.Set{all}}, {"index", index{"group": {"+": true}}},
		} {
			b.Run(fmt.Sprintf("%d groups/%s", groups, c.name), func(b *testing.B) {
				q := store.Query{Select: c.sel, Live: true}
				batch := &store.Batch{Buf: make([]byte, 0, 64<<10)}
				n := 0
				for b.Loop() {
					if err := l.Read(q, batch); err != nil {
						b.Fatal(err)
					}
					n += len(batch.Frames)
					if q.After = batch.Next; q.After > 99_000 {
						q.After = 0
					}
				}
				b.ReportMetric(float64(n)/float64(b.N), "messages")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
			})
		}
	}
}

// BenchmarkCompress measures appends to and reads of compressed history, and the memory saved. The messages are
// readings of a thermometer, as JSON.
func BenchmarkCompress(b *testing.B) {
	for name, choice := range map[string]store.Choice{"no": store.No, "yes": store.Yes} {
		b.Run(name, func(b *testing.B) {
			const messages = 100_000
			var appending time.Duration
			read, memoryEach := 0, 0.0
			for b.Loop() {
				l := memory.New(memory.Options{Server: store.Policy{Compress: choice}})
				begin := time.Now()
				for i := range messages {
					m := store.Message{Group: "home/temp", Time: begin, Msg: fmt.Appendf(nil,
						`{"sensor":"kitchen-%d","celsius":%.2f,"humidity":%.1f,"battery":%d}`, i%7, 18+float64(i%997)/100, 40+float64(i%89)/10, 100-i%11)}
					add(b, l, m.Entry(nil))
				}
				appending += time.Since(begin)
				memoryEach = float64(l.Usage().Memory) / messages
				batch := &store.Batch{Buf: make([]byte, 0, 64<<10)}
				for q := (store.Query{Select: group.Set{group.Exact("home/temp")}}); q.After < messages; q.After = batch.Next {
					if err := l.Read(q, batch); err != nil {
						b.Fatal(err)
					}
					read += len(batch.Frames)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(memoryEach, "bytes/message")
			b.ReportMetric(float64(appending.Nanoseconds())/float64(read), "ns/append")
			b.ReportMetric(float64((b.Elapsed()-appending).Nanoseconds())/float64(read), "ns/read")
		})
	}
}

// BenchmarkReadNothing reads at the end of the log.
func BenchmarkReadNothing(b *testing.B) {
	l := memory.New(memory.Options{})
	defer l.Close()
	id := add(b, l, entry("group", 128))
	q := store.Query{Select: group.Set{group.Exact("group")}, After: id.Seq}
	for batch := (&store.Batch{}); b.Loop(); {
		if err := l.Read(q, batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	l := memory.New(memory.Options{})
	defer l.Close()
	start := time.Now()
	for i := range 100_000 {
		e := entry(fmt.Sprint("group/", i%1000), 128)
		e.Time = start.Add(time.Duration(i-100_000) * time.Millisecond)
		add(b, l, e)
	}
	one := group.Set{group.Exact("group/7")}
	all, _ := group.ParseFilter("#")
	for _, c := range []struct {
		name string
		set  group.Set
		at   store.Start
	}{
		{"last 10 of a group", one, store.Start{Last: 10}},
		{"last 10 of all", group.Set{all}, store.Start{Last: 10}},
		{"since a minute", one, store.Start{Since: start.Add(-time.Minute)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				l.Find(c.set, c.at)
			}
		})
	}
}

func BenchmarkBounds(b *testing.B) {
	l := memory.New(memory.Options{Server: store.Policy{MaxMessages: 1000}})
	defer l.Close()
	for range 10_000 {
		add(b, l, entry("group", 128))
	}
	for b.Loop() {
		l.Bounds()
	}
}
