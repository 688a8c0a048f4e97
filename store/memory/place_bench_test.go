package memory_test

import (
	"fmt"
	"testing"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// BenchmarkPlace places batches of messages of 128 bytes in a full log, and appends them for comparison.
func BenchmarkPlace(b *testing.B) {
	const batch = 512
	for _, groups := range []int{1, 1000} {
		for name, behind := range map[string]bool{"append": false, "place": true} {
			b.Run(fmt.Sprintf("%d groups/%s", groups, name), func(b *testing.B) {
				l := memory.New(memory.Options{MaxMemory: 32 << 20, Behind: behind})
				defer l.Close()
				entries, seqs := make([]store.Entry, batch), make([]store.Seq, batch)
				for i := range entries {
					entries[i] = entry(fmt.Sprint("group/", i%groups), 128)
				}
				next := store.Seq(0)
				write := func() {
					if !behind {
						add(b, l, entries...)
						return
					}
					for i := range seqs {
						next += 1 + next%2
						seqs[i] = next
					}
					if err := l.Place(entries, seqs); err != nil {
						b.Fatal(err)
					}
				}
				for range 64 << 20 / batch / 128 {
					write()
				}
				b.ResetTimer()
				for b.Loop() {
					write()
				}
				perMessage(b, batch)
			})
		}
	}
}
