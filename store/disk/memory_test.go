package disk_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/tiered"
)

// The disk knows only of the first message that a group keeps in memory. After a kill the later ones are gaps, too.
func TestAKillIsAGapAfterEachMessageThatWasInMemory(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	before, after := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	l, err := tiered.Open(disk.Options{Dir: before})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetPolicy(group.Exact("fast"), store.Policy{Store: store.Memory}); err != nil {
		t.Fatal(err)
	}
	var ids []store.ID
	for i := range 3 {
		m := store.Message{Group: "fast", Time: time.Now(), Msg: fmt.Append(nil, i)}
		id, err := l.Append(context.Background(), []store.Entry{m.Entry(nil)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := os.CopyFS(after, os.DirFS(before)); err != nil { // like the folder after a kill
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = tiered.Open(disk.Options{Dir: after}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, id := range ids[:2] {
		var b store.Batch
		if err := l.Read(store.Query{Select: group.Set{group.Exact("fast")}, After: id.Seq}, &b); err != nil {
			t.Fatal(err)
		}
		if len(b.Gaps) != 1 || b.Gaps[0].Evicted < ids[2].Seq {
			t.Errorf("after %d: the gaps are %v, want one up to %d", id.Seq, b.Gaps, ids[2].Seq)
		}
	}
}
