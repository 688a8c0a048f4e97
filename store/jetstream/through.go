package jetstream

import (
	"context"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// PurgeThrough implements store.Shared.
func (l *Log) PurgeThrough(name string, through store.Seq) error {
	if err := l.tail.waitFor(l.blocked, through); err != nil {
		return store.ErrClosed
	}
	if g := l.group(name); (g.Oldest == 0 || g.Oldest > through) && !g.Retained {
		return nil
	}
	now := time.Now()
	_, err := l.mark(context.Background(), []keyedMark{groupMark(mark{
		Eviction: memory.Eviction{Group: name, Through: through, Time: now, Unknown: true}, Retained: through, Written: now,
	})})
	return err
}
