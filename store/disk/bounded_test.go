package disk_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// TestAReadExaminesABoundedNumberOfMessages even if its filter matches few of them. Repeated reads still return
// every message that matches.
func TestAReadExaminesABoundedNumberOfMessages(t *testing.T) {
	t.Parallel()
	const messages, most = 30_000, 4096
	for name, recent := range map[string]int{"on disk": 1, "in memory": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			l, err := disk.Open(disk.Options{Dir: "store", MaxMemory: 8 << 20, Fsync: disk.Never}.On(vfs.NewMem()).Recalling(recent))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}()
			want := map[string]int{"many": messages - messages/10, "none/#": 0, "f/#": messages / 10}
			for from := 0; from < messages; from += 1000 {
				var entries []store.Entry
				for i := range 1000 {
					m := store.Message{Group: "many", Time: time.Now(), Msg: []byte("1")}
					if i%10 == 0 {
						m.Group = "f"
					}
					entries = append(entries, m.Entry(nil))
				}
				if _, err := l.Append(t.Context(), entries); err != nil {
					t.Fatal(err)
				}
			}
			_, newest := l.Bounds()
			for filters, want := range want {
				got := 0
				b := &store.Batch{Buf: make([]byte, 0, 64<<20)}
				for q := (store.Query{Select: filtersOf(filters)}); q.After < newest.Seq; q.After = b.Next {
					if err := l.Read(q, b); err != nil {
						t.Fatal(err)
					}
					if looked := b.Next - q.After; looked > most || looked < 1 {
						t.Fatalf("%s: a read after %d examined %d messages", filters, q.After, looked)
					}
					got += len(b.Frames)
				}
				if got != want {
					t.Errorf("%s: read %d messages, want %d", filters, got, want)
				}
			}
		})
	}
}
